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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.estimate.collectives import all_gather_s, all_reduce_s, pipeline_hops_s
from spanwise.estimate.layout import Layout, stage_layers
from spanwise.estimate.memory import kv_bytes_per_rank, layer_bytes_per_rank, vocab_bytes_per_rank

if TYPE_CHECKING:
    from spanwise.estimate.rates import Rates
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import LayerFacts, ModelFacts


_EXACT_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers that are alike, in one stage: what one rank reads, multiplies and keeps."""

    count: int
    dense_bytes: float
    expert_bytes: float
    visited: float  # share of experts one token visits
    dense_flops: float  # per token
    expert_flops: float  # per token
    score_flops: float  # per pair of tokens
    kv_bytes: int
    window: int | None


@dataclass(frozen=True, slots=True)
class _Stage:
    groups: tuple[_Group, ...]
    layers: int
    head_bytes: float
    head_flops: float


@dataclass(frozen=True, slots=True)
class Costs:
    """A model cut by a layout: everything the time formulas need that does not depend on the load."""

    layout: Layout
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
        return self.decodes + sum(new for new, _ in self.chunks)


def costs(model: ModelFacts, weights: WeightFormat, layout: Layout) -> Costs:
    """Cut ``model`` by ``layout``."""
    tensor, pipeline = layout.tensor_parallel_size, layout.pipeline_parallel_size
    made: dict[LayerFacts, _Group] = {}
    by_id: dict[int, _Group] = {}
    keys = []
    for layer in model.layer_facts:
        group = by_id.get(id(layer))
        if group is None:
            group = made.setdefault(layer, _group(layer, weights, tensor))
            by_id[id(layer)] = group
        keys.append(group)
    stages, first = [], 0
    head = vocab_bytes_per_rank(model, weights, tensor)
    for index, count in enumerate(stage_layers(model.layers, pipeline)):
        held: dict[int, list[_Group]] = {}
        for group in keys[first : first + count]:
            held.setdefault(id(group), []).append(group)
        groups = tuple(replace(items[0], count=len(items)) for items in held.values())
        last = index == pipeline - 1
        flops = 2.0 * model.vocab_size * model.hidden_size / tensor
        stages.append(_Stage(groups, count, float(head) if last else 0.0, flops if last else 0.0))
        first += count
    alike: dict[_Stage, int] = {}
    for stage in stages:
        alike[stage] = alike.get(stage, 0) + 1
    hidden = model.hidden_size * weights.plain_bits // 8
    logits = model.vocab_size * weights.plain_bits // 8
    return Costs(layout, tuple(stages), hidden, logits, tuple(alike.items()), weights.fp8_math)


def _group(layer: LayerFacts, weights: WeightFormat, tensor: int) -> _Group:
    experts = -(-weights.expert_bytes(layer.expert_linear) // tensor)
    kv_split = min(tensor, layer.kv_heads)
    routed = layer.expert_linear * layer.experts_per_token / layer.experts if layer.experts else 0.0
    linear = layer.split_linear / tensor + layer.kv_linear / kv_split + layer.replicated_linear
    return _Group(
        count=1,
        dense_bytes=float(layer_bytes_per_rank(layer, weights, tensor) - experts),
        expert_bytes=float(experts),
        visited=layer.experts_per_token / layer.experts if layer.experts else 0.0,
        dense_flops=2.0 * linear,
        expert_flops=2.0 * routed / tensor,
        score_flops=2.0 * layer.score_width / tensor,
        kv_bytes=kv_bytes_per_rank(layer, weights, tensor),
        window=layer.window,
    )


def stage_s(rates: Rates, stage: _Stage, cut: Costs, work: Work, tokens: float) -> float:
    """One stage doing ``work``, which is ``tokens`` tokens in all."""
    blend = rates.blend
    compute = rates.compute(tokens)
    linear = attention = 0.0
    for group in stage.groups:
        memory_s, compute_s = group.dense_bytes / rates.memory, group.dense_flops * tokens / compute
        if group.expert_bytes:
            # Experts that none of the tokens visits are not read (tokens choose independently).
            touched = 1.0 - (1.0 - group.visited) ** tokens
            expert_s = _blend(
                group.expert_bytes * touched / rates.memory, group.expert_flops * tokens / rates.experts, blend
            )
            linear += group.count * (_blend(memory_s, compute_s, blend) + expert_s)
        else:
            linear += group.count * _blend(memory_s, compute_s, blend)
        attention += group.count * _attention(rates, group, work)
    if cut.eight_bit:
        linear *= rates.mid_batch(tokens)
    heads = work.decodes + work.finished
    if stage.head_bytes and heads:
        linear += _blend(stage.head_bytes / rates.head_memory, stage.head_flops * heads / rates.head_compute, blend)
    reduces = 2 * stage.layers + (1 if stage.head_bytes else 0)
    size = tokens * cut.hidden_bytes
    shared_s = reduces * all_reduce_s(rates, cut.layout, size)
    if stage.head_bytes and heads:
        shared_s += all_gather_s(rates, cut.layout, heads * cut.logit_bytes)
    moved_s = stage.layers * size * rates.activation_s_per_byte
    own_s = stage.layers * rates.layer_overhead + rates.step_overhead + linear + attention + moved_s
    return own_s * rates.turns(cut.layout.tensor_parallel_size) + shared_s


def _blend(memory_s: float, compute_s: float, exponent: float) -> float:
    """Memory and arithmetic side by side: the exponent's norm of the two."""
    low, high = (memory_s, compute_s) if memory_s < compute_s else (compute_s, memory_s)
    if low <= 0.0:
        return high
    # The ratio to the power cannot overflow, unlike the times themselves.
    return high * float((1.0 + (low / high) ** exponent) ** (1.0 / exponent))


def _attention(rates: Rates, group: _Group, work: Work) -> float:
    window = group.window
    reach = work.context if window is None else min(work.context, window)
    read, pairs = work.decodes * reach, 0.0
    for new, done in work.chunks:
        # A causal prompt sees on average half of itself, inside the window, and all that was there before.
        before = done if window is None else min(done, window)
        seen = new / 2 if window is None else _windowed(new, window)
        pairs += new * (seen + before)
        read += before
    return read * group.kv_bytes / rates.kv + pairs * group.score_flops / rates.attention


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
    total = slowest_stage = 0.0
    tokens = work.tokens
    for stage, count in cut.distinct:
        time = stage_s(rates, stage, cut, work, tokens)
        total += count * time
        slowest_stage = max(slowest_stage, time)
    stages = len(cut.stages)
    if stages == 1:
        return StepTime(total, total)
    # Stages whose ranks share a core take turns too, where several steps are under way.
    slowest_stage *= rates.turns(stages * cut.layout.tensor_parallel_size) / rates.turns(
        cut.layout.tensor_parallel_size
    )
    # Llama-like models hand on the hidden state and the residual.
    hops, slowest = pipeline_hops_s(rates, cut.layout, 2 * tokens * cut.hidden_bytes)
    return StepTime(total + hops, slowest_stage + slowest)


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
    rates: Rates, cut: Costs, tokens: float, *, batched_tokens: int, context: float = 0.0, sequences: float = 1.0
) -> StepTime:
    """Prompts of ``tokens`` tokens in all, in chunks of ``batched_tokens``; the engine's work per request is extra."""
    chunks = max(1, -int(-tokens // batched_tokens))
    size = tokens / chunks
    latency = bottleneck = 0.0
    # A chunk's time grows evenly with what was there before, so a long row of chunks is its ends' mean.
    indices = list(range(chunks)) if chunks <= _EXACT_CHUNKS else [0, 1, chunks - 1]
    for index in indices:
        times_over = 1.0 if index == 0 or chunks <= _EXACT_CHUNKS else (chunks - 1) / 2
        done = context + index * size / sequences
        parts = ((size / sequences, done),) * math.ceil(sequences) if sequences > 1 else ((size, done),)
        step = step_time(rates, cut, Work(chunks=parts, finished=math.ceil(sequences)))
        bottleneck += times_over * step.bottleneck
        # Chunks follow each other through the pipeline: the first one pays all stages, the others the slowest.
        latency += step.latency if index == 0 else times_over * step.bottleneck
    return StepTime(latency, bottleneck)
