"""What may change about a question, one quantity at a time, in the figures that a verdict shows: a flip is judged at its figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.decide.question import context_length
from spanwise.decide.words import three

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spanwise.decide.codes import FlipCode
    from spanwise.decide.question import Candidate, Question

# How far each quantity is followed: up to 64 times more or less.
_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One thing that may change."""

    what: FlipCode
    now: float
    factors: tuple[float, ...]  # followed in this order
    shown: Callable[[float], float]  # a value as a verdict writes it
    change: Callable[[float], Question]  # the question with that value, all else unchanged
    text: Callable[[float], str]
    most: float = float("inf")
    far_first: bool = False  # no flip where there is none at the far end

    def at(self, factor: float) -> float:
        """The value so many times what it is now, as shown."""
        return self.shown(min(self.most, self.now * factor))


def quantities(question: Question, best: Candidate | None, *, most_factors: int) -> Iterator[Quantity]:
    """Everything whose change may give another verdict; of no layout at all, only memory."""
    more = _FACTORS[:most_factors]
    less = tuple(1 / factor for factor in more)
    if best is not None:
        yield from _fabric(question, best, more, less)
    for factors in (more, less):
        yield _memory(question, factors)
    if best is not None:
        yield _load(question, more)
        if (longer := _context(question, more)) is not None:
            yield longer


def _memory(question: Question, factors: tuple[float, ...]) -> Quantity:
    gpu = question.gpu
    now = gpu.memory.value / 2**30
    return Quantity(
        what="gpu.memory_gib",
        now=now,
        factors=factors,
        shown=lambda value: round(value, 1),
        change=lambda value: replace(question, gpu=replace(gpu, memory=replace(gpu.memory, value=value * 2**30))),
        text=lambda value: f"with {value:.1f} GiB per GPU instead of {now:.1f}",
    )


def _load(question: Question, factors: tuple[float, ...]) -> Quantity:
    work = question.workload
    if work.request_rate_per_s is not None:
        return Quantity(
            what="workload.request_rate_per_s",
            now=work.request_rate_per_s,
            factors=factors,
            shown=lambda value: float(f"{value:.3g}"),
            change=lambda value: replace(question, workload=work.model_copy(update={"request_rate_per_s": value})),
            text=lambda value: f"from about {three(value)} requests/s on",
        )
    return Quantity(
        what="workload.concurrency",
        now=float(work.concurrency or 1),
        factors=factors,
        shown=round,
        change=lambda value: replace(question, workload=work.model_copy(update={"concurrency": int(value)})),
        text=lambda value: f"from about {value:.0f} requests at once on",
    )


def _context(question: Question, factors: tuple[float, ...]) -> Quantity | None:
    """Longer prompts, up to what the model holds, or up to the context that the intent states."""
    work, longest = question.workload, question.model.max_position
    held = question.max_model_len if question.max_model_len_stated else longest
    most = float("inf") if held is None else held - work.output_tokens

    def change(value: float) -> Question:
        changed = work.model_copy(update={"input_tokens": int(value)})
        stated = question.max_model_len if question.max_model_len_stated else None
        length = context_length(stated, changed.tokens_per_request, longest)
        return replace(question, workload=changed, max_model_len=length)

    if most <= work.input_tokens:
        return None
    return Quantity(
        what="workload.input_tokens",
        now=float(work.input_tokens),
        factors=factors,
        shown=round,
        change=change,
        text=lambda value: f"from about {value:.0f} prompt tokens on",
        most=most,
    )


def _fabric(
    question: Question, best: Candidate, more: tuple[float, ...], less: tuple[float, ...]
) -> Iterator[Quantity]:
    """A better link where the choice inside a node misses something, a worse one where the choice spans nodes.

    Elsewhere no link changes the verdict: a choice inside a node that does all that is asked comes before every layout over nodes, and a
    choice over nodes stays one on a better link, which makes no layout inside a node better.
    """
    fabric = question.fabric
    crossing = best.layout.nodes > 1
    if fabric is None or question.nodes < 2 or (best.tier == 0 and not crossing):
        return
    yield Quantity(
        what="fabric.bandwidth_gbit_per_s",
        now=fabric.bandwidth.value * 8 / 1e9,
        factors=less if crossing else more,
        shown=lambda value: float(f"{value:.3g}"),
        change=lambda value: replace(
            question, fabric=replace(fabric, bandwidth=replace(fabric.bandwidth, value=value * 1e9 / 8))
        ),
        text=lambda value: f"from about {three(value)} Gbit/s {'down' if crossing else 'on'} (latency unchanged)",
        far_first=True,
    )
    yield Quantity(
        what="fabric.latency_us",
        now=fabric.hop.value * 1e6,
        factors=more if crossing else less,
        shown=lambda value: float(f"{value:.3g}"),
        change=lambda value: replace(question, fabric=replace(fabric, hop=replace(fabric.hop, value=value * 1e-6))),
        text=lambda value: f"from about {three(value)} us per hop {'on' if crossing else 'down'} (bandwidth unchanged)",
        far_first=True,
    )
