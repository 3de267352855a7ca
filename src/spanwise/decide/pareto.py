"""The Pareto front: which candidates are not beaten in latency, throughput and cost at once, and why the choice may lie off it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spanwise.decide.question import layouts
from spanwise.decide.types import FrontPoint, Reason
from spanwise.decide.words import gpus, ms, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spanwise.decide.candidates import Judge
    from spanwise.decide.question import Candidate

# Points that a verdict shows; a front may have hundreds, most of them neighbours.
MOST_POINTS = 12
# Numbers of replicas tried per layout: each at most this much more than the one before, and no more than that many in all.
_LADDER, _MOST_RUNGS = 1.25, 12


def judged(judge: Judge, best: Candidate | None) -> list[Candidate]:
    """Every layout with a ladder of replicas, from the fewest that may carry the load to all there is room for, and the choice.

    Candidates that do not hold the model are left out, and those whose queue grows without end, unless the choice is one.
    """
    question = judge.question
    found = [] if best is None else [best]
    for layout in layouts(question):
        if not judge.could_hold(layout):
            continue
        room = layout.replicas_on(question.nodes) - question.spares
        if question.workload.concurrency is not None:
            room = min(room, question.workload.concurrency)
        for count in _rungs(judge.fewest(layout), room):
            candidate = judge.judge(layout, count)
            if candidate.tier == 3:
                break
            if candidate.tier < 2 or best is None or best.tier == 2:
                found.append(candidate)
    return found


def _rungs(fewest: int, room: int) -> Iterator[int]:
    if fewest > room:
        return
    step = max(_LADDER, (room / fewest) ** (1 / (_MOST_RUNGS - 1)))
    count = fewest
    while count < room:
        yield count
        count = max(count + 1, math.floor(count * step))
    yield room


def aims(judge: Judge, candidate: Candidate) -> tuple[float, float, float, float]:
    """TPOT (s), TTFT (s), less throughput (1/s) and GPUs: smaller is better in each. GPUs are of one kind, so they order costs as well."""
    service = candidate.service
    if service is None:
        return (math.inf,) * 4
    ttft = math.inf if service.ttft_s is None else service.ttft_s
    # Shares of a load add up to the load again only to rounding.
    figures = (service.tpot_s, ttft, -judge.requests_per_s(candidate))
    tpot, first, rate = (value if math.isinf(value) else float(f"{value:.9g}") for value in figures)
    return tpot, first, rate, float(candidate.gpus)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """True where ``one`` is nowhere worse and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def front(judge: Judge, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of ``candidates`` that none of them dominates, one of each with the same figures; fewest GPUs first."""
    kept: list[tuple[tuple[float, ...], Candidate]] = []
    # Sorted so, whatever dominates a candidate comes before it, and so does something on the front that does.
    for figures, candidate in sorted(
        ((_by_cost(aims(judge, item)), item) for item in candidates), key=lambda pair: pair[0]
    ):
        if not any(held == figures or dominates(held, figures) for held, _ in kept):
            kept.append((figures, candidate))
    return [candidate for _, candidate in kept]


def _by_cost(figures: tuple[float, float, float, float]) -> tuple[float, ...]:
    return (figures[3], *figures[:3])


def points(judge: Judge, best: Candidate) -> tuple[tuple[FrontPoint, ...], Reason | None]:
    """The front as a verdict shows it, thinned to its ends, the choice and what lies furthest apart; and why the choice is not on it."""
    candidates = judged(judge, best)
    whole = front(judge, candidates)
    own = aims(judge, best)
    # Where another candidate has exactly the figures of the choice, the choice stands for both.
    whole = [best if aims(judge, item) == own else item for item in whole]
    shown = _thinned(judge, whole, best)
    better = next((item for item in whole if dominates(aims(judge, item), own)), None)
    return tuple(_point(judge, item, best) for item in shown), None if better is None else _why(best, better)


def _thinned(judge: Judge, whole: list[Candidate], best: Candidate) -> list[Candidate]:
    if len(whole) <= MOST_POINTS:
        return whole
    figures = [aims(judge, item) for item in whole]
    places = [tuple(math.log(abs(value)) if 0 < abs(value) < math.inf else 0.0 for value in row) for row in figures]
    kept = {min(range(len(whole)), key=lambda index, aim=aim: figures[index][aim]) for aim in range(4)}  # type: ignore[misc]
    kept |= {index for index, item in enumerate(whole) if item is best}
    distance = [min(math.dist(place, places[index]) for index in kept) for place in places]
    while len(kept) < MOST_POINTS:
        furthest = max(range(len(whole)), key=distance.__getitem__)
        kept.add(furthest)
        distance = [min(old, math.dist(place, places[furthest])) for old, place in zip(distance, places, strict=True)]
    return [whole[index] for index in sorted(kept)]


def _point(judge: Judge, candidate: Candidate, best: Candidate) -> FrontPoint:
    layout, service, question = candidate.layout, candidate.service, judge.question
    assert service is not None
    price = question.prices.get(question.gpu.name)
    return FrontPoint(
        tensor_parallel_size=layout.tensor_parallel_size,
        pipeline_parallel_size=layout.pipeline_parallel_size,
        replicas=candidate.replicas,
        nodes_per_replica=layout.nodes,
        gpus=candidate.gpus,
        tpot_ms=service.tpot_s * 1e3,
        ttft_ms=None if service.ttft_s is None else service.ttft_s * 1e3,
        requests_per_s=judge.requests_per_s(candidate),
        cost_per_hour=None if price is None else price * candidate.gpus,
        keeps_objectives=candidate.tier == 0,
        chosen=candidate is best,
        uneven_stage_layers=layout.partition,
    )


def _why(best: Candidate, better: Candidate) -> Reason:
    """What the order of choice puts before the figures of the front."""
    if better.layout.nodes > 1 and best.layout.nodes == 1:
        why = "a replica inside one node comes first"
    elif (better.tier, better.badness) > (best.tier, best.badness):
        why = "it misses an objective by more"
    elif better.layout.world_size > 1 and best.layout.world_size == 1:
        why = "one GPU per replica comes before several where the GPUs are as many"
    elif better.key < best.key:
        why = "this layout was asked for"
    else:
        why = "the choice weighs TPOT and TTFT together, or its own replay moved it"
    mine, its = best.service, better.service
    assert mine is not None
    assert its is not None
    return Reason(
        code="not_on_pareto_front",
        text=f"{name_of(better.layout, better.replicas)} ({gpus(better.gpus)}, TPOT {ms(its.tpot_s)}, TTFT {ms(its.ttft_s)}) is nowhere "
        f"worse than the choice (TPOT {ms(mine.tpot_s)}, TTFT {ms(mine.ttft_s)}); {why}",
        values={
            "tensor_parallel_size": better.layout.tensor_parallel_size,
            "pipeline_parallel_size": better.layout.pipeline_parallel_size,
            "replicas": better.replicas,
            "gpus": better.gpus,
            "tpot_ms": its.tpot_s * 1e3,
            "ttft_ms": None if its.ttft_s is None else its.ttft_s * 1e3,
        },
    )
