"""What would have to change for another verdict: one quantity at a time, found by formula, said only where deciding again agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.decide.candidates import Judge
from spanwise.decide.quantities import quantities
from spanwise.decide.question import layouts
from spanwise.decide.types import Flip
from spanwise.decide.words import name_of
from spanwise.estimate.serving import Correction

if TYPE_CHECKING:
    from spanwise.decide.quantities import Quantity
    from spanwise.decide.question import Candidate, Question
    from spanwise.decide.types import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    """How closely flips are looked for."""

    factors: int  # doublings
    fineness: float  # of the halving, in the logarithm
    # How far beyond what the formulas name deciding again is tried where it refutes them; then the flip is dropped.
    steps: tuple[int, ...]


_MANY_GPUS = 64
_FEW = _Effort(factors=6, fineness=0.04, steps=(0, 1, 2, 3, 5))
# A search over many GPUs is followed less finely, to keep a verdict within its second.
_MANY = _Effort(factors=3, fineness=0.15, steps=(0,))


def flips(judge: Judge, best: Candidate | None) -> tuple[Flip, ...]:
    """The nearest change of each quantity that gives another verdict."""
    effort = _FEW if judge.question.gpus <= _MANY_GPUS else _MANY
    found = quantities(judge.question, best, most_factors=effort.factors)
    return tuple(flip for quantity in found if (flip := _flip(judge, quantity, span_of(best), effort)) is not None)


def span_of(candidate: Candidate | None) -> Span:
    """What one replica of the candidate spans."""
    if candidate is None:
        return "infeasible"
    layout = candidate.layout
    return "one_gpu" if layout.world_size == 1 else "one_node" if layout.nodes == 1 else "multi_node"


def _flip(judge: Judge, quantity: Quantity, now: Span, effort: _Effort) -> Flip | None:
    factor = _search(judge, quantity, now, effort.fineness)
    if factor is None:
        return None
    further = math.exp(effort.fineness if factor > 1 else -effort.fineness)
    for step in effort.steps:
        value = quantity.at(factor * further**step)
        span, words = settled(judge, quantity.change(value))
        if span != now:
            text = f"{quantity.text(value)}: {words}"
            return Flip(what=quantity.what, from_=quantity.shown(quantity.now), to=value, verdict=span, text=text)
    return None


def settled(judge: Judge, question: Question) -> tuple[Span, str]:
    """The verdict that :func:`spanwise.decide.decide` gives for ``question``, and in words what it is.

    The replay of a choice moves only the times that a client sees: not what holds the model, nor what carries the load. So the formulas
    settle alone that nothing holds the model, that nothing inside a node carries the load where several nodes do, and without objectives
    every choice that carries the load, since times come last in the order of choice.
    """
    other = Judge(question, like=judge)
    other.correction = Correction()
    found, goals = other.best(), question.objectives
    if found is None:
        return "infeasible", "no layout holds the model"
    timeless = found.tier == 0 and goals.ttft_p95_ms is None and goals.tpot_p95_ms is None
    if not timeless and found.tier < 2 and span_of(found) == "multi_node" and not _carried_inside(other):
        return "multi_node", "no layout inside a node holds the model and carries the load, several nodes do"
    settled_ = found if timeless else other.best_confirmed()
    assert settled_ is not None
    suffix = "" if settled_.tier == 0 else ", and even that does not do all that is asked"
    # Uneven stages change neither the sizes nor the span.
    return span_of(settled_), name_of(replace(settled_.layout, partition=None), settled_.replicas) + suffix


def _carried_inside(judge: Judge) -> bool:
    question = judge.question
    inside = (layout for layout in layouts(question) if layout.nodes == 1 and judge.could_hold(layout))
    rooms = ((layout, layout.replicas_on(question.nodes) - question.spares) for layout in inside)
    return any(room > 0 and judge.judge(layout, room).tier < 2 for layout, room in rooms)


def _search(judge: Judge, quantity: Quantity, now: Span, fineness: float) -> float | None:
    """By formula: the smallest factor (coarse, then halved in its logarithm to ``fineness``) whose verdict differs."""

    def differs(factor: float) -> bool:
        return span_of(Judge(quantity.change(quantity.at(factor)), like=judge).best()) != now

    if quantity.far_first and not differs(quantity.factors[-1]):
        return None
    same = 1.0
    for factor in quantity.factors:
        if not differs(factor):
            same = factor
            continue
        other = factor
        while abs(math.log(other / same)) > fineness:
            middle = math.sqrt(other * same)
            same, other = (same, middle) if differs(middle) else (middle, other)
        return other
    return None
