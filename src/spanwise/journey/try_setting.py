"""What one variable does on a live cluster: a group's collectives with and without it, interleaved in one run, as ratios with bounds."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError
from spanwise.estimate.replay import percentile
from spanwise.plan.environment import ALLOWED, refusal
from spanwise.plan.network import NEVER
from spanwise.probe.run import Effort, Group, Say, measure_group

if TYPE_CHECKING:
    from spanwise.probe.reach import Host, Reach

PASSES = 3
_RESAMPLES = 1000


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
    reach: Reach,
    hosts: dict[str, Host],
    group: Group,
    setting: tuple[str, str],
    effort: Effort,
    *,
    backend: str,
    interface: str | None,
    say: Say,
) -> dict[str, Any]:
    """Both ways, ``PASSES`` times each, the order turned round every time.

    Returns:
        Per size the ratio of medians (with over without; below 1 is faster), its 95 % bounds over passes and rounds, and the noise:
        the same ratio between passes without the setting.

    Raises:
        ProbeError: A rank failed; with the setting, that is its effect, and the message says so.
    """
    name, value = setting
    times: dict[bool, list[dict[int, list[float]]]] = {True: [], False: []}
    for number in range(PASSES):
        for given in ((False, True), (True, False))[number % 2]:
            say(f"{group.name}: pass {number + 1} of {PASSES}, {'with' if given else 'without'} {name}")
            (measured,) = measure_group(
                reach,
                hosts,
                group,
                effort,
                backend=backend,
                interface=interface,
                environment={name: value} if given else None,
            )
            times[given].append(measured["times_s"])
    draw = random.Random(0)  # noqa: S311 - resampling, no secret
    rows = [
        _row(size, times, draw)
        for size in sorted(set.intersection(*(set(one) for both in times.values() for one in both)))
    ]
    return {
        "name": name,
        "value": value,
        "group": group.name,
        "operation": group.operations[0],
        "hosts": list(group.hosts),
        "passes": PASSES,
        "sizes": rows,
        "warning": f"NVIDIA documents {name} for debugging: do not leave it set" if name in NEVER else "",
    }


def _row(size: int, times: dict[bool, list[dict[int, list[float]]]], draw: random.Random) -> dict[str, Any]:
    """One size: passes are drawn first, then rounds within, because rounds of one pass are not independent."""
    both = {given: [one[size] for one in passes] for given, passes in times.items()}

    def middle(passes: list[list[float]]) -> float:
        return statistics.median(value for one in passes for value in one)

    def drawn(passes: list[list[float]]) -> float:
        return middle([draw.choices(one, k=len(one)) for one in draw.choices(passes, k=len(passes))])

    ratios = [drawn(both[True]) / drawn(both[False]) for _ in range(_RESAMPLES)]
    alone = [statistics.median(one) for one in both[False]]
    low, high = percentile(ratios, 0.025), percentile(ratios, 0.975)
    return {
        "bytes": size,
        "ratio": middle(both[True]) / middle(both[False]),
        "low": low,
        "high": high,
        "noise": max(alone) / min(alone) - 1,
        "verdict": "faster" if high < 1 else "slower" if low > 1 else "no difference shown",
    }
