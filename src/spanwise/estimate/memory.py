"""Where the bytes of one GPU go: weights, activations, graphs and buffers, KV cache. Everything in bytes per rank.

Sources: the weight split is vLLM's (embedding on the first stage, head on the last; a tied embedding is loaded on
both; norms and routers whole on every rank). The activation and reserve terms are fitted to the KV capacities that
vLLM 0.24 reported on an H200 (8B bf16: 897,264 tokens; 70B fp8: 182,368 tokens; max_num_batched_tokens 8192): with
150.1 GB visible, 1.33 and 2.50 GiB are neither weights nor KV cache, which 0.163 GiB + 1.495 x (the largest layer's
working set) gives. Two points fit two constants: other models are an extrapolation.
tests/unit/estimate/test_memory.py holds the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanwise.estimate.layout import Layout, layer_runs, split_runs

if TYPE_CHECKING:
    from spanwise.estimate.layout import Runs
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import LayerFacts, ModelFacts

RESERVE_BYTES = round(0.163 * 2**30)
WORKING_SET_FACTOR = 1.495
# Communication buffers of one NCCL communicator; NCCL_BUFFSIZE is 4 MiB per channel and direction, tens of channels.
# Assumption, since no measurement with more than one rank is at hand.
NCCL_BYTES = 400 * 2**20
# vLLM profiles the sampler with max_num_seqs rows of logits: this many times their float32 size is in use at its peak, and the larger
# of this and the layers' peak counts. Models on its V2 runner (of those measured: Llama) do not pay this, nor for CUDA graphs ahead of
# their capture. Fitted to Qwen2.5-14B on an H100 and Qwen2.5-32B on an H200 (vLLM 0.24); Mixtral checks it.
SAMPLER_FACTOR = 3.96
GRAPH_BYTES = round(0.65 * 2**30)
_V2_RUNNER = frozenset({"LlamaForCausalLM"})


@dataclass(frozen=True, slots=True)
class StageMemory:
    """One stage, bytes of one of its ranks."""

    first_layer: int
    end_layer: int
    weights: int
    kv_per_token: int


@dataclass(frozen=True, slots=True)
class Memory:
    """One replica's memory; the tightest rank decides ``kv_capacity_tokens``."""

    total: int
    usable: int
    activations: int
    reserve: int
    stages: tuple[StageMemory, ...]
    kv_capacity_tokens: int

    @property
    def tightest(self) -> StageMemory:
        """The stage with the fewest tokens of KV cache."""
        spare = self.usable - self.activations - self.reserve
        return min(self.stages, key=lambda stage: (spare - stage.weights) / max(1, stage.kv_per_token))

    @property
    def fits(self) -> bool:
        """True where weights and working memory fit at all."""
        return self.usable >= self.activations + self.reserve + max(stage.weights for stage in self.stages)


def expert_bytes_per_rank(layer: LayerFacts, weights: WeightFormat, layout: Layout) -> int:
    """Routed experts of one layer on one rank: a slice of each, or whole ones, on the first ranks one more where they do not divide."""
    total, tensor = weights.expert_bytes(layer.expert_linear), layout.tensor_parallel_size
    if not layout.expert_parallel or not layer.experts:
        return -(-total // tensor)
    return -(-total * -(-layer.experts // tensor) // layer.experts)


def layer_bytes_per_rank(layer: LayerFacts, weights: WeightFormat, layout: Layout) -> int:
    """Weights of one layer on one rank."""
    tensor = layout.tensor_parallel_size
    return (
        -(-weights.linear_bytes(layer.split_linear) // tensor)
        + expert_bytes_per_rank(layer, weights, layout)
        + -(-weights.linear_bytes(layer.kv_linear) // min(tensor, layer.kv_heads))
        + weights.linear_bytes(layer.replicated_linear)
        + weights.plain_bytes(layer.other)
    )


def kv_bytes_per_rank(layer: LayerFacts, weights: WeightFormat, tensor: int) -> int:
    """KV cache of one token in one layer on one rank: KV heads are divided, or replicated beyond their number."""
    return layer.kv_values_per_token * weights.kv_bytes // min(tensor, layer.kv_heads)


def vocab_bytes_per_rank(model: ModelFacts, weights: WeightFormat, tensor: int) -> int:
    """One embedding table (or head) on one rank, the vocabulary padded to a multiple of 64."""
    padded = -(-model.vocab_size // 64) * 64
    return -(-weights.plain_bytes(padded * model.hidden_size) // tensor)


def stage_memory(
    model: ModelFacts, weights: WeightFormat, layout: Layout, runs: Runs | None = None
) -> tuple[StageMemory, ...]:
    """Weights and KV bytes of every stage; ``runs`` are the model's :func:`layer_runs`, where they are known already."""
    tensor, stages = layout.tensor_parallel_size, layout.pipeline_parallel_size
    table = vocab_bytes_per_rank(model, weights, tensor)
    sizes = [
        ((layer_bytes_per_rank(layer, weights, layout), kv_bytes_per_rank(layer, weights, tensor)), count)
        for layer, count in runs or layer_runs(model)
    ]
    # vLLM builds a multi-modal model's towers on every stage; on the last one they are counted with what follows the layers.
    towers, final = weights.plain_bytes(model.tower_params), weights.plain_bytes(model.final_params)
    split = layout.stage_layers(model.layers)
    known: dict[tuple[tuple[tuple[int, int], int], ...], tuple[int, int]] = {}
    result, first = [], 0
    for index, (count, held) in enumerate(zip(split, split_runs(sizes, split), strict=True)):
        sums = known.get(held)
        if sums is None:
            sums = known[held] = (
                sum(size * times for (size, _), times in held),
                sum(kv * times for (_, kv), times in held),
            )
        held_weights = sums[0]
        if index == 0:
            held_weights += table
        if index < stages - 1:
            held_weights += towers
        else:
            held_weights += final
            # A tied head is the embedding itself where both are on one rank, and a second copy where they are not.
            if not model.tied_embeddings or index > 0:
                held_weights += table
        result.append(StageMemory(first, first + count, held_weights, sums[1]))
        first += count
    return tuple(result)


def activation_bytes(
    model: ModelFacts, weights: WeightFormat, layout: Layout, batched_tokens: int, max_sequences: int = 256
) -> int:
    """Peak working memory of one step: hidden state and residual, and the MLP's up, gate and product (split by TP); or the sampler's."""
    # A mixture of experts runs each token through several experts of this width.
    visits = max((layer.experts_per_token for layer in model.layer_facts), default=0) or 1
    widest = max(model.intermediate_size * visits, *(0, *model.shared_widths))
    values = 2 * model.hidden_size + 3 * widest / layout.tensor_parallel_size
    layers = round(WORKING_SET_FACTOR * batched_tokens * values * weights.plain_bits / 8)
    if model.architecture in _V2_RUNNER:
        return layers
    return max(layers, round(SAMPLER_FACTOR * min(max_sequences, batched_tokens) * model.vocab_size * 4))


def replica_memory(
    model: ModelFacts,
    weights: WeightFormat,
    layout: Layout,
    *,
    gpu_memory_bytes: float,
    utilization: float,
    batched_tokens: int,
    max_sequences: int = 256,
    cuda: bool = True,
    stages: tuple[StageMemory, ...] | None = None,
) -> Memory:
    """The memory of every rank of one replica.

    ``gpu_memory_bytes`` is what CUDA reports as total; ``utilization`` is vLLM's ``gpu_memory_utilization``;
    ``max_sequences`` its ``max_num_seqs``; ``cuda`` is False for the CPU backend, which captures no graphs; ``stages``
    may be given where :func:`stage_memory` was already asked.
    """
    stages = stages or stage_memory(model, weights, layout)
    usable = int(gpu_memory_bytes * utilization)
    activations = activation_bytes(model, weights, layout, batched_tokens, max_sequences)
    reserve = RESERVE_BYTES + (NCCL_BYTES if layout.world_size > 1 else 0)
    if cuda and model.architecture not in _V2_RUNNER:
        reserve += GRAPH_BYTES
    spare = usable - activations - reserve
    alike = {(stage.weights, stage.kv_per_token) for stage in stages}
    capacity = min((spare - held) // kv for held, kv in alike if kv)
    # vLLM hands out whole blocks of 16 tokens.
    return Memory(int(gpu_memory_bytes), usable, activations, reserve, stages, max(0, capacity // 16 * 16))
