"""The question that a judgement answers, the layouts that answer it, and one of them judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from spanwise.estimate.layout import Layout, fits_nodes, needs_whole_experts, valid_tensor_parallel
from spanwise.estimate.serving import MAX_SEQUENCES, MAX_SEQUENCES_BIG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanwise.estimate.memory import Memory
    from spanwise.estimate.serving import Service
    from spanwise.facts.book import GpuFacts, LinkFacts
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import ModelFacts
    from spanwise.intent.types import Objectives, Today, Workload

# vLLM's own default for a server (vllm/engine/arg_utils.py): 8192 tokens per step on GPUs of 70 GiB and more, else 2048.
_BIG_GPU_BYTES = 70 * 2**30
_BATCHED_BIG, BATCHED_SMALL = 8192, 2048
# Requests longer than the mean must fit too: without max_model_len twice the mean request is allowed for, at least this.
_SHORTEST_CONTEXT = 4096
# Replicas beyond these sizes are not searched: no deployment is known that comes near.
_MOST_RANKS, _WIDEST_TENSOR, _LONGEST_PIPELINE = 1024, 256, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything a judgement depends on, with names resolved to facts. Flips are found by changing one part of it."""

    model: ModelFacts
    weights: WeightFormat
    gpu: GpuFacts
    gpus_per_node: int
    nodes: int
    fabric: LinkFacts | None
    workload: Workload
    objectives: Objectives
    max_model_len: int
    utilization: float
    spares: int
    host_availability: float
    today: Today | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    max_model_len_stated: bool = True

    @property
    def gpus(self) -> int:
        """GPUs at hand."""
        return self.gpus_per_node * self.nodes


@dataclass(frozen=True)
class Candidate:
    """A layout with replicas, and what it does. ``service`` is None where it does not hold the model.

    ``tier``: 0 carries the load and keeps the objectives, 1 carries the load, 2 does neither, 3 does not hold the
    model.
    """

    layout: Layout
    replicas: int
    memory: Memory
    batched_tokens: int
    service: Service | None
    tier: int
    badness: float

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.layout.world_size * self.replicas

    @cached_property
    def key(self) -> tuple[float, ...]:
        """Smaller is better: what it achieves, not crossing nodes, fewer GPUs, the smaller span, time."""
        service = self.service
        time = 0.0 if service is None else service.tpot_s + (service.ttft_s or 0.0) / 1e3
        return (
            self.tier,
            self.badness,
            float(self.layout.nodes > 1),
            float(self.gpus),
            float(self.layout.world_size > 1),
            time,
        )


def context_length(stated: int | None, tokens_per_request: int, longest: int | None) -> int:
    """The context that is judged: what the intent states, else twice the mean request, at most what the model holds."""
    if stated is not None:
        return stated
    length = max(_SHORTEST_CONTEXT, -(-2 * tokens_per_request // 1024) * 1024)
    return length if longest is None else min(length, longest)


def layouts(question: Question) -> Iterator[Layout]:
    """Every layout that the model and the hardware allow, smallest first; within one node before across nodes."""
    found = []
    per_node = question.gpus_per_node
    ranks = min(question.gpus, _MOST_RANKS)
    widest = min(ranks, _WIDEST_TENSOR)
    sizes = dict.fromkeys(valid_tensor_parallel(question.model, widest), False)
    if question.model.moe:
        # Only where slices of the experts are impossible: whole ones are unevenly busy, which slices are not.
        whole = range(2, min(widest, question.model.heads) + 1)
        sizes |= {size: True for size in whole if size not in sizes and needs_whole_experts(question.model, size)}
    for tensor, whole_experts in sorted(sizes.items()):
        for pipeline in range(1, min(question.model.layers, ranks // tensor, _LONGEST_PIPELINE) + 1):
            # Long pipelines of odd length differ too little to be judged one by one.
            if pipeline > 8 and pipeline % 4:
                continue
            layout = Layout(tensor, pipeline, per_node, expert_parallel=whole_experts)
            joined = (layout.nodes == 1 or question.fabric is not None) and (
                layout.world_size == layout.nodes or question.gpu.link is not None
            )
            if joined and fits_nodes(layout) and layout.nodes <= question.nodes:
                found.append(layout)
    return iter(sorted(found, key=lambda item: (item.nodes > 1, item.world_size, item.pipeline_parallel_size)))


def default_batched_tokens(gpu: GpuFacts) -> int:
    """VLLM's own ``max_num_batched_tokens`` of a server on this GPU."""
    return _BATCHED_BIG if gpu.memory.value >= _BIG_GPU_BYTES else BATCHED_SMALL


def default_max_sequences(gpu: GpuFacts) -> int:
    """VLLM's own ``max_num_seqs`` of a server on this GPU."""
    return MAX_SEQUENCES_BIG if gpu.memory.value >= _BIG_GPU_BYTES else MAX_SEQUENCES
