"""Qwen 2 to 3, dense and mixtures of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Attention, Body, attention, experts, sizes, tied, windows
from spanwise.facts.architectures.llama import gated

if TYPE_CHECKING:
    from spanwise.facts.config import Config
    from spanwise.facts.model import LayerFacts


def qwen2(c: Config) -> Body:
    """Qwen 1.5 to 2.5: biases on q, k and v."""
    return _dense(c, attention(c, qkv_bias=True))


def qwen3(c: Config) -> Body:
    """Qwen 3: norms on q and k heads."""
    return _dense(c, _normed(c, c.size("head_dim", 128)))


def _normed(c: Config, head_dim: int) -> Attention:
    bias = c.flag("attention_bias", False)
    return attention(c, head_dim=head_dim, qkv_bias=bias, o_bias=bias, extra=2 * head_dim)


def _dense(c: Config, a: Attention) -> Body:
    layers = c.size("num_hidden_layers")
    window = c.optional_size("sliding_window") if c.flag("use_sliding_window", False) else None
    first = c.count("max_window_layers", layers)
    slides = [window is not None and index >= first for index in range(layers)]
    if window is None:  # the switch is off, whatever layer_types says
        return gated(c, a)
    return gated(c, a, window=windows(c, layers, slides, window))


def qwen3_moe(c: Config) -> Body:
    """Qwen 3 mixtures; layers may be dense."""
    head_dim = c.optional_size("head_dim") or c.size("hidden_size") // c.size("num_attention_heads")
    return _mixture(c, _normed(c, head_dim), shared=None)


def qwen3_vl_moe(c: Config) -> Body:
    """The text model of Qwen3-VL mixtures."""
    return _mixture(c, _normed(c, c.size("head_dim", 128)), shared=None)


def qwen2_moe(c: Config) -> Body:
    """Qwen 1.5 and 2 mixtures with a shared expert."""
    return _mixture(c, attention(c, qkv_bias=True), shared=c.size("shared_expert_intermediate_size"))


def _mixture(c: Config, a: Attention, *, shared: int | None) -> Body:
    s = sizes(c)
    width, step = c.size("moe_intermediate_size"), c.size("decoder_sparse_step", 1)
    count, visits = experts(c, "num_experts")
    only_dense = c.indices("mlp_only_layers")
    if c.flag("use_sliding_window", False):
        c.refuse("use_sliding_window", "true is not known for this architecture")
    dense = a.layer(mlp=3 * s.hidden * s.width, other=2 * s.hidden)
    mixture = a.layer(
        mlp=3 * s.hidden * (shared or 0),
        # The router, and Qwen2's gate in front of its shared expert.
        other=2 * s.hidden + count * s.hidden + (s.hidden if shared else 0),
        expert_linear=3 * s.hidden * width * count,
        experts=count,
        experts_per_token=visits,
    )

    def layer(index: int) -> LayerFacts:
        return dense if index in only_dense or (index + 1) % step else mixture

    return Body(
        layers=tuple(layer(index) for index in range(s.layers)),
        attention=a,
        tied=tied(c),
        intermediate=width,
        widths=tuple(w for w in (shared, s.width if only_dense or step > 1 else None) if w),
    )
