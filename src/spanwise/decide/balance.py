"""Stages of unequal length: where the head, or the embedding, makes vLLM's own split of a pipeline slower or too large.

The last stage reads the head and the first holds the embedding, so with equal layers they are the slowest, or the fullest. vLLM takes
another split by ``VLLM_PP_LAYER_PARTITION``. It is used only where it makes the choice better by more than a hundredth, since it is one
setting more that must be the same on every rank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.types import Reason
from spanwise.decide.words import ms, name_of
from spanwise.estimate.layout import Layout, stage_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.decide.candidates import Judge
    from spanwise.decide.question import Candidate

# Layers taken from the last stage and from the first, at most; better by more than this share counts.
_FROM_LAST, _FROM_FIRST, _BETTER = 4, 2, 0.01


def uneven(layout: Layout, layers: int) -> Iterator[Layout]:
    """``layout`` with one to four layers fewer on the last stage and up to two fewer on the first, the least moved first."""
    even = list(stage_layers(layers, layout.pipeline_parallel_size))
    if len(even) < 2:
        return
    moves = [
        (last, first)
        for last in range(min(_FROM_LAST, even[-1] - 1) + 1)
        # With two stages, what one loses the other gains: only one of them can be relieved.
        for first in range((min(_FROM_FIRST, even[0] - 1) if len(even) > 2 or not last else 0) + 1)
        if last or first
    ]
    for last, first in sorted(moves, key=sum):
        split = list(even)
        split[-1] -= last
        split[0] -= first
        takers = range(1, len(split) - 1) if len(split) > 2 else ([0] if last else [1])
        for _ in range(last + first):
            # As vLLM does with a remainder: to the shortest stage, from the back.
            split[min(reversed(takers), key=split.__getitem__)] += 1
        yield replace(layout, partition=tuple(split))


def balanced(judge: Judge, best: Candidate) -> Candidate:
    """The choice with its layers split unevenly, where that is better by more than a hundredth in formula and replay; else the choice."""
    if best.layout.pipeline_parallel_size == 1 or best.layout.partition is not None or best.service is None:
        return best
    plain = judge.plainly(best)
    found = [
        candidate
        for layout in uneven(best.layout, judge.question.model.layers)
        if _better(candidate := judge.judge(layout, best.replicas), plain)
    ]
    if not found:
        return best
    kept = judge.correction
    confirmed = judge.confirm(min(found, key=lambda item: item.key))
    if _better(confirmed, best):
        return confirmed
    judge.correction = kept
    return best


def _better(one: Candidate, other: Candidate) -> bool:
    """True where ``one`` achieves more, misses by less, or is faster, by more than a hundredth, and is nowhere slower by as much."""
    if one.service is None or other.service is None or one.tier != other.tier:
        return one.tier < other.tier
    if other.tier > 0 and one.badness != other.badness:
        return one.badness < other.badness * (1 - _BETTER)
    mine, its = one.service, other.service
    faster = mine.tpot_s < its.tpot_s * (1 - _BETTER)
    no_later = (mine.ttft_s or 0.0) <= (its.ttft_s or 0.0) * (1 + _BETTER)
    # A fuller stage leaves less KV cache to all.
    return faster and no_later and mine.max_requests_per_s >= its.max_requests_per_s * (1 - _BETTER)


def reason(judge: Judge, best: Candidate) -> Reason | None:
    """Why the stages are not vLLM's own; None where they are."""
    layout = best.layout
    if layout.partition is None or best.service is None:
        return None
    even = judge.confirmed_or_judged(replace(layout, partition=None), best.replicas)
    own = stage_layers(judge.question.model.layers, layout.pipeline_parallel_size)
    said = "+".join(map(str, layout.partition))
    if even.service is None:
        gain = "with vLLM's own split the fullest stage has no room for it"
    elif even.tier == 2:
        gain = (
            f"saturates at {best.service.max_requests_per_s * best.replicas:.3g} requests/s instead of "
            f"{even.service.max_requests_per_s * best.replicas:.3g}, TPOT {ms(best.service.tpot_s)} instead of {ms(even.service.tpot_s)}"
        )
    else:
        gain = f"TPOT {ms(best.service.tpot_s)} instead of {ms(even.service.tpot_s)}"
    return Reason(
        code="uneven_stages",
        text=f"{name_of(replace(layout, partition=None))} with stages of {said} layers, not vLLM's own {'+'.join(map(str, own))}: {gain}; "
        "the first stage holds the embedding and the last the head. Every rank needs VLLM_PP_LAYER_PARTITION, which a plan sets",
        values={
            "stage_layers": list(layout.partition),
            "even_stage_layers": list(own),
            "tpot_ms": best.service.tpot_s * 1e3,
            "even_tpot_ms": None if even.service is None else even.service.tpot_s * 1e3,
        },
    )
