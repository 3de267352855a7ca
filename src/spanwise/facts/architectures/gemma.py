"""Gemma 1 to 3: tied, head size 256 unless said, every second or sixth layer with full attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Body, attention, every, windows
from spanwise.facts.architectures.llama import gated

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def gemma1(c: Config) -> Body:
    """Gemma 1."""
    return _gemma(c, norms=2, extra=0, pattern=None)


def gemma2(c: Config) -> Body:
    """Gemma 2: four norms, every second layer full."""
    return _gemma(c, norms=4, extra=0, pattern=2)


def gemma3(c: Config) -> Body:
    """Gemma 3: norms on q and k heads, every sixth layer full."""
    head_dim = c.size("head_dim", 256)
    return _gemma(c, norms=4, extra=2 * head_dim, pattern=c.size("sliding_window_pattern", 6))


def _gemma(c: Config, *, norms: int, extra: int, pattern: int | None) -> Body:
    bias = c.flag("attention_bias", False)
    a = attention(c, head_dim=256, qkv_bias=bias, o_bias=bias, extra=extra)
    if pattern is None:
        return gated(c, a, norms=norms, tie=True)
    layers, window = c.size("num_hidden_layers"), c.optional_size("sliding_window")
    if window is None:
        c.missing("sliding_window")
    return gated(c, a, window=windows(c, layers, every(pattern, layers), window), norms=norms, tie=True)
