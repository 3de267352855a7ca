"""What one variable does on a live cluster: a group with it and one without, both alive, measured by turns, as ratios with bounds."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError
from spanwise.estimate.replay import percentile
from spanwise.plan.environment import ALLOWED, refusal
from spanwise.plan.network import NEVER
from spanwise.probe.groups import PAIRS, SESSIONS, Manner, measure_by_turns

if TYPE_CHECKING:
    from spanwise.journey.ground import Ground
    from spanwise.probe.groups import Group

_RESAMPLES = 300
# Each side is one process per rank, whose own luck (memory, cores) no session draws again: two alike differed by 0.6 % on two H100.
_LEAST = 0.02


def parse_setting(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, where the name may be set at all.

    Raises:
        InputError: Not of that form, or a name that loads code, names a file, or is not about the network.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(
            f"{text[:60]!r} is not NAME=VALUE", where="--try", remedy="for example --try NCCL_SOCKET_NTHREADS=4"
        )
    if why := refusal(name, value):
        raise InputError(f"{name[:80]} may not be tried: {why}", where="--try", remedy=f"try one of {ALLOWED}")
    return name, value


def try_setting(
    ground: Ground, group: Group, plain: Manner, setting: tuple[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The effect of ``NAME=VALUE`` on every operation of a group: with it and as the hosts are, by turns.

    Args:
        ground: The hosts, and how much is measured.
        group: The group.
        plain: How its ranks speak without the setting.
        setting: Name and value.

    Returns:
        The group's curves without the setting, and one document per operation: per size the ratio (with over without; below 1 is
        faster), its 95 % bounds, the noise and a verdict. Where the group cannot be formed with the setting, ``failed`` says why, and
        there are no curves.

    Raises:
        ProbeError: The group failed without the setting.
    """
    name, value = setting
    # What is tried beats what the probe would choose.
    interface = None if name == "GLOO_SOCKET_IFNAME" else plain.interface
    given = replace(plain, interface=interface, environment=plain.environment | {name: value})
    ground.say(f"group {group.name}: with {name} and without, by turns")
    measured = measure_by_turns(ground.reach, ground.hosts, group, ground.effort, (plain, given))
    shared = {
        "name": name,
        "value": value,
        "before": _before(ground, group, name),
        "group": group.name,
        "hosts": list(group.hosts),
        "sessions": SESSIONS,
        "pairs": PAIRS,
        "failed": measured.failed,
        "connections": {"without": measured.connections[0], "with": measured.connections[1]},
        "warning": f"NVIDIA documents {name} for debugging: do not leave it set" if name in NEVER else "",
    }
    found = []
    for operation in group.operations:
        without, with_it = (times.get(operation, {}) for times in measured.times_s)
        rows = [judged(size, without[size], with_it[size]) for size in sorted(without)]
        skipped = [size for skipped, size in measured.skipped if skipped == operation]
        found.append({**shared, "operation": operation, "sizes": rows, "skipped_bytes": skipped})
    return measured.curves, found


def _before(ground: Ground, group: Group, name: str) -> dict[str, str]:
    """What the hosts have it set to already: what "without" means there."""
    told = {report.host.name: report.part("environment") or {} for report in ground.probed.hosts}
    listed = {host: (told.get(host, {}).get("variables") or {}).get(name) for host in group.hosts}
    return {host: value for host, value in listed.items() if value is not None}


Turns = list[list[list[float]]]


def judged(size: int, without: Turns, with_it: Turns, seed: int = 0) -> dict[str, Any]:
    """What the turns of one size say.

    Two turns of a pair stand side by side in time, so what drifts is in both; the connections of a session are one draw of what the
    network gives (a path among equal ones, a processor), so sessions, not rounds, are what is independent. A difference is shown where
    the bounds leave 1 out and it is larger than the sessions, but the two outermost, differ among themselves, and than what two
    processes differ anyway. Without an effect that happens to less than 1 in 100 sizes; bounds alone would find something by chance in
    every third run of eight sizes.

    Args:
        size: Bytes.
        without: ``without[session][pair]``: seconds of the rounds of one turn.
        with_it: The same with the setting.
        seed: Of the resampling.
    """

    def ratio(given: list[float], plain: list[float]) -> float:
        return statistics.median(given) / statistics.median(plain)

    pairs = [list(zip(given, plain, strict=True)) for given, plain in zip(with_it, without, strict=True)]
    sessions = sorted(statistics.median(ratio(*pair) for pair in session) for session in pairs)
    draw = random.Random(seed)  # noqa: S311 - resampling, no secret

    def again(session: list[tuple[list[float], list[float]]]) -> float:
        return statistics.median(
            ratio(draw.choices(given, k=len(given)), draw.choices(plain, k=len(plain)))
            for given, plain in draw.choices(session, k=len(session))
        )

    drawn = [
        statistics.median(again(session) for session in draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES)
    ]
    middle = statistics.median(sessions)
    low, high = percentile(drawn, 0.025), percentile(drawn, 0.975)
    noise = sessions[-2] / sessions[1] - 1
    verdict = "no difference shown"
    if not low <= 1 <= high and abs(math.log(middle)) > math.log1p(max(noise, _LEAST)):
        verdict = "faster" if middle < 1 else "slower"
    return {
        "bytes": size,
        "without_us": statistics.median(value for one in without for turn in one for value in turn) * 1e6,
        "with_us": statistics.median(value for one in with_it for turn in one for value in turn) * 1e6,
        "rounds": sum(len(turn) for one in with_it for turn in one),
        "ratio": middle,
        "low": low,
        "high": high,
        "noise": noise,
        "verdict": verdict,
    }
