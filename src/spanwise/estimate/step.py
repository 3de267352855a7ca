"""Time of one engine step: a roofline with measured efficiencies, the collectives and the pipeline. Seconds.

Decode reads every weight and the KV cache of every running request once per token; prefill multiplies. Per stage::

    t = layers x overhead + max(weights / memory + factor x FLOP / peak,  FLOP / compute) + attention + all-reduces

The roofline is Williams et al. 2009 (doi 10.1145/1498765.1498785); the constants stand in spanwise.estimate.rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanwise.estimate.collectives import all_reduce_s, pipeline_hops_s
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
    flops_per_token: float
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
    distinct: tuple[tuple[_Stage, int], ...]  # stages that are alike, and how many: each is timed once


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
        groups = tuple(_times(items[0], len(items)) for items in held.values())
        last = index == pipeline - 1
        flops = 2.0 * model.vocab_size * model.hidden_size / tensor
        stages.append(_Stage(groups, count, float(head) if last else 0.0, flops if last else 0.0))
        first += count
    alike: dict[_Stage, int] = {}
    for stage in stages:
        alike[stage] = alike.get(stage, 0) + 1
    return Costs(layout, tuple(stages), model.hidden_size * weights.plain_bits // 8, tuple(alike.items()))


def _group(layer: LayerFacts, weights: WeightFormat, tensor: int) -> _Group:
    experts = -(-weights.expert_bytes(layer.expert_linear) // tensor)
    kv_split = min(tensor, layer.kv_heads)
    routed = layer.expert_linear * layer.experts_per_token / layer.experts if layer.experts else 0.0
    linear = (layer.split_linear + routed) / tensor + layer.kv_linear / kv_split + layer.replicated_linear
    return _Group(
        count=1,
        dense_bytes=float(layer_bytes_per_rank(layer, weights, tensor) - experts),
        expert_bytes=float(experts),
        visited=layer.experts_per_token / layer.experts if layer.experts else 0.0,
        flops_per_token=2.0 * linear,
        score_flops=2.0 * layer.score_width / tensor,
        kv_bytes=kv_bytes_per_rank(layer, weights, tensor),
        window=layer.window,
    )


def _times(group: _Group, count: int) -> _Group:
    return _Group(
        count,
        group.dense_bytes,
        group.expert_bytes,
        group.visited,
        group.flops_per_token,
        group.score_flops,
        group.kv_bytes,
        group.window,
    )


def _stage_s(
    rates: Rates, stage: _Stage, costs_: Costs, *, tokens: float, sequences: float, context: float, decode: bool
) -> float:
    """One stage working on ``tokens`` new tokens of ``sequences`` sequences that hold ``context`` tokens each."""
    weight_bytes, flops, attention = stage.head_bytes, stage.head_flops * sequences, 0.0
    for group in stage.groups:
        # Experts that none of the tokens visits are not read (tokens choose independently).
        touched = 1.0 - (1.0 - group.visited) ** tokens if group.expert_bytes else 0.0
        weight_bytes += group.count * (group.dense_bytes + group.expert_bytes * touched)
        flops += group.count * group.flops_per_token * tokens
        reach = context if group.window is None else min(context, group.window)
        if decode:
            attention += group.count * sequences * reach * group.kv_bytes / rates.kv
        else:
            new = tokens / max(sequences, 1.0)
            # A causal prompt sees on average half of itself, inside the window, and all that was there before.
            seen = new / 2 if group.window is None else _windowed(new, group.window)
            attention += group.count * group.score_flops * tokens * (seen + reach) / rates.attention
            attention += group.count * sequences * reach * group.kv_bytes / rates.kv
    memory_s = weight_bytes / rates.memory
    linear_s = max(memory_s + rates.batch_factor * flops / rates.linear_peak, flops / rates.linear)
    reduces = 2 * stage.layers + (1 if stage.head_bytes else 0)
    reduce_s = reduces * all_reduce_s(rates, costs_.layout, tokens * costs_.hidden_bytes)
    return stage.layers * rates.layer_overhead + linear_s + attention + reduce_s


def _windowed(new: float, window: int) -> float:
    """Mean number of earlier tokens of its own prompt that a token sees through a window."""
    return new / 2 if new <= window else window - window * window / (2 * new)


@dataclass(frozen=True, slots=True)
class StepTime:
    """``latency``: first stage to last; ``bottleneck``: the slowest stage, which bounds throughput."""

    latency: float
    bottleneck: float


def decode_step(rates: Rates, cut: Costs, batch: float, context: float) -> float:
    """Seconds per output token with ``batch`` running requests of mean context ``context``.

    A pipeline of P stages works on up to P micro-batches at once: fewer requests than stages leave bubbles.
    """
    stages = len(cut.stages)
    micro = max(1.0, min(float(stages), batch))
    share = batch / micro
    total = slowest_stage = 0.0
    for stage, count in cut.distinct:
        time = _stage_s(rates, stage, cut, tokens=share, sequences=share, context=context, decode=True)
        total += count * time
        slowest_stage = max(slowest_stage, time)
    if stages == 1:
        return total
    # Llama-like models hand on the hidden state and the residual.
    hops, slowest = pipeline_hops_s(rates, cut.layout, 2 * share * cut.hidden_bytes)
    return max(total + hops, micro * (slowest_stage + slowest))


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
        total = slowest_stage = 0.0
        for stage, count in cut.distinct:
            time = _stage_s(rates, stage, cut, tokens=size, sequences=sequences, context=done, decode=False)
            total += count * time
            slowest_stage = max(slowest_stage, time)
        hops, slowest = pipeline_hops_s(rates, cut.layout, 2 * size * cut.hidden_bytes)
        worst = slowest_stage + slowest
        bottleneck += times_over * worst
        # Chunks follow each other through the pipeline: the first one pays all stages, the others the slowest.
        latency += total + hops if index == 0 else times_over * worst
    return StepTime(latency, bottleneck)
