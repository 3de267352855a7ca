"""The nearest neighbours of the choice: fewer GPUs, a larger replica, and what misses by least where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.candidates import Judge
from spanwise.decide.other_hardware import smaller_gpu
from spanwise.decide.question import Candidate, layouts
from spanwise.decide.rejection import entry
from spanwise.decide.types import Rejected
from spanwise.decide.words import gpus, ms, name_of, shortfall
from spanwise.estimate.layout import Layout

if TYPE_CHECKING:
    from spanwise.decide.codes import RejectedCode
    from spanwise.facts.book import FactBook


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
        if closest_ is None or _nearness(candidate) < _nearness(closest_):
            closest_ = candidate
    if closest_ is None:
        return []
    short = shortfall(judge, closest_)
    if short is None:
        text = f"{name_of(closest_.layout, closest_.replicas)} would do with fewer GPUs"
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
    return (candidate.tier, candidate.badness, missing, -candidate.gpus, -memory.kv_capacity_tokens, time)


def larger(judge: Judge, best: Candidate) -> list[Rejected]:
    """The next larger replica, on the hardware at hand or on one node more of the same kind."""
    question = judge.question
    wider = question
    options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options:
        more = question.gpus_per_node * 2 if question.fabric is None and question.gpu.link is not None else None
        wider = (
            replace(question, gpus_per_node=more)
            if more is not None
            else replace(question, nodes=question.nodes + best.layout.nodes)
        )
        options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options:
        return []
    other = judge if wider is question else Judge(wider)
    smallest = min(item.world_size for item in options)
    same = [other.judge(item, 1) for item in options if item.world_size == smallest]
    candidate = min(same, key=lambda item: item.key)
    if best.service is None or candidate.service is None:
        short = shortfall(other, candidate)
        return (
            [] if short is None else [entry(other, candidate, role="nearest_larger", code=short.code, text=short.text)]
        )
    faster = candidate.service.tpot_s < best.service.tpot_s
    note = "" if wider is question else " (more hardware than there is)"
    text = (
        f"{name_of(candidate.layout)}{note}: TPOT {ms(candidate.service.tpot_s)} against {ms(best.service.tpot_s)} "
        f"with {gpus(candidate.layout.world_size)} per replica instead of {best.layout.world_size}"
    )
    crosses = candidate.layout.nodes > 1 and best.layout.nodes == 1
    code: RejectedCode
    if best.tier == 0:
        code = "not_needed" if faster else ("slower_across_nodes" if crosses else "slower")
        text += "; what is asked is met without it" if faster else "; it costs more and is slower"
    else:
        short = shortfall(other, candidate)
        code = "larger_would_do" if short is None else short.code
        text = f"{text}; it would do what is asked" if short is None else short.text
    return [entry(other, candidate, role="nearest_larger", code=code, text=text)]


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
