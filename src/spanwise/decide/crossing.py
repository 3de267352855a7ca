"""Does tensor parallelism over several nodes beat what fits inside one? The inequality, with its figures, never a fixed rule.

Splitting each layer over more GPUs saves reading and arithmetic on each of them, and costs all-reduces that cross the fabric. In decode it
gains only while::

    (2 x layers + 1) x (all-reduce across - all-reduce inside) + what else crosses links  <  work across saves per GPU

where an all-reduce is alpha + bytes/beta of the link in use (spanwise.estimate.collectives) and the parts are those of one decode step
(spanwise.decide.parts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from spanwise.decide.parts import Parts, decode_parts
from spanwise.estimate.collectives import all_reduce_s

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.estimate.layout import Layout
    from spanwise.estimate.rates import Rates

# Steps closer than this share of each other are called equal: a link cannot buy what rounding gives.
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Crossing:
    """Both sides of the inequality at ``batch`` requests: ``inside`` is the layout that fits, ``across`` has stages that span nodes."""

    inside: Layout
    across: Layout
    batch: float
    inside_parts: Parts
    across_parts: Parts
    inside_reduce_s: float
    across_reduce_s: float

    @property
    def more(self) -> Parts:
        """What ``across`` takes longer, part by part; negative where it is quicker."""
        mine, its = self.across_parts, self.inside_parts
        return Parts(
            all_reduces_s=mine.all_reduces_s - its.all_reduces_s,
            gather_s=mine.gather_s - its.gather_s,
            hops_s=mine.hops_s - its.hops_s,
            work_s=mine.work_s - its.work_s,
        )

    @property
    def gains(self) -> bool:
        """True where the split over nodes is faster, all effects counted."""
        return self.across_parts.step_s < self.inside_parts.step_s * (1 - _CLOSE)

    def values(self) -> dict[str, float | int]:
        """The figures for a verdict."""
        more = self.more
        return {
            "tensor_parallel_size_inside": self.inside.tensor_parallel_size,
            "pipeline_parallel_size_inside": self.inside.pipeline_parallel_size,
            "tensor_parallel_size_across": self.across.tensor_parallel_size,
            "nodes": self.across.nodes_per_stage,
            "batch": round(self.batch, 2),
            "all_reduce_inside_us": round(self.inside_reduce_s * 1e6, 2),
            "all_reduce_across_us": round(self.across_reduce_s * 1e6, 2),
            "communication_cost_ms": round((more.all_reduces_s + more.gather_s + more.hops_s) * 1e3, 3),
            "all_reduces_more_ms": round(more.all_reduces_s * 1e3, 3),
            "gather_more_ms": round(more.gather_s * 1e3, 3),
            "hops_more_ms": round(more.hops_s * 1e3, 3),
            "weight_reading_gain_ms": round(-more.work_s * 1e3, 3),
            "step_inside_ms": round(self.inside_parts.step_s * 1e3, 3),
            "step_across_ms": round(self.across_parts.step_s * 1e3, 3),
        }


def crossing(judge: Judge, inside: Layout, across: Layout, batch: float, *, rates: Rates | None = None) -> Crossing:
    """Compare ``across`` (a stage spans nodes) with ``inside``, which fits, at ``batch`` requests."""
    used = rates or judge.rates
    work = judge.question.workload
    context = work.input_tokens + work.output_tokens / 2
    size = batch * judge.question.model.hidden_size * judge.question.weights.plain_bits / 8
    return Crossing(
        inside=inside,
        across=across,
        batch=batch,
        inside_parts=decode_parts(used, judge.cut(inside, 2048)[0], batch, context),
        across_parts=decode_parts(used, judge.cut(across, 2048)[0], batch, context),
        inside_reduce_s=all_reduce_s(used, inside, size),
        across_reduce_s=all_reduce_s(used, across, size),
    )


def needed_bandwidth(judge: Judge, inside: Layout, across: Layout, batch: float) -> float | None:
    """Bytes per second from which ``across`` is faster, latency unchanged; None where latency alone forbids it."""
    return _needed(judge, inside, across, batch, field="bytes_per_s", factor=1e5)


def needed_hop(judge: Judge, inside: Layout, across: Layout, batch: float) -> float | None:
    """Seconds per hop below which ``across`` is faster, bandwidth unchanged; None where bandwidth alone forbids it."""
    return _needed(judge, inside, across, batch, field="hop", factor=1e-6)


def _needed(
    judge: Judge, inside: Layout, across: Layout, batch: float, *, field: Literal["bytes_per_s", "hop"], factor: float
) -> float | None:
    far = judge.rates.far
    if far is None:
        return None
    start = far.bytes_per_s if field == "bytes_per_s" else far.hop

    def gains(value: float) -> bool:
        link = replace(far, bytes_per_s=value) if field == "bytes_per_s" else replace(far, hop=value)
        return crossing(judge, inside, across, batch, rates=replace(judge.rates, far=link)).gains

    if start <= 0 or gains(start):
        return None
    good, bad = start * factor, start
    if not gains(good):
        return None
    while abs(math.log(good / bad)) > 0.01:
        middle = math.sqrt(good * bad)
        good, bad = (middle, bad) if gains(middle) else (good, middle)
    return good
