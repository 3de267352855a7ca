"""Where the time of one decode step goes: what crosses links, by kind, and what each GPU does by itself. The parts add up to the step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.estimate.collectives import all_gather_s, all_reduce_s, pipeline_hops_s
from spanwise.estimate.step import Work, decode_step, step_time

if TYPE_CHECKING:
    from spanwise.estimate.rates import Rates
    from spanwise.estimate.step import Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seconds per output token."""

    all_reduces_s: float  # two per layer, one for the vocabulary
    gather_s: float  # scores of the whole vocabulary, brought together once
    hops_s: float  # from stage to stage
    work_s: float  # reading weights and KV cache, arithmetic, the engine's own work, waiting in a pipeline

    @property
    def step_s(self) -> float:
        """The whole step."""
        return self.all_reduces_s + self.gather_s + self.hops_s + self.work_s


def decode_parts(rates: Rates, cut: Costs, batch: float, context: float) -> Parts:
    """The parts of :func:`spanwise.estimate.step.decode_step`.

    One token at a time passes every stage once. A pipeline that is full is as slow as its slowest stage, once per micro-batch: then that
    stage's all-reduces and hop are what counts.
    """
    layout, stages = cut.layout, len(cut.stages)
    micro = max(1.0, min(float(stages), batch))
    work = Work(decodes=batch / micro, context=context)
    reduce_s = all_reduce_s(rates, layout, work.tokens * cut.hidden_bytes)
    gather_s = all_gather_s(rates, layout, work.tokens * cut.logit_bytes)
    hops_s, hop_s = pipeline_hops_s(rates, layout, 2 * work.tokens * cut.hidden_bytes)
    step, times, layers, heads = step_time(rates, cut, work), 1.0, sum(stage.layers for stage in cut.stages), 1
    if stages > 1 and micro * step.bottleneck > step.latency:
        alone = {stage: replace(cut, stages=(stage,), distinct=((stage, 1),)) for stage, _ in cut.distinct}
        slowest = max(alone, key=lambda stage: step_time(rates, alone[stage], work).latency)
        times = micro * rates.turns(layout.world_size) / rates.turns(layout.tensor_parallel_size)
        layers, heads, hops_s = slowest.layers, int(slowest.head_bytes > 0), micro * hop_s
    reduces = times * (2 * layers + heads) * reduce_s
    scores = times * heads * gather_s
    whole = decode_step(rates, cut, batch, context)
    return Parts(all_reduces_s=reduces, gather_s=scores, hops_s=hops_s, work_s=whole - reduces - scores - hops_s)
