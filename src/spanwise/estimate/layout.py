"""A layout: how one replica is cut (TP x PP), which layers each stage holds, and where its ranks sit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from spanwise.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spanwise.facts.model import LayerFacts, ModelFacts

    Runs = tuple[tuple[LayerFacts, int], ...]

Kind = TypeVar("Kind")

# vLLM pads the vocabulary to a multiple of this (vllm/model_executor/layers/vocab_parallel_embedding.py).
_VOCAB_PADDING = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """One replica on nodes with ``gpus_per_node`` GPUs each.

    ``partition`` are the layers per stage, None for vLLM's own split; with ``expert_parallel`` the ranks of a stage hold whole experts
    instead of a slice of each (vLLM's ``--enable-expert-parallel`` without data parallelism).
    """

    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpus_per_node: int
    partition: tuple[int, ...] | None = None
    expert_parallel: bool = False

    def stage_layers(self, layers: int) -> tuple[int, ...]:
        """Layers of each stage of a model with ``layers`` layers."""
        return self.partition or stage_layers(layers, self.pipeline_parallel_size)

    @property
    def world_size(self) -> int:
        """Ranks of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def nodes_per_stage(self) -> int:
        """Nodes that one tensor-parallel group spans."""
        return -(-self.tensor_parallel_size // self.gpus_per_node)

    @property
    def stages_per_node(self) -> int:
        """Whole stages that one node holds; 0 where a stage spans nodes."""
        return self.gpus_per_node // self.tensor_parallel_size

    @property
    def nodes(self) -> int:
        """Nodes that one replica spans."""
        return _nodes(self.tensor_parallel_size, self.pipeline_parallel_size, self.gpus_per_node)

    @property
    def hops(self) -> tuple[int, int]:
        """Pipeline hops inside a node, and hops between nodes."""
        return _hops(self.tensor_parallel_size, self.pipeline_parallel_size, self.gpus_per_node)

    def replicas_on(self, nodes: int) -> int:
        """How many replicas ``nodes`` nodes hold."""
        if self.world_size <= self.gpus_per_node:
            return nodes * (self.gpus_per_node // self.world_size)
        return nodes // self.nodes


# Every step that is estimated asks for these two, for few different layouts.
@lru_cache(maxsize=4096)
def _nodes(tensor: int, pipeline: int, per_node: int) -> int:
    if tensor * pipeline <= per_node:
        return 1
    if per_node // tensor:
        return -(-pipeline // (per_node // tensor))
    return -(-tensor // per_node) * pipeline


@lru_cache(maxsize=4096)
def _hops(tensor: int, pipeline: int, per_node: int) -> tuple[int, int]:
    hops = pipeline - 1
    between = _nodes(tensor, pipeline, per_node) - 1 if per_node // tensor else hops
    return hops - between, between


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers per stage, as vLLM splits them (vllm/distributed/utils.py, get_pp_indices).

    The remainder goes one layer each to the stages before the last, from the back; the last stage has the head to
    carry.
    """
    split = [layers // stages] * stages
    for index in range(2, layers % stages + 2):
        split[-index] += 1
    return tuple(split)


def layer_runs(model: ModelFacts) -> Runs:
    """The model's layers as runs of equal ones: models repeat a few distinct layers, and each is computed once."""
    runs: list[tuple[LayerFacts, int]] = []
    for layer in model.layer_facts:
        if runs and (runs[-1][0] is layer or runs[-1][0] == layer):
            runs[-1] = (layer, runs[-1][1] + 1)
        else:
            runs.append((layer, 1))
    return tuple(runs)


def split_runs(runs: Sequence[tuple[Kind, int]], counts: Iterable[int]) -> Iterator[tuple[tuple[Kind, int], ...]]:
    """Cut ``runs`` of (kind, layers) into stages of ``counts`` layers each."""
    if len(runs) == 1:
        kind = runs[0][0]
        yield from (((kind, count),) for count in counts)
        return
    rest = iter(runs)
    kind, left = next(rest)
    for count in counts:
        held, missing = [], count
        while missing:
            if not left:
                kind, left = next(rest)
            taken = min(left, missing)
            held.append((kind, taken))
            left, missing = left - taken, missing - taken
        yield tuple(held)


def invalid_tensor_parallel(model: ModelFacts, size: int, *, whole_experts: bool = False) -> str | None:
    """Why vLLM refuses this tensor-parallel size for this model; None where it accepts it.

    Heads must divide (vllm/config/model.py); KV heads divide, or are replicated evenly (LlamaAttention); column- and
    row-parallel linear layers and the padded vocabulary must divide as well (ColumnParallelLinear,
    VocabParallelEmbedding). Experts are cut like other layers, and not through a block of fp8 (validate_fp8_block_shape_moe); with
    ``whole_experts`` (expert parallelism) they are not cut at all.
    """
    if model.heads % size:
        return f"{size} does not divide the {model.heads} attention heads"
    mla = all(layer.kv_linear == 0 for layer in model.layer_facts)
    if not mla and model.kv_heads % size and size % model.kv_heads:
        return f"the {model.kv_heads} KV heads can be neither divided by {size} nor replicated evenly"
    widths = [model.intermediate_size, *model.shared_widths]
    expert = expert_width(model)
    if whole_experts:
        if expert is None:
            return "the model has no experts to keep whole"
        if expert in widths:
            widths.remove(expert)
    for width in widths:
        if width % size:
            return f"{size} does not divide the MLP width {width}"
    block = model.weight_format.block
    if expert is not None and block is not None and size > 1 and not whole_experts and expert // size % block:
        return f"{size} cuts the experts' width {expert} through fp8 blocks of {block}"
    padded = -(-model.vocab_size // _VOCAB_PADDING) * _VOCAB_PADDING
    if padded % size:
        return f"{size} does not divide the padded vocabulary {padded}"
    return None


def expert_width(model: ModelFacts) -> int | None:
    """Width of one routed expert (gate, up and down: three matrices of it); None for a dense model."""
    for layer in model.layer_facts:
        if layer.experts:
            return layer.expert_linear // (layer.experts * 3 * model.hidden_size)
    return None


def valid_tensor_parallel(model: ModelFacts, limit: int) -> tuple[int, ...]:
    """Every tensor-parallel size up to ``limit`` that the model allows."""
    return tuple(size for size in range(1, min(limit, model.heads) + 1) if invalid_tensor_parallel(model, size) is None)


def needs_whole_experts(model: ModelFacts, size: int) -> bool:
    """True where this tensor-parallel size is possible only with experts kept whole."""
    return (
        model.moe
        and size > 1
        and invalid_tensor_parallel(model, size) is not None
        and invalid_tensor_parallel(model, size, whole_experts=True) is None
    )


def fits_nodes(layout: Layout) -> bool:
    """True where stages sit evenly on nodes: whole stages per node, or whole nodes per stage."""
    size, per_node = layout.tensor_parallel_size, layout.gpus_per_node
    return size <= per_node or size % per_node == 0


def check_layout(model: ModelFacts, layout: Layout) -> None:
    """Refuse what vLLM would refuse.

    Raises:
        LayoutError: Names the sizes and what is valid.
    """
    size, stages = layout.tensor_parallel_size, layout.pipeline_parallel_size
    if size < 1 or stages < 1:
        raise LayoutError(f"tensor {size} x pipeline {stages} is not a layout", remedy="both sizes are at least 1")
    problem = invalid_tensor_parallel(model, size, whole_experts=layout.expert_parallel)
    if problem:
        valid = ", ".join(map(str, valid_tensor_parallel(model, max(64, layout.gpus_per_node))))
        raise LayoutError(
            f"tensor_parallel_size {size} is not possible for {model.name}: {problem}",
            where="tensor_parallel_size",
            remedy=f"valid sizes are {valid} ({model.heads} heads, {model.kv_heads} KV heads)",
        )
    if stages > model.layers:
        raise LayoutError(
            f"pipeline_parallel_size {stages} is more than the {model.layers} layers of {model.name}",
            where="pipeline_parallel_size",
            remedy=f"use at most {model.layers}",
        )
    if not fits_nodes(layout):
        raise LayoutError(
            f"tensor_parallel_size {size} does not fill nodes of {layout.gpus_per_node} GPUs evenly",
            where="tensor_parallel_size",
            remedy=f"use at most {layout.gpus_per_node}, or a multiple of it",
        )
