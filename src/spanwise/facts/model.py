"""ModelFacts: what a config.json says about memory and work, layer by layer. Derived, exact, immutable.

Counts are parameters (elements), not bytes; :mod:`spanwise.facts.dtypes` turns them into bytes. They are grouped by
how vLLM splits them over tensor-parallel ranks and by whether weight quantisation touches them, because memory per
GPU depends on exactly those two questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanwise.facts.dtypes import WeightFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One decoder layer.

    Attributes:
        split_linear: Weights of linear layers that tensor parallelism divides by its size (q, o, MLP; no experts).
        attention_linear: Those of them that belong to attention (q, o).
        expert_linear: Weights of routed experts, all of them, divided by the tensor-parallel size as well.
        kv_linear: k and v projections: divided by min(size, KV heads), replicated beyond (vLLM's QKVParallelLinear).
        replicated_linear: Weights of linear layers that every rank holds whole.
        other: Norms, routers, biases, sinks: small, kept in the activation's precision, counted whole on every rank.
        experts: Routed experts; 0 for a dense layer.
        experts_per_token: Routed experts that one token visits.
        kv_values_per_token: Elements the KV cache keeps per token over all KV heads.
        kv_heads: Heads the cache can be divided by.
        score_width: heads x (query-key size + value size): attention work per pair of tokens is 2 x this, in FLOP.
        window: Sliding window in tokens; None where attention is full.
        chunked: The window is a chunk: tokens see only their own chunk of that many, half of it on average.
    """

    split_linear: int
    attention_linear: int = 0
    expert_linear: int = 0
    kv_linear: int
    replicated_linear: int = 0
    other: int
    experts: int = 0
    experts_per_token: int = 0
    kv_values_per_token: int
    kv_heads: int
    score_width: int
    window: int | None = None
    chunked: bool = False

    @property
    def linear(self) -> int:
        """Every weight that quantisation may touch."""
        return self.split_linear + self.expert_linear + self.kv_linear + self.replicated_linear

    @property
    def parameters(self) -> int:
        """All parameters of this layer."""
        return self.linear + self.other

    @property
    def active_linear(self) -> int:
        """Linear weights one token is multiplied with."""
        routed = self.expert_linear * self.experts_per_token // self.experts if self.experts else 0
        return self.linear - self.expert_linear + routed


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model, from its config.json alone.

    Attributes:
        name: How the user called it.
        architecture: The name in ``architectures``, for example ``LlamaForCausalLM``.
        layer_facts: One entry per decoder layer, in order.
        intermediate_size: Width of the dense MLP, or of one expert where no layer is dense.
        shared_widths: Further sizes that the tensor-parallel size must divide (expert widths, shared experts).
        embedding_params: Input embedding.
        head_params: Output head; 0 where it is tied to the embedding.
        final_params: The norm after the last layer and what else sits beside the head; the tower too, because a
            pipeline's last stage holds a copy like every other.
        tower_params: Vision tower and projector: vLLM builds them on every pipeline stage.
        max_position: Longest context the config allows, tokens; None where the config does not say.
        weight_format: Precision of the checkpoint itself.
        kv_heads: Fewest KV heads of any layer.
        assumed: ``llama-shaped`` where the architecture is unknown and was counted as Llama; else None.
        caveats: What must be shown beside every figure of this model.
    """

    name: str
    architecture: str
    layer_facts: tuple[LayerFacts, ...]
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    shared_widths: tuple[int, ...] = ()
    vocab_size: int
    tied_embeddings: bool
    embedding_params: int
    head_params: int
    final_params: int
    max_position: int | None
    weight_format: WeightFormat
    tower_params: int = 0
    assumed: str | None = None
    caveats: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return len(self.layer_facts)

    @property
    def parameters(self) -> int:
        """Every parameter, a tied embedding counted once: what ``model.num_parameters()`` of transformers says."""
        return (
            sum(layer.parameters for layer in self.layer_facts)
            + self.embedding_params
            + self.head_params
            + self.final_params
        )

    @property
    def active_parameters(self) -> int:
        """Parameters one text token is multiplied with: all but unvisited experts, the embedding table and the tower."""
        head = self.head_params or self.embedding_params
        beside = self.final_params - self.tower_params
        return sum(layer.active_linear + layer.other for layer in self.layer_facts) + head + beside

    @property
    def moe(self) -> bool:
        """True where any layer routes tokens to experts."""
        return any(layer.experts for layer in self.layer_facts)

    def weights_bytes(self, weights: WeightFormat) -> int:
        """Bytes of one copy of the whole model, a tied embedding once."""
        return (
            sum(
                weights.linear_bytes(layer.linear - layer.expert_linear)
                + weights.expert_bytes(layer.expert_linear)
                + weights.plain_bytes(layer.other)
                for layer in self.layer_facts
            )
            + weights.plain_bytes(self.embedding_params + self.final_params)
            + weights.plain_bytes(self.head_params)
        )

    def kv_bytes_per_token(self, weights: WeightFormat) -> int:
        """KV cache of one token over all layers, undivided: 2 x KV heads x head size x bytes x layers."""
        return sum(layer.kv_values_per_token for layer in self.layer_facts) * weights.kv_bytes

    def kv_bytes_of_sequence(self, tokens: int, weights: WeightFormat, *, block: int = 16, hybrid: bool = True) -> int:
        """KV cache of one sequence of ``tokens`` tokens over all layers, undivided, in whole blocks as vLLM hands them out.

        Layers with a window keep only the blocks that reach into it (``SlidingWindowManager.remove_skipped_blocks``).
        vLLM pools layers of one kind in groups of equal size and pads the last group
        (``_get_kv_cache_groups_uniform_page_size``); the padding is counted. ``hybrid`` False is
        ``--disable-hybrid-kv-cache-manager``: where kinds are mixed, every layer then keeps everything.
        """
        kinds: dict[tuple[int | None, bool, int], int] = {}
        for layer in self.layer_facts:
            kind = (layer.window, layer.chunked, layer.kv_values_per_token)
            kinds[kind] = kinds.get(kind, 0) + 1
        mixed = len(kinds) > 1
        fewest, most = min(kinds.values()), max(kinds.values())
        group = most if most < 1.5 * fewest else fewest
        total = 0
        for (window, chunked, values), count in kinds.items():
            kept = -(-tokens // block) if mixed and not hybrid else _blocks(tokens, window, chunked, block)
            padded = -(-count // group) * group if mixed and hybrid else count
            total += padded * kept * block * values
        return total * weights.kv_bytes

    def as_json(self) -> dict[str, Any]:
        """The figures people ask for."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "layers": self.layers,
            "hidden_size": self.hidden_size,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "tied_embeddings": self.tied_embeddings,
            "parameters": self.parameters,
            "tower_parameters": self.tower_params,
            "active_parameters": self.active_parameters,
            "max_position": self.max_position,
            "weight_format": self.weight_format.name,
            "assumed": self.assumed,
            "caveats": list(self.caveats),
        }


def _blocks(tokens: int, window: int | None, chunked: bool, block: int) -> int:
    """Blocks that a layer keeps of a sequence of ``tokens`` tokens, all of them computed."""
    skipped = 0
    if window is not None:
        # Guard: the next token sees window - 1 earlier ones, so that many are kept (SlidingWindowManager); a full chunk
        # is dropped whole (ChunkedLocalAttentionManager).
        skipped = tokens // window * window if chunked else max(0, tokens - window + 1)
    return -(-tokens // block) - skipped // block
