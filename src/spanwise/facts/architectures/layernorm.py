"""Families with layer norms, plain or parallel MLPs: Phi-2, Falcon, StarCoder2, Nemotron, Cohere, StableLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Attention, Body, attention, every, sizes, tied, windows

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def phi(c: Config) -> Body:
    """Phi-1 to Phi-2: biases everywhere, one norm per layer, a biased head."""
    if c.flag("qk_layernorm", False):
        c.refuse("qk_layernorm", "true is not known for this architecture")
    s, a = sizes(c), attention(c, qkv_bias=True, o_bias=True)
    layer = a.layer(mlp=2 * s.hidden * s.width, other=2 * s.hidden + s.width + s.hidden)
    return Body(
        layers=(layer,) * s.layers,
        attention=a,
        tied=tied(c),
        intermediate=s.width,
        final=2 * s.hidden + c.size("vocab_size"),
    )


def starcoder2(c: Config) -> Body:
    """StarCoder2."""
    bias = c.flag("use_bias", True)
    s, a = sizes(c), attention(c, qkv_bias=bias, o_bias=bias)
    window = c.optional_size("sliding_window")
    other = 4 * s.hidden + (s.width + s.hidden if bias else 0)
    return Body(
        layers=(a.layer(mlp=2 * s.hidden * s.width, other=other, window=window),) * s.layers,
        attention=a,
        tied=tied(c, True),
        intermediate=s.width,
        final=2 * s.hidden,
    )


def nemotron(c: Config) -> Body:
    """Nemotron-4 and Minitron: squared ReLU, no gate."""
    bias, mlp_bias = c.flag("attention_bias", False), c.flag("mlp_bias", False)
    s, a = sizes(c), attention(c, qkv_bias=bias, o_bias=bias)
    other = 4 * s.hidden + (s.width + s.hidden if mlp_bias else 0)
    return Body(
        layers=(a.layer(mlp=2 * s.hidden * s.width, other=other),) * s.layers,
        attention=a,
        tied=tied(c),
        intermediate=s.width,
        final=2 * s.hidden,
    )


def cohere(c: Config) -> Body:
    """Command-R: one norm per layer for attention and MLP side by side; R+ normalises q and k per head."""
    return _cohere(c, qk_norm=c.flag("use_qk_norm", False), window=None)


def cohere2(c: Config) -> Body:
    """Command-R7B and Command-A: three of four layers slide."""
    return _cohere(c, qk_norm=False, window=c.size("sliding_window", 4096))


def _cohere(c: Config, *, qk_norm: bool, window: int | None) -> Body:
    bias = c.flag("attention_bias", False)
    s, plain = sizes(c), attention(c)
    extra = (plain.heads + plain.kv_heads) * plain.head_dim if qk_norm else 0
    a = attention(c, qkv_bias=bias, o_bias=bias, extra=extra)
    default = every(c.size("sliding_window_pattern", 4), s.layers) if window else [False] * s.layers
    return Body(
        layers=tuple(
            a.layer(mlp=3 * s.hidden * s.width, other=s.hidden, window=w) for w in windows(c, s.layers, default, window)
        ),
        attention=a,
        tied=tied(c, True),
        intermediate=s.width,
    )


def stablelm(c: Config) -> Body:
    """StableLM 2."""
    if c.flag("qk_layernorm", False):
        c.refuse("qk_layernorm", "true is not known for this architecture")
    s, a = sizes(c), attention(c, qkv_bias=c.flag("use_qkv_bias", False))
    norms = 1 if c.flag("use_parallel_residual", False) else 2
    return Body(
        layers=(a.layer(mlp=3 * s.hidden * s.width, other=2 * norms * s.hidden),) * s.layers,
        attention=a,
        tied=tied(c),
        intermediate=s.width,
        final=2 * s.hidden,
    )


def falcon(c: Config) -> Body:
    """Falcon 7B (one KV head), 40B and 180B (new decoder architecture)."""
    hidden, heads, layers = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    if hidden % heads:
        c.refuse("hidden_size", f"{hidden} is not a multiple of num_attention_heads {heads}")
    new, bias = c.flag("new_decoder_architecture", False), c.flag("bias", False)
    if new:
        kv_heads = c.size("num_kv_heads", heads)
        if heads % kv_heads:
            c.refuse("num_kv_heads", f"{kv_heads} does not divide num_attention_heads {heads}")
    else:
        kv_heads = 1 if c.flag("multi_query", True) else heads
    a = Attention(hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=hidden // heads, qkv_bias=bias, o_bias=bias)
    width = c.size("ffn_hidden_size", 4 * hidden)
    norms = c.size("num_ln_in_parallel_attn", 2 if new else 1) if c.flag("parallel_attn", True) else 2
    if norms > 2:
        c.refuse("num_ln_in_parallel_attn", f"is {norms}; expected 1 or 2")
    other = 2 * norms * hidden + (width + hidden if bias else 0)
    return Body(
        layers=(a.layer(mlp=2 * hidden * width, other=other),) * layers,
        attention=a,
        tied=tied(c, True),
        intermediate=width,
        final=2 * hidden,
    )
