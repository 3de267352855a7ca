"""Mixtures of experts that are no variant of a dense family here: Mixtral, Phi-3.5-MoE, OLMoE, Granite MoE, MiniMax-M2, gpt-oss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Attention, Body, attention, experts, sizes, tied, windows

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def _uniform(
    c: Config, a: Attention, key: str, *, norms: int = 2, window: int | None = None, final: int | None = None
) -> Body:
    """Every layer routes to gated experts; router without bias."""
    s, (count, visits) = sizes(c), experts(c, key)
    layer = a.layer(
        mlp=0,
        other=norms * s.hidden + count * s.hidden,
        window=window,
        expert_linear=3 * s.hidden * s.width * count,
        experts=count,
        experts_per_token=visits,
    )
    return Body(layers=(layer,) * s.layers, attention=a, tied=tied(c), intermediate=s.width, final=final)


def mixtral(c: Config) -> Body:
    """Mixtral."""
    return _uniform(c, attention(c), "num_local_experts", window=c.optional_size("sliding_window"))


def phimoe(c: Config) -> Body:
    """Phi-3.5-MoE: layer norms with bias, a head that may have one."""
    bias = c.flag("attention_bias", False)
    final = 2 * c.size("hidden_size") + (c.size("vocab_size") if c.flag("lm_head_bias", False) else 0)
    return _uniform(
        c,
        attention(c, qkv_bias=bias, o_bias=bias),
        "num_local_experts",
        norms=4,
        window=c.optional_size("sliding_window"),
        final=final,
    )


def olmoe(c: Config) -> Body:
    """OLMoE: norms over the whole q and k vectors."""
    bias = c.flag("attention_bias", False)
    plain = attention(c)
    extra = (plain.heads + plain.kv_heads) * plain.head_dim
    return _uniform(c, attention(c, qkv_bias=bias, o_bias=bias, extra=extra), "num_experts")


def granite_moe(c: Config) -> Body:
    """Granite 3 MoE."""
    bias = c.flag("attention_bias", False)
    return _uniform(c, attention(c, qkv_bias=bias, o_bias=bias), "num_local_experts")


def minimax_m2(c: Config) -> Body:
    """MiniMax-M2: norms over the whole q and k vectors, a correction bias per expert."""
    plain = attention(c, head_dim=128)
    a = attention(c, head_dim=128, extra=(plain.heads + plain.kv_heads) * plain.head_dim)
    return _uniform(c, a, "num_local_experts")


def gpt_oss(c: Config) -> Body:
    """gpt-oss: sinks, biases everywhere, every second layer slides."""
    bias = c.flag("attention_bias", True)
    a = attention(c, head_dim=64, qkv_bias=bias, o_bias=bias, extra=c.size("num_attention_heads"))
    s, (count, visits) = sizes(c), experts(c, "num_local_experts")
    slides = [index % 2 == 0 for index in range(s.layers)]
    return Body(
        layers=tuple(
            a.layer(
                mlp=0,
                # Norms, router with bias, biases of every expert.
                other=2 * s.hidden + count * (s.hidden + 1) + count * (2 * s.width + s.hidden),
                window=window,
                expert_linear=3 * s.hidden * s.width * count,
                experts=count,
                experts_per_token=visits,
            )
            for window in windows(c, s.layers, slides, c.size("sliding_window", 128))
        ),
        attention=a,
        tied=tied(c),
        intermediate=s.width,
    )
