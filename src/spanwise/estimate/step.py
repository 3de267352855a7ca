"""Time of one engine step: a roofline with measured efficiencies, the collectives and the pipeline. Seconds.

Decode reads every weight and the KV cache of every running request once per token; prefill multiplies. Per stage, with M tokens in the
step::

    t = layers x overhead + linear(M) + attention + activations(M) + all-reduces
    linear(M) = (memory^b + compute(M)^b)^(1/b),  memory = weights / (bandwidth x e),  compute = FLOP / (peak x e(M))

The roofline is Williams et al. 2009 (doi 10.1145/1498765.1498785). Where memory and arithmetic are both busy neither hides the other
completely, which the exponent b says (b = 1 would be their sum, b = infinity the larger one); b, the efficiencies e and the overheads
are fitted to measurements (spanwise.estimate.rates).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanwise.estimate.collectives import all_gather_s, all_reduce_s, pipeline_hops_s
from spanwise.estimate.layout import Layout, layer_runs, split_runs
from spanwise.estimate.memory import (
    expert_bytes_per_rank,
    kv_bytes_per_rank,
    layer_bytes_per_rank,
    vocab_bytes_per_rank,
)

if TYPE_CHECKING:
    from spanwise.estimate.layout import Runs
    from spanwise.estimate.rates import Rates
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import LayerFacts, ModelFacts


_EXACT_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class _Kind:
    """A layer of one kind: what one rank reads, multiplies and keeps."""

    dense_bytes: float
    expert_bytes: float
    visited: float  # share of experts one token visits
    uneven: float  # how unevenly tokens meet the ranks that hold whole experts (see `_busiest`); 0 where each rank has a slice of all
    dense_flops: float  # per token
    expert_flops: float  # per token
    score_flops: float  # per pair of tokens
    kv_bytes: int
    window: int | None


@dataclass(frozen=True, slots=True)
class _Stage:
    held: tuple[tuple[int, int], ...]  # index into Costs.kinds, and how many layers of that kind
    layers: int
    head_bytes: float
    head_flops: float


@dataclass(frozen=True, slots=True)
class Costs:
    """A model cut by a layout: everything the time formulas need that does not depend on the load."""

    layout: Layout
    kinds: tuple[_Kind, ...]
    stages: tuple[_Stage, ...]
    hidden_bytes: int
    logit_bytes: int  # scores of one token over the whole vocabulary: every rank of a group holds a part, one needs all
    distinct: tuple[tuple[_Stage, int], ...]  # stages that are alike, and how many: each is timed once
    eight_bit: bool  # matrix products in fp8


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one engine step does: ``decodes`` requests of mean ``context`` tokens, and chunks of prompts, each (new, done) tokens."""

    decodes: float = 0.0
    context: float = 0.0
    chunks: tuple[tuple[float, float], ...] = ()
    finished: int = 0  # prompts that end in this step: they ask the head for a token too

    @property
    def tokens(self) -> float:
        """Tokens that pass the linear layers."""
        tokens = self.decodes
        for new, _ in self.chunks:
            tokens += new
        return tokens


def costs(model: ModelFacts, weights: WeightFormat, layout: Layout, runs: Runs | None = None) -> Costs:
    """Cut ``model`` by ``layout``; ``runs`` are its :func:`layer_runs`, where they are known already."""
    tensor, pipeline = layout.tensor_parallel_size, layout.pipeline_parallel_size
    kinds: dict[_Kind, int] = {}
    found = tuple(
        (kinds.setdefault(_kind(layer, weights, layout), len(kinds)), count)
        for layer, count in runs or layer_runs(model)
    )
    head = float(vocab_bytes_per_rank(model, weights, tensor))
    head_flops = 2.0 * model.vocab_size * model.hidden_size / tensor
    alike: dict[tuple[tuple[tuple[int, int], ...], bool], _Stage] = {}
    seen: dict[tuple[tuple[tuple[int, int], ...], bool], _Stage] = {}
    stages = []
    for index, held in enumerate(split_runs(found, layout.stage_layers(model.layers))):
        last = index == pipeline - 1
        stage = seen.get((held, last))
        if stage is None:
            counts: dict[int, int] = {}
            for kind, count in held:
                counts[kind] = counts.get(kind, 0) + count
            key = (tuple(counts.items()), last)
            stage = alike.get(key) or _Stage(
                key[0], sum(counts.values()), head if last else 0.0, head_flops if last else 0.0
            )
            alike[key] = seen[held, last] = stage
        stages.append(stage)
    distinct: dict[int, int] = {}
    for identity in map(id, stages):
        distinct[identity] = distinct.get(identity, 0) + 1
    hidden = model.hidden_size * weights.plain_bits // 8
    logits = model.vocab_size * weights.plain_bits // 8
    counted = tuple((stage, distinct[id(stage)]) for stage in alike.values())
    return Costs(layout, tuple(kinds), tuple(stages), hidden, logits, counted, weights.fp8_math)


def _kind(layer: LayerFacts, weights: WeightFormat, layout: Layout) -> _Kind:
    tensor = layout.tensor_parallel_size
    experts = expert_bytes_per_rank(layer, weights, layout)
    kv_split = min(tensor, layer.kv_heads)
    routed = layer.expert_linear * layer.experts_per_token / layer.experts if layer.experts else 0.0
    linear = layer.split_linear / tensor + layer.kv_linear / kv_split + layer.replicated_linear
    return _Kind(
        dense_bytes=float(layer_bytes_per_rank(layer, weights, layout) - experts),
        expert_bytes=float(experts),
        visited=layer.experts_per_token / layer.experts if layer.experts else 0.0,
        uneven=2.0 * math.log(tensor) * (tensor - 1) / layer.experts_per_token
        if layout.expert_parallel and layer.experts
        else 0.0,
        dense_flops=2.0 * linear,
        expert_flops=2.0 * routed / tensor,
        score_flops=2.0 * layer.score_width / tensor,
        kv_bytes=kv_bytes_per_rank(layer, weights, tensor),
        window=layer.window,
    )


def _blend(memory_s: float, compute_s: float, exponent: float) -> float:
    """Memory and arithmetic side by side: the exponent's norm of the two."""
    low, high = (memory_s, compute_s) if memory_s < compute_s else (compute_s, memory_s)
    if low <= 0.0:
        return high
    # The ratio to the power cannot overflow, unlike the times themselves.
    return high * float((1.0 + (low / high) ** exponent) ** (1.0 / exponent))


def _busiest(uneven: float, tokens: float, ranks: int) -> float:
    """Work of the busiest of ``ranks`` ranks with whole experts over the mean, where tokens choose experts evenly and independently.

    M tokens of k experts each fall on T ranks: the mean is M k / T, and the largest of T such counts lies about sqrt(2 ln T) deviations
    above it (the usual bound on a maximum of Gaussians), which is 1 + sqrt(2 ln T (T - 1) / (M k)); never more than all on one. Real
    routers are less even than that: it is a lower bound.
    """
    return min(float(ranks), 1.0 + math.sqrt(uneven / max(tokens, 1e-9)))


def _windowed(new: float, window: int) -> float:
    """Mean number of earlier tokens of its own prompt that a token sees through a window."""
    return new / 2 if new <= window else window - window * window / (2 * new)


@dataclass(frozen=True, slots=True)
class StepTime:
    """``latency``: first stage to last; ``bottleneck``: the slowest stage and its hop, which bounds throughput."""

    latency: float
    bottleneck: float


def step_time(rates: Rates, cut: Costs, work: Work) -> StepTime:
    """One engine step through all stages."""
    return StepTime(*stepper(rates, cut)(work.decodes, work.context, work.chunks, work.finished))


Stepper = Callable[[float, float, tuple[tuple[float, float], ...], int], tuple[float, float]]


def stepper(rates: Rates, cut: Costs) -> Stepper:
    """`step_time` with everything that does not depend on the work looked up once, for who asks for many steps.

    Returns:
        A function of what a Work holds (decodes, context, chunks, finished) to what a StepTime holds (latency, bottleneck).
    """
    blend, layout, hidden_bytes, several = rates.blend, cut.layout, cut.hidden_bytes, len(cut.stages) > 1
    rate_of, layer_overhead, per_byte = rates.compute, rates.layer_overhead, rates.activation_s_per_byte
    # Ranks that share a core take turns: those of one stage always, stages where several steps are under way.
    turns = rates.turns(layout.tensor_parallel_size)
    more_turns = rates.turns(layout.world_size) / turns
    gang_s = rates.gang_overhead if layout.world_size > 1 else 0.0
    crowded = rates.shared_cores is not None and layout.world_size >= rates.shared_cores
    taken_s = rates.engine_cpu if crowded else 0.0
    experts, kv, attention = rates.experts, rates.kv, rates.attention
    penalty_of = rates.mid_batch if cut.eight_bit else None
    kinds = [(kind, kind.dense_bytes / rates.memory, kind.expert_bytes / rates.memory) for kind in cut.kinds]
    stages = [
        (count, stage.held, stage.head_bytes / rates.head_memory, stage.head_flops / rates.head_compute)
        for stage, count in cut.distinct
    ]

    def step(
        decodes: float, context: float, chunks: tuple[tuple[float, float], ...], finished: int
    ) -> tuple[float, float]:
        tokens = decodes
        for new, _ in chunks:
            tokens += new
        compute, size = rate_of(tokens), tokens * hidden_bytes
        reduce_s = all_reduce_s(rates, layout, size)
        # What every layer pays, whatever its kind.
        each = layer_overhead + size * per_byte
        penalty = 1.0 if penalty_of is None else penalty_of(tokens)
        # Stages hold layers of the same few kinds, so each kind is timed once, not once per stage.
        layer_s = []
        for kind, dense_s, expert_s in kinds:
            linear = _blend(dense_s, kind.dense_flops * tokens / compute, blend)
            if expert_s:
                # Experts that none of the tokens visits are not read (tokens choose independently).
                touched = 1.0 - (1.0 - kind.visited) ** tokens
                flops = kind.expert_flops * tokens
                if kind.uneven:
                    busiest = _busiest(kind.uneven, tokens, layout.tensor_parallel_size)
                    touched, flops = min(1.0, busiest * touched), busiest * flops
                linear += _blend(expert_s * touched, flops / experts, blend)
            read, pairs = _attended(kind.window, decodes, context, chunks)
            own_s = each + penalty * linear + read * kind.kv_bytes / kv + pairs * kind.score_flops / attention
            layer_s.append(turns * own_s + 2 * reduce_s)
        heads = decodes + finished
        total = slowest = 0.0
        for count, held, head_memory_s, head_s in stages:
            time = turns * rates.step_overhead
            for index, layers in held:
                time += layers * layer_s[index]
            if head_memory_s:
                time += reduce_s
                if heads:
                    time += turns * _blend(head_memory_s, head_s * heads, blend)
                    time += all_gather_s(rates, layout, heads * cut.logit_bytes)
            total += count * time
            slowest = max(slowest, time)
        total += gang_s
        if not several:
            return total, total
        # Llama-like models hand on the hidden state and the residual.
        hops, slowest_hop = pipeline_hops_s(rates, layout, 2 * size)
        return total + hops, more_turns * slowest + slowest_hop + taken_s

    return step


def _attended(
    window: int | None, decodes: float, context: float, chunks: tuple[tuple[float, float], ...]
) -> tuple[float, float]:
    """Tokens of KV cache that one layer reads, and pairs of tokens of prompts that it scores."""
    read, pairs = decodes * (context if window is None else min(context, window)), 0.0
    for new, done in chunks:
        # A causal prompt sees on average half of itself, inside the window, and all that was there before.
        before = done if window is None else min(done, window)
        seen = new / 2 if window is None else _windowed(new, window)
        pairs += new * (seen + before)
        read += before
    return read, pairs


def decode_step(rates: Rates, cut: Costs, batch: float, context: float) -> float:
    """Seconds per output token with ``batch`` running requests of mean context ``context``.

    A pipeline of P stages works on up to P micro-batches at once: fewer requests than stages leave bubbles.
    """
    stages = len(cut.stages)
    micro = max(1.0, min(float(stages), batch))
    step = step_time(rates, cut, Work(decodes=batch / micro, context=context))
    if stages == 1:
        return step.latency + batch * rates.sequence_overhead
    return max(step.latency, micro * step.bottleneck) + batch * rates.sequence_overhead


def prefill(
    rates: Rates,
    cut: Costs,
    tokens: float,
    *,
    batched_tokens: int,
    context: float = 0.0,
    sequences: float = 1.0,
    stepper_known: Stepper | None = None,
) -> StepTime:
    """Prompts of ``tokens`` tokens in all, in chunks of ``batched_tokens``; the engine's work per request is extra."""
    step = stepper_known or stepper(rates, cut)
    chunks = max(1, -int(-tokens // batched_tokens))
    size = tokens / chunks
    latency = bottleneck = 0.0
    # A chunk's time grows evenly with what was there before, so a long row of chunks is its ends' mean.
    indices = list(range(chunks)) if chunks <= _EXACT_CHUNKS else [0, 1, chunks - 1]
    for index in indices:
        times_over = 1.0 if index == 0 or chunks <= _EXACT_CHUNKS else (chunks - 1) / 2
        done = context + index * size / sequences
        parts = ((size / sequences, done),) * math.ceil(sequences) if sequences > 1 else ((size, done),)
        through, slowest = step(0.0, 0.0, parts, math.ceil(sequences))
        bottleneck += times_over * slowest
        # Chunks follow each other through the pipeline: the first one pays all stages, the others the slowest.
        latency += through if index == 0 else times_over * slowest
    return StepTime(latency, bottleneck)
