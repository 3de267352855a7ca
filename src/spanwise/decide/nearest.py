"""The nearest neighbours of the choice: fewer GPUs, a larger replica, and what misses by least where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.candidates import Judge
from spanwise.decide.other_hardware import smaller_gpu
from spanwise.decide.question import Candidate, layouts
from spanwise.decide.rejection import entry
from spanwise.decide.types import Rejected
from spanwise.decide.words import gpus, name_of, shortfall, told_apart
from spanwise.estimate.layout import Layout

if TYPE_CHECKING:
    from spanwise.decide.codes import RejectedCode
    from spanwise.facts.book import FactBook

# Larger replicas that are judged, smallest first.
_MOST_LARGER = 24


def cheaper(judge: Judge, best: Candidate, book: FactBook) -> list[Rejected]:
    """The candidate that comes closest with fewer GPUs; for one GPU, the next smaller one."""
    if best.gpus == 1:
        return smaller_gpu(judge, book)
    closest_: Candidate | None = None
    cheaper = [layout for layout in layouts(judge.question) if layout.world_size < best.gpus]
    for layout in [item for item in cheaper if judge.could_hold(item)] or _largest(cheaper):
        if layout.world_size >= best.gpus or (layout.nodes > 1 and best.layout.nodes == 1):
            continue
        count = min((best.gpus - 1) // layout.world_size, layout.replicas_on(judge.question.nodes))
        if count < 1:
            continue
        candidate = judge.judge(layout, count)
        if candidate.tier == 0:
            # Only beside a layout that was insisted on: what would do with fewer GPUs, and with as few as do.
            candidate = judge.judge(layout)
        if closest_ is None or _nearness(candidate) < _nearness(closest_):
            closest_ = candidate
    if closest_ is None:
        return []
    short = shortfall(judge, closest_)
    if short is None:
        text = (
            f"{name_of(closest_.layout, closest_.replicas)} would do with {gpus(closest_.gpus)} instead of {best.gpus}"
        )
        return [entry(judge, closest_, role="nearest_cheaper", code="not_what_was_asked", text=text)]
    return [entry(judge, closest_, role="nearest_cheaper", code=short.code, text=short.text, values=short.values)]


def _largest(found: list[Layout], count: int = 8) -> list[Layout]:
    """The ``count`` layouts with the most ranks: of those that hold too little, the ones that miss by least."""
    return sorted(found, key=lambda item: item.world_size)[-count:]


def _nearness(candidate: Candidate) -> tuple[float, ...]:
    """How far from doing: what it achieves, what is missing to hold the model, then GPUs, KV cache and time."""
    memory, service = candidate.memory, candidate.service
    need = memory.activations + memory.reserve + max(stage.weights for stage in memory.stages)
    missing = float(max(0, need - memory.usable)) if service is None else 0.0
    time = 0.0 if service is None else service.tpot_s
    if candidate.tier == 0:
        return candidate.key
    return (candidate.tier, candidate.badness, missing, -candidate.gpus, -memory.kv_capacity_tokens, time)


def larger(judge: Judge, best: Candidate, *, forced: bool) -> list[Rejected]:
    """The best larger replica, on the hardware at hand or on one node more of the same kind.

    Of those that are faster than the choice, or do more of what is asked, the first in the order of choice; else the fastest. More
    hardware than there is helps nobody who insists on a layout: what the judgement chooses without that stands beside it.
    """
    question, wider = judge.question, judge.question
    options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options and not forced:
        more = question.gpus_per_node * 2 if question.fabric is None and question.gpu.link is not None else None
        wider = (
            replace(question, gpus_per_node=more)
            if more is not None
            else replace(question, nodes=question.nodes + best.layout.nodes)
        )
        options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options:
        return []
    other = judge if wider is question else Judge(wider, like=judge)
    candidate = _best_of(other, [item for item in options if other.could_hold(item)] or options[:1], best)
    short = shortfall(other, candidate)
    if best.service is None or candidate.service is None:
        return (
            [] if short is None else [entry(other, candidate, role="nearest_larger", code=short.code, text=short.text)]
        )
    mine, its = told_apart(best.service.tpot_s, candidate.service.tpot_s)
    many = f" ({candidate.gpus} in all instead of {best.gpus})" if max(candidate.replicas, best.replicas) > 1 else ""
    text = (
        f"{name_of(candidate.layout, candidate.replicas)}{'' if wider is question else ' (more hardware than there is)'}: TPOT {its} "
        f"against {mine} with {gpus(candidate.layout.world_size)} per replica instead of {best.layout.world_size}{many}"
    )
    code: RejectedCode
    if best.tier == 0:
        faster = candidate.service.tpot_s < best.service.tpot_s
        crosses = candidate.layout.nodes > 1 and best.layout.nodes == 1
        code = "not_needed" if faster else ("slower_across_nodes" if crosses else "slower")
        text += (
            "; what is asked is met without it"
            if faster
            else f"; it {'costs more and ' if candidate.gpus > best.gpus else ''}is {_slower(mine, its)}"
        )
    elif short is None:
        code, text = "larger_would_do", f"{text}; it would do what is asked"
    else:
        code, text = short.code, short.text
    return [entry(other, candidate, role="nearest_larger", code=code, text=text, values=short.values if short else {})]


def _slower(mine: str, its: str) -> str:
    return "no faster" if mine == its else "slower"


def _best_of(judge: Judge, options: list[Layout], best: Candidate) -> Candidate:
    """The first in the order of choice of those that do more than ``best`` or are faster, else the fastest; options come smallest first."""
    found = judge.judge(options[0])
    for layout in options[1:_MOST_LARGER]:
        # Larger ones on as many nodes come later in the order of choice.
        done = found.tier == 0 and _order(found, best)[0] == 0
        if done and layout.world_size > found.gpus and found.layout.nodes <= layout.nodes:
            continue
        candidate = judge.judge(layout, beat=found)
        if _order(candidate, best) < _order(found, best):
            found = candidate
    return found


def _order(candidate: Candidate, best: Candidate) -> tuple[float, ...]:
    service, held = candidate.service, best.service
    if service is None or held is None:
        return (2.0, *candidate.key)
    does_more = (candidate.tier, candidate.badness) < (best.tier, best.badness)
    if does_more or (candidate.tier <= best.tier and service.tpot_s < held.tpot_s):
        return (0.0, *candidate.key)
    return (1.0, candidate.tier, candidate.badness, service.tpot_s)


def widest_inside(judge: Judge) -> Candidate | None:
    """The largest layout inside one node, judged; used to say why one node does not do."""
    inside = [item for item in layouts(judge.question) if item.nodes == 1]
    return (
        None if not inside else judge.judge(max(inside, key=lambda item: (item.world_size, item.tensor_parallel_size)))
    )


def closest(judge: Judge) -> Candidate:
    """Of the layouts that do not hold the model, the one that misses by least."""
    found = [judge.judge(layout, 1) for layout in _largest(list(layouts(judge.question)))]

    def miss(item: Candidate) -> tuple[float, float]:
        memory = item.memory
        need = memory.activations + memory.reserve + max(stage.weights for stage in memory.stages)
        return (max(0.0, float(need - memory.usable)), -float(memory.kv_capacity_tokens))

    return min(found, key=miss)
