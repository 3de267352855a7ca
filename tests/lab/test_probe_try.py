"""`spanwise probe --try` on two emulated hosts, with an effect that is known: a second cable of a twentieth of the first one's rate."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanwise.lab import links
from spanwise.lab.spec import LabState
from spanwise.lab.wiring import shaping
from tests.commands import CommandLine, Outcome
from tests.lab.bare import bare_lab

pytestmark = pytest.mark.lab

RATE, SLOW = 100e6, 5e6
# The promise is 60 s on a machine of its own; beside other work it takes longer, as everything does.
PATIENCE_S = 150


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CommandLine, LabState]]:
    """Two hosts with a cable each to the bridge, and a slow one from host to host."""
    state_dir = tmp_path_factory.mktemp("state")
    with bare_lab(state_dir, hosts=2, rate_bit_per_s=RATE) as state:
        if state.isolation == "loopback":
            pytest.skip("loopback hosts share the machine's network: there is no second cable")
        second_cable(state)
        yield CommandLine(state_dir), state


def second_cable(lab: LabState) -> None:
    bridge = links._bridge_process(lab)
    links._network(lab, bridge, "ip", "link", "add", "slow1", "type", "veth", "peer", "name", "slow2")
    for number, host in enumerate(lab.hosts, 1):
        links._network(lab, bridge, "ip", "link", "set", f"slow{number}", "netns", str(host.init_pid))
        for command in (
            f"ip link set slow{number} name slow0",
            f"ip address add 10.88.0.{number}/24 dev slow0",
            "ip link set slow0 up",
            f"tc qdisc add dev slow0 root tbf {' '.join(shaping(SLOW))}",
        ):
            links._network(lab, host.init_pid, *command.split())


def running(lab: LabState) -> set[str]:
    """Processes on all hosts: those in their networks, however they came there."""
    networks = {os.readlink(f"/proc/{host.init_pid}/ns/net") for host in lab.hosts}
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "ns" / "net") in networks:
                found.add(entry.name)
    return found


def tried(lab: tuple[CommandLine, LabState], setting: str) -> tuple[Outcome, list[dict]]:
    spanwise, state = lab
    before, started = running(state), time.monotonic()
    outcome = spanwise("probe", "--quick", "--interface", "eth0", "--try", setting, "--json", timeout_s=PATIENCE_S)
    print(f"{setting}: {time.monotonic() - started:.0f} s")
    assert outcome.code == 0, outcome.err
    rows = outcome.document["tried"]
    for row in rows:
        for one in row["sizes"]:
            print(row["operation"], {key: one[key] for key in ("bytes", "ratio", "low", "high", "noise", "verdict")})
    assert [row["operation"] for row in rows] == ["all_reduce", "send_recv"]
    assert {group["operation"] for group in outcome.document["groups"]} == {"all_reduce", "send_recv"}
    assert running(state) <= before, "nothing may stay on the hosts"
    return outcome, rows


def test_a_slower_cable_is_found_slower(lab: tuple[CommandLine, LabState]) -> None:
    _, rows = tried(lab, "GLOO_SOCKET_IFNAME=slow0")
    for row in rows:
        # What the kernel says of the ranks' sockets: the variable took hold, in one group only.
        assert {end for pairs in row["connections"]["with"].values() for pair in pairs for end in pair} >= {
            "10.88.0.1",
            "10.88.0.2",
        }
        assert "10.88" not in str(row["connections"]["without"])
        assert row["before"] == {"host-1": "eth0", "host-2": "eth0"}
        assert "faster" not in {one["verdict"] for one in row["sizes"]}
        (large,) = (one for one in row["sizes"] if one["bytes"] == 1 << 14)
        assert large["verdict"] == "slower"
        # 16 KiB take 1.3 ms on the fast cable and 26 ms on the slow one; buckets and latency take their share.
        assert 2 < large["ratio"] < 30


def test_a_variable_that_gloo_does_not_read_shows_nothing(lab: tuple[CommandLine, LabState]) -> None:
    _, rows = tried(lab, "NCCL_SOCKET_NTHREADS=4")
    assert all(row["sizes"] for row in rows)
    assert {one["verdict"] for row in rows for one in row["sizes"]} == {"no difference shown"}


def test_a_value_with_which_no_group_forms_is_an_answer(lab: tuple[CommandLine, LabState]) -> None:
    _, rows = tried(lab, "GLOO_SOCKET_IFNAME=none0")
    assert all("none0" in row["failed"] and not row["sizes"] for row in rows)


def test_what_loads_code_is_refused_before_a_host_is_asked(lab: tuple[CommandLine, LabState]) -> None:
    spanwise, _ = lab
    outcome = spanwise("probe", "--try", "LD_PRELOAD=/tmp/x.so")
    assert outcome.code == 2
    assert "LD_PRELOAD" in outcome.err
    assert spanwise("probe", "--check-only", "--try", "NCCL_NET=Socket").code == 2


def test_ctrl_c_leaves_nothing_on_the_hosts(lab: tuple[CommandLine, LabState], tmp_path: Path) -> None:
    spanwise, state = lab
    before = running(state)
    process = spanwise.popen("probe", "--quick", "--try", "NCCL_SOCKET_NTHREADS=4", "-o", str(tmp_path / "facts.json"))
    assert process.stderr is not None
    for line in process.stderr:
        if "by turns" in line:
            break
    deadline = time.monotonic() + 30
    while len(running(state) - before) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    assert len(running(state) - before) >= 4, "two groups of two ranks are under way"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert running(state) <= before
    assert not (tmp_path / "facts.json").exists()
