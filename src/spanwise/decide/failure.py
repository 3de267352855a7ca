"""What one host's loss takes away, and how many spare replicas an availability target needs. Pure arithmetic.

Hosts fail independently with the same probability (an assumption: hosts of one rack share more). A replica over several hosts is up only
while all of them are: a^hosts. Replicas that share a host go together, so up-states are counted by groups: a group is one host with its
replicas, or one replica with its hosts, and the number of groups that are up is binomial.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spanwise.decide.types import Failure

if TYPE_CHECKING:
    from spanwise.decide.question import Candidate, Question

# Share of the time that a GPU host is up, where the intent does not say: an assumption, about four days of outage a year.
HOST_AVAILABILITY = 0.99
_MOST_SPARES = 4096


def failure(question: Question, best: Candidate) -> Failure:
    """Failure domains of the chosen deployment.

    ``availability`` is the share of the time in which enough replicas are up to carry the whole load; spares that the intent keeps count.
    """
    layout, needed = best.layout, best.replicas
    per_host = max(1, question.gpus_per_node // layout.world_size) if layout.nodes == 1 else 1
    hosts_each = layout.nodes
    host = question.host_availability
    up = host**hosts_each
    kept = needed + question.spares
    target = question.objectives.availability
    return Failure(
        hosts_per_replica=hosts_each,
        replicas_per_host=min(per_host, kept),
        one_host_takes_replicas=min(per_host, kept),
        one_host_takes_share=min(1.0, min(per_host, kept) / kept),
        spares=question.spares,
        host_availability=host,
        replica_availability=up,
        availability=at_least(needed, kept, per_host, up),
        target=target,
        spares_for_target=None if target is None else spares_for(target, needed, per_host, up),
    )


def at_least(needed: int, kept: int, group: int, up: float) -> float:
    """Probability that at least ``needed`` of ``kept`` replicas are up, in groups of ``group`` that fail together."""
    whole, rest = divmod(kept, group)
    total = 0.0
    for alive in range(whole + 1):
        chance = _binomial(whole, alive, up)
        if alive * group >= needed:
            total += chance
        elif rest and alive * group + rest >= needed:
            total += chance * up
    return min(1.0, total)


def spares_for(target: float, needed: int, group: int, up: float) -> int | None:
    """Fewest spare replicas with which the target is kept; None where none of a sensible number does."""
    low, high = 0, 1
    while at_least(needed, needed + high, group, up) < target:
        low, high = high, high * 2
        if high > _MOST_SPARES:
            return None
    if at_least(needed, needed, group, up) >= target:
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_least(needed, needed + middle, group, up) >= target else (middle, high)
    return high


def _binomial(count: int, alive: int, up: float) -> float:
    if up >= 1.0:
        return float(alive == count)
    log = math.lgamma(count + 1) - math.lgamma(alive + 1) - math.lgamma(count - alive + 1)
    return math.exp(log + alive * math.log(up) + (count - alive) * math.log1p(-up))
