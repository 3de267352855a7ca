"""Llama and those that differ from it by a bias, a norm or a window: gated MLP, RMS norms, grouped-query attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Attention, Body, attention, every, sizes, tied, windows

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def gated(
    c: Config,
    a: Attention,
    *,
    window: list[int | None] | None = None,
    norms: int = 2,
    mlp_bias: bool = False,
    tie: bool = False,
) -> Body:
    """``a`` with a gated MLP in every layer; ``norms`` norms of the hidden size per layer."""
    s = sizes(c)
    other = norms * s.hidden + (2 * s.width + s.hidden if mlp_bias else 0)
    return Body(
        layers=tuple(a.layer(mlp=3 * s.hidden * s.width, other=other, window=w) for w in window or [None] * s.layers),
        attention=a,
        tied=tied(c, tie),
        intermediate=s.width,
    )


def llama(c: Config) -> Body:
    """Llama 1 to 3, Granite."""
    bias = c.flag("attention_bias", False)
    return gated(c, attention(c, qkv_bias=bias, o_bias=bias), mlp_bias=c.flag("mlp_bias", False))


def smollm3(c: Config) -> Body:
    """SmolLM3: Llama with layers without rotary positions."""
    bias = c.flag("attention_bias", False)
    if c.flag("mlp_bias", False) or c.flag("use_sliding_window", False):
        c.refuse("mlp_bias / use_sliding_window", "not known for this architecture")
    return gated(c, attention(c, qkv_bias=bias, o_bias=bias), tie=True)


def seed_oss(c: Config) -> Body:
    """Seed-OSS."""
    a = attention(c, head_dim=128, qkv_bias=c.flag("attention_bias", True), o_bias=c.flag("attention_out_bias", False))
    return gated(c, a, mlp_bias=c.flag("mlp_bias", False))


def ernie(c: Config) -> Body:
    """ERNIE 4.5, dense."""
    bias = c.flag("use_bias", False)
    return gated(c, attention(c, head_dim=128, qkv_bias=bias, o_bias=bias), mlp_bias=bias, tie=True)


def mistral(c: Config) -> Body:
    """Mistral; Ministral gives each layer its own kind."""
    s = sizes(c)
    window = c.optional_size("sliding_window")
    return gated(c, attention(c), window=windows(c, s.layers, [window is not None] * s.layers, window))


def ministral3(c: Config) -> Body:
    """Ministral 3."""
    s = sizes(c)
    window = c.optional_size("sliding_window")
    return gated(c, attention(c, head_dim=128), window=windows(c, s.layers, [window is not None] * s.layers, window))


def phi3(c: Config) -> Body:
    """Phi-3 and Phi-4."""
    if c.flag("attention_bias", False):
        c.refuse("attention_bias", "true is not known for this architecture")
    return mistral(c)


def olmo2(c: Config) -> Body:
    """OLMo 2 normalises the whole q and k vectors, not each head."""
    return gated(c, _olmo_attention(c))


def olmo3(c: Config) -> Body:
    """OLMo 3: three of four layers slide."""
    s = sizes(c)
    return gated(c, _olmo_attention(c), window=windows(c, s.layers, every(4, s.layers), c.size("sliding_window", 4096)))


def _olmo_attention(c: Config) -> Attention:
    bias = c.flag("attention_bias", False)
    plain = attention(c, qkv_bias=bias, o_bias=bias)
    return attention(c, qkv_bias=bias, o_bias=bias, extra=(plain.heads + plain.kv_heads) * plain.head_dim)


def exaone4(c: Config) -> Body:
    """EXAONE 4.0: norms on q and k heads; the 32B slides in three of four layers."""
    s = sizes(c)
    plain = attention(c)
    a = attention(c, extra=2 * plain.head_dim)
    size = c.optional_size("sliding_window")
    pattern = c.raw("sliding_window_pattern")
    if size is None:
        return gated(c, a)
    if isinstance(pattern, str):  # "LLLG": L slides
        if not pattern or len(pattern) > 64 or set(pattern) - {"L", "G"}:
            c.refuse("sliding_window_pattern", "expected a word of L and G, or a number")
        default = [pattern[index % len(pattern)] == "L" for index in range(s.layers)]
    else:
        default = every(c.size("sliding_window_pattern", 4), s.layers)
    return gated(c, a, window=windows(c, s.layers, default, size))


def glm(c: Config) -> Body:
    """GLM-4-9B."""
    return gated(c, attention(c, head_dim=128, qkv_bias=c.flag("attention_bias", True)))


def glm4(c: Config) -> Body:
    """GLM-4-0414: two more norms per layer."""
    return gated(c, attention(c, head_dim=128, qkv_bias=c.flag("attention_bias", True)), norms=4)
