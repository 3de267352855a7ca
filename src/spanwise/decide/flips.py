"""What would have to change for another verdict: one quantity at a time, found by judging again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.candidates import Judge
from spanwise.decide.crossing import needed_bandwidth, needed_hop
from spanwise.decide.over_nodes import pair_across
from spanwise.decide.question import Candidate, Question
from spanwise.decide.types import Flip
from spanwise.decide.words import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwise.decide.codes import FlipCode

# How far each quantity is followed: up to 64 times more or less.
_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# A search over many GPUs is followed less finely, to keep a verdict within its second.
_MANY_GPUS = 64


def flips(judge: Judge, best: Candidate | None) -> tuple[Flip, ...]:
    """The nearest change of each quantity that gives another verdict."""
    question = judge.question
    found = [*_fabric(judge, best)] if best is not None else []
    factors = _FACTORS if question.gpus <= _MANY_GPUS else _FACTORS[:3]
    work = question.workload

    def memory(factor: float) -> Question:
        gpu = question.gpu
        return replace(question, gpu=replace(gpu, memory=replace(gpu.memory, value=gpu.memory.value * factor)))

    now = question.gpu.memory.value / 2**30
    for direction in (factors, tuple(1 / factor for factor in factors)):
        hit = _search(judge, best, memory, direction)
        if hit is not None:
            factor, verdict, layout = hit
            found.append(
                Flip(
                    what="gpu.memory_gib",
                    from_=round(now, 1),
                    to=round(now * factor, 1),
                    verdict=verdict,
                    text=f"with {now * factor:.1f} GiB per GPU instead of {now:.1f}: {layout}",
                )
            )
    if work.request_rate_per_s is not None:
        base = work.request_rate_per_s

        def rate(factor: float) -> Question:
            return replace(question, workload=work.model_copy(update={"request_rate_per_s": base * factor}))

        found += _load(judge, "workload.request_rate_per_s", base, rate, best=best, factors=factors, unit="requests/s")
    elif work.concurrency is not None:
        many = work.concurrency

        def concurrency(factor: float) -> Question:
            return replace(question, workload=work.model_copy(update={"concurrency": max(1, round(many * factor))}))

        found += _load(
            judge, "workload.concurrency", float(many), concurrency, best=best, factors=factors, unit="requests at once"
        )
    found += _context(judge, best, factors)
    return tuple(found)


def _context(judge: Judge, best: Candidate | None, factors: tuple[float, ...]) -> list[Flip]:
    """Longer prompts, up to what the model holds."""
    question = judge.question
    work, longest = question.workload, question.model.max_position or 1 << 30
    tokens = work.input_tokens
    possible = tuple(factor for factor in factors if tokens * factor + work.output_tokens <= longest)

    def context(factor: float) -> Question:
        changed = work.model_copy(update={"input_tokens": round(tokens * factor)})
        need = changed.tokens_per_request
        return replace(question, workload=changed, max_model_len=max(question.max_model_len, need))

    return _load(
        judge, "workload.input_tokens", float(tokens), context, best=best, factors=possible, unit="prompt tokens"
    )


def _load(
    judge: Judge,
    what: FlipCode,
    base: float,
    change: Callable[[float], Question],
    *,
    best: Candidate | None,
    factors: tuple[float, ...],
    unit: str,
) -> list[Flip]:
    if best is None:
        return []
    hit = _search(judge, best, change, factors)
    if hit is None:
        return []
    factor, verdict, layout = hit
    to = base * factor
    shown: float = round(to) if "rate" not in what else float(f"{to:.3g}")
    return [Flip(what=what, from_=base, to=shown, verdict=verdict, text=f"from about {shown:g} {unit} on: {layout}")]


def _answer(judge: Judge, question: Question) -> tuple[str, str]:
    found = Judge(question, like=judge).best()
    if found is None:
        return "infeasible", "no layout holds the model"
    layout = found.layout
    span = "one_gpu" if layout.world_size == 1 else "one_node" if layout.nodes == 1 else "multi_node"
    suffix = "" if found.tier == 0 else ", and even that does not do all that is asked"
    return span, name_of(layout, found.replicas) + suffix


def _search(
    judge: Judge, best: Candidate | None, change: Callable[[float], Question], factors: tuple[float, ...]
) -> tuple[float, str, str] | None:
    """The smallest factor (coarse, then halved in its logarithm to 4 %, with many GPUs to 15 %) whose verdict differs."""
    fineness = 0.04 if judge.question.gpus <= _MANY_GPUS else 0.15
    now = "infeasible"
    if best is not None:
        now = "one_gpu" if best.layout.world_size == 1 else "one_node" if best.layout.nodes == 1 else "multi_node"
    same = 1.0
    for factor in factors:
        span, layout = _answer(judge, change(factor))
        if span == now:
            same = factor
            continue
        other = factor
        while abs(math.log(other / same)) > fineness:
            middle = math.sqrt(other * same)
            between, words = _answer(judge, change(middle))
            if between == now:
                same = middle
            else:
                other, span, layout = middle, between, words
        return other, span, layout
    return None


def _fabric(judge: Judge, best: Candidate) -> list[Flip]:
    """From which link on tensor parallelism over nodes would be faster than the node alone."""
    question = judge.question
    if question.fabric is None or judge.rates.far is None:
        return []
    inside, across = pair_across(question, best)
    if inside is None or across is None:
        return []
    batch = max(1.0, best.service.in_flight if best.service else 1.0)
    efficiency = question.fabric.efficiency.value
    found = []
    now = question.fabric.bandwidth.value * 8 / 1e9
    bandwidth = needed_bandwidth(judge, inside, across, batch)
    if bandwidth is not None:
        to = bandwidth / efficiency * 8 / 1e9
        found.append(
            Flip(
                what="fabric.bandwidth_gbit_per_s",
                from_=round(now, 2),
                to=float(f"{to:.3g}"),
                verdict="multi_node",
                text=f"from about {to:.3g} Gbit/s on (latency unchanged) {name_of(across)} decodes faster than "
                f"{name_of(inside)}",
            )
        )
    hop = needed_hop(judge, inside, across, batch)
    if hop is not None:
        found.append(
            Flip(
                what="fabric.latency_us",
                from_=round(question.fabric.hop.value * 1e6, 2),
                to=float(f"{hop * 1e6:.3g}"),
                verdict="multi_node",
                text=f"below about {hop * 1e6:.3g} us per hop (bandwidth unchanged) {name_of(across)} decodes "
                f"faster than {name_of(inside)}",
            )
        )
    return found
