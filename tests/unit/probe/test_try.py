"""One variable tried: what may be tried at all, and what two sets of rounds say."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from spanwise.errors import InputError
from spanwise.journey.try_setting import Turns, judged, parse_setting
from spanwise.probe.groups import PAIRS, SESSIONS


@pytest.mark.parametrize(
    "text", ["NCCL_SOCKET_NTHREADS=4", "GLOO_SOCKET_IFNAME=eth1", "UCX_TLS=tcp", "FI_EFA_USE_DEVICE_RDMA=1"]
)
def test_network_variables_may_be_tried(text: str) -> None:
    assert "=".join(parse_setting(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "LD_PRELOAD=/tmp/x.so",
        "PYTHONPATH=/tmp",
        "NCCL_NET_PLUGIN=evil",
        "NCCL_TUNER_PLUGIN=x",
        "FI_PROVIDER_PATH=/tmp",
        "NCCL_DEBUG_FILE=/etc/x",
        "PATH=/tmp",
        "NCCL_X",
        "=1",
        "",
        "nccl_debug=1",
        "UCX_MODULE_DIR=/tmp",
        "NCCL_DEBUG=a\nb",
    ],
)
def test_what_loads_code_or_names_a_file_may_not(text: str) -> None:
    with pytest.raises(InputError):
        parse_setting(text)


SIZE = 1024


def turns(
    draw: random.Random,
    factor: float = 1.0,
    *,
    drift: Sequence[float] = (1.0,) * SESSIONS,
    luck: float = 0.03,
    jitter: float = 0.1,
    load: float = 0.0,
) -> Turns:
    """Rounds of one arm: ``factor`` is what is looked for; the rest is what a cluster does of its own.

    ``drift`` is in both arms alike, ``luck`` is a connection's own for a session, ``jitter`` a round's, and ``load`` the share of rounds
    in which other work had the processor.
    """
    found = []
    for session in range(SESSIONS):
        level = factor * drift[session] * draw.lognormvariate(0, luck) * 1e-3
        found.append(
            [
                [
                    level * draw.lognormvariate(0, jitter) * (draw.uniform(3, 30) if draw.random() < load else 1)
                    for _ in range(9)
                ]
                for _ in range(PAIRS)
            ]
        )
    return found


def verdicts(times: int, factor: float, **world: float) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(times):
        draw = random.Random(seed)
        found[judged(SIZE, turns(draw, **world), turns(draw, factor, **world))["verdict"]] += 1
    return found


@pytest.mark.parametrize("load", [0.0, 0.1])
def test_nothing_is_made_up(load: float) -> None:
    """Eight sizes and operations of one run are judged at once: bounds alone would claim a difference in some of these."""
    found = verdicts(60, 1.0, load=load)
    assert found["no difference shown"] >= 58, found


@pytest.mark.parametrize(
    ("factor", "verdict", "load"), [(0.75, "faster", 0.0), (1.33, "slower", 0.0), (1.33, "slower", 0.1)]
)
def test_a_real_difference_is_shown(factor: float, verdict: str, load: float) -> None:
    found = verdicts(20, factor, load=load)
    assert found[verdict] >= 18, found
    assert set(found) <= {verdict, "no difference shown"}


def test_a_drift_hides_nothing_and_makes_nothing_up() -> None:
    """The cluster gets twice as slow while it is measured; both turns of a pair see it."""
    drift = [1 + index / SESSIONS for index in range(SESSIONS)]
    draw = random.Random(3)
    row = judged(SIZE, turns(draw, drift=drift), turns(draw, 0.75, drift=drift))
    assert row["verdict"] == "faster"
    assert row["ratio"] == pytest.approx(0.75, rel=0.1)
    assert judged(SIZE, turns(draw, drift=drift), turns(draw, drift=drift))["verdict"] == "no difference shown"


def test_connections_that_differ_among_themselves_show_nothing() -> None:
    """Each connection has its own luck of a factor two: a tenth between the arms is no finding, however many rounds there are."""
    found = verdicts(40, 0.9, luck=0.7)
    assert found["no difference shown"] >= 38, found


def test_the_bounds_hold_the_truth() -> None:
    held = 0
    for seed in range(60):
        draw = random.Random(seed)
        row = judged(SIZE, turns(draw), turns(draw, 1.2))
        assert row["low"] <= row["ratio"] <= row["high"]
        held += row["low"] <= 1.2 <= row["high"]
    assert held >= 53, held


def test_every_round_is_counted_and_shown_in_microseconds() -> None:
    same: Turns = [[[2e-3, 2e-3], [2e-3, 2e-3]] for _ in range(SESSIONS)]
    twice: Turns = [[[4e-3, 4e-3], [4e-3, 4e-3]] for _ in range(SESSIONS)]
    row = judged(SIZE, same, twice)
    assert row == {
        "bytes": SIZE, "without_us": 2000.0, "with_us": 4000.0, "rounds": 4 * SESSIONS, "ratio": 2.0, "low": 2.0, "high": 2.0,
        "noise": 0.0, "verdict": "slower",
    }  # fmt: skip


def test_two_processes_are_never_quite_alike() -> None:
    """One in a hundred, in every session alike: more than the noise, and no effect of a variable that can be told from a process's own."""
    plain: Turns = [[[1e-3] * 3, [1e-3] * 3] for _ in range(SESSIONS)]
    given: Turns = [[[1.01e-3] * 3, [1.01e-3] * 3] for _ in range(SESSIONS)]
    row = judged(SIZE, plain, given)
    assert row["low"] > 1
    assert row["verdict"] == "no difference shown"


def test_what_two_h100_said_is_judged_rightly() -> None:
    """Recorded: without peer-to-peer NCCL goes through host memory; the number of socket threads is read by nobody over NVLink."""
    recorded = json.loads((Path(__file__).parents[3] / "results/probe/h100-pair-try.json").read_text())
    found = {}
    for tried in recorded["tried"]:
        without, given = tried["turns_s"]["without"], tried["turns_s"]["with"]
        rows = [
            judged(int(size), without[operation][size], given[operation][size])
            for operation in without
            for size in without[operation]
        ]
        found[tried["name"]] = [row["verdict"] for row in rows]
    assert found == {"NCCL_P2P_DISABLE": ["slower"] * 10, "NCCL_SOCKET_NTHREADS": ["no difference shown"] * 10}
