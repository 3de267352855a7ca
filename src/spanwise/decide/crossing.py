"""Does tensor parallelism over several nodes beat one node? The inequality, with its figures, never a fixed rule.

Splitting each layer's weights over N times as many GPUs saves reading time and costs all-reduces that cross the
fabric. In decode
it gains only while::

    2 x layers x (all-reduce across - all-reduce inside)  <  t_weights x (1 - 1/N)

where t_weights is one node's time to read its share of the weights for a token and the all-reduce terms are
alpha + bytes/beta of the link in use (spanwise.estimate.collectives).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from spanwise.estimate.collectives import all_reduce_s
from spanwise.estimate.step import decode_step

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.estimate.layout import Layout
    from spanwise.estimate.rates import Rates


@dataclass(frozen=True, slots=True)
class Crossing:
    """Both sides of the inequality, seconds per output token at ``batch`` requests."""

    inside: Layout
    across: Layout
    batch: float
    cost_s: float
    gain_s: float
    inside_step_s: float
    across_step_s: float
    inside_reduce_s: float
    across_reduce_s: float

    @property
    def gains(self) -> bool:
        """True where the split over nodes is faster, all effects counted."""
        return self.across_step_s < self.inside_step_s

    def values(self) -> dict[str, float | int]:
        """The figures for a verdict."""
        return {
            "tensor_parallel_size_inside": self.inside.tensor_parallel_size,
            "tensor_parallel_size_across": self.across.tensor_parallel_size,
            "nodes": self.across.nodes_per_stage,
            "batch": round(self.batch, 2),
            "all_reduce_inside_us": round(self.inside_reduce_s * 1e6, 2),
            "all_reduce_across_us": round(self.across_reduce_s * 1e6, 2),
            "communication_cost_ms": round(self.cost_s * 1e3, 3),
            "weight_reading_gain_ms": round(self.gain_s * 1e3, 3),
            "step_inside_ms": round(self.inside_step_s * 1e3, 3),
            "step_across_ms": round(self.across_step_s * 1e3, 3),
        }


def crossing(judge: Judge, inside: Layout, across: Layout, batch: float, *, rates: Rates | None = None) -> Crossing:
    """Compare ``across`` (a stage spans nodes) with ``inside`` (it does not) at ``batch`` requests."""
    used = rates or judge.rates
    model, weights = judge.question.model, judge.question.weights
    work = judge.question.workload
    context = work.input_tokens + work.output_tokens / 2
    size = batch * model.hidden_size * weights.plain_bits / 8
    small, large = all_reduce_s(used, inside, size), all_reduce_s(used, across, size)
    cut, memory = judge.cut(inside, 2048)
    times = across.tensor_parallel_size / inside.tensor_parallel_size
    weights_s = max(stage.weights for stage in memory.stages) / used.memory
    return Crossing(
        inside=inside,
        across=across,
        batch=batch,
        cost_s=2 * model.layers * (large - small),
        gain_s=weights_s * (1 - 1 / times),
        inside_step_s=decode_step(used, cut, batch, context),
        across_step_s=decode_step(used, judge.cut(across, 2048)[0], batch, context),
        inside_reduce_s=small,
        across_reduce_s=large,
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
