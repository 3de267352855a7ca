"""What the families share: grouped-query attention, sliding windows, experts, and what a family function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.facts.model import LayerFacts

if TYPE_CHECKING:
    from spanwise.facts.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Grouped-query attention: sizes in elements."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    o_bias: bool = False
    extra: int = 0  # norms on q and k, attention sinks

    @property
    def split(self) -> int:
        """Weights of q and o."""
        return 2 * self.hidden * self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Weights of k and v."""
        return 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def other(self) -> int:
        """Biases, norms and sinks."""
        bias = (self.heads + 2 * self.kv_heads) * self.head_dim if self.qkv_bias else 0
        return bias + (self.hidden if self.o_bias else 0) + self.extra

    def layer(
        self, *, mlp: int, other: int, window: int | None = None, chunked: bool = False, **moe: int
    ) -> LayerFacts:
        """This attention with an MLP of ``mlp`` split weights and ``other`` small parameters."""
        return LayerFacts(
            split_linear=self.split + mlp,
            attention_linear=self.split,
            kv_linear=self.kv,
            other=self.other + other,
            kv_values_per_token=2 * self.kv_heads * self.head_dim,
            kv_heads=self.kv_heads,
            score_width=2 * self.heads * self.head_dim,
            window=window,
            chunked=chunked and window is not None,
            **moe,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a family function returns; the rest of ModelFacts is the same for all.

    Attributes:
        layers: One entry per decoder layer.
        attention: Its sizes, for the figures people ask for.
        tied: The head is the embedding.
        intermediate: Width of the dense MLP, or of one expert.
        widths: Further widths that the tensor-parallel size must divide.
        final: What sits beside the head; the last norm's weight where None.
    """

    layers: tuple[LayerFacts, ...]
    attention: Attention
    tied: bool
    intermediate: int
    widths: tuple[int, ...] = ()
    final: int | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The three sizes that every family has."""

    layers: int
    hidden: int
    width: int


def sizes(c: Config) -> Sizes:
    """Layers, hidden size and MLP width."""
    return Sizes(c.size("num_hidden_layers"), c.size("hidden_size"), c.size("intermediate_size"))


def attention(c: Config, *, head_dim: int | None = None, **kwargs: Any) -> Attention:
    """Attention of this config; ``head_dim`` is the family's own default where the config has none."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    kv_heads = c.size("num_key_value_heads", heads)
    if heads % kv_heads:
        c.refuse("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads {heads}")
    width = c.optional_size("head_dim") or head_dim
    if width is None:
        if hidden % heads:
            c.refuse(
                "hidden_size", f"{hidden} is not a multiple of num_attention_heads {heads}, and head_dim is absent"
            )
        width = hidden // heads
    return Attention(hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=width, **kwargs)


def windows(c: Config, layers: int, default: list[bool], size: int | None) -> list[int | None]:
    """Sliding window per layer: ``layer_types`` where the config has it, else ``default`` (True: sliding)."""
    kinds = c.layer_types(layers)
    sliding = [kind != "full_attention" for kind in kinds] if kinds else default
    if any(sliding) and kinds and size is None:
        c.missing("sliding_window")
    return [size if slides else None for slides in sliding]


def every(pattern: int, layers: int) -> list[bool]:
    """True for all but each ``pattern``-th layer."""
    return [(index + 1) % pattern != 0 for index in range(layers)]


def experts(c: Config, key: str) -> tuple[int, int]:
    """Routed experts and how many of them a token visits."""
    count, visits = c.size(key), c.size("num_experts_per_tok")
    if visits > count:
        c.refuse("num_experts_per_tok", f"{visits} is more than {key} {count}")
    return count, visits


def tied(c: Config, default: bool = False) -> bool:
    """Whether the output head is the embedding."""
    return c.flag("tie_word_embeddings", default)
