"""Modules that a quantised checkpoint leaves in 16 bits (``modules_to_not_convert``, ``ignore``), in the sum over the model.

The bits per weight become the mean over converted and kept weights: exact for the whole model, close for one layer
where kept layers are few. Names are read for layer number and kind; a stranger's regular expression is not run. One
projection that is named counts as its whole attention or MLP.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import LayerFacts
    from spanwise.facts.quantization import Stored

Kind = Literal["attention", "mlp", "experts", "layer", "plain"]
# First match wins. `plain` is never counted as converted: embeddings, head, norms, routers, towers.
_WORDS: tuple[tuple[str, Kind], ...] = (
    (
        r"lm_head|embed|norm|router|vision|visual|projector|adapter|patch|merger|audio|mtp|nextn|eh_proj|e_score",
        "plain",
    ),
    (r"(^|[.*])(mlp|moe|ffn|block_sparse_moe|feed_forward)?[.]?(shared_expert_)?gate[$*]*$", "plain"),
    (r"shared_expert", "mlp"),
    (r"experts", "experts"),
    (r"self_attn|attention|attn|[qkvo]_proj|qkv", "attention"),
    (r"mlp|feed_forward|(gate|up|down)_proj|block_sparse_moe", "mlp"),
    (r"layers[.]\d+[.*]*$", "layer"),
)
_LAYER = re.compile(r"layers[.](\d{1,4})(?!\d)")
_CLASS_WORDS = {"TextAttention": "attention", "Attention": "attention", "Router": "plain", "MLP": "mlp"}


def effective_format(stored: Stored, layers: tuple[LayerFacts, ...]) -> tuple[WeightFormat, tuple[str, ...]]:
    """The format with kept modules averaged in, and what could not be read."""
    weights, notes = stored.weights, list(stored.notes)
    # gpt-oss names its attention and routers as kept; its format says so already.
    if not stored.kept or weights.name == "mxfp4":
        return weights, tuple(notes)
    kept: set[tuple[int, Kind]] = set()
    strange = []
    for name in stored.kept:
        read = _read(name)
        if read is None:
            strange.append(name)
            continue
        index, kind = read
        kinds: tuple[Kind, ...] = ("attention", "mlp", "experts") if kind == "layer" else (kind,)
        # `model.layers.61` of a model with 61 layers is its prediction layer.
        chosen = range(len(layers)) if index is None else range(index, min(index + 1, len(layers)))
        kept.update((layer, each) for layer in chosen for each in kinds if each != "plain")
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        notes.append(
            f"{strange[0][:60]!r}{more} in the checkpoint's list of modules kept in 16 bits is not understood: counted as converted"
        )
    return _averaged(weights, layers, kept), tuple(notes)


def _read(name: str) -> tuple[int | None, Kind] | None:
    """Layer (None: every one) and kind of module that a name or pattern means; None where it says neither."""
    text = name[:300].removeprefix("re:").replace("\\", "").rstrip("$")
    found = _LAYER.search(text)
    index = int(found[1]) if found else None
    for word, kind in _WORDS:
        if re.search(word, text):
            return index, kind
    for word, named in _CLASS_WORDS.items():
        if text.endswith(word):
            return None, named  # type: ignore[return-value]  # values of the literal, two lines up
    return None


def _averaged(weights: WeightFormat, layers: tuple[LayerFacts, ...], kept: set[tuple[int, Kind]]) -> WeightFormat:
    if not kept:
        return weights
    linear = sum(layer.linear - layer.expert_linear for layer in layers)
    experts = sum(layer.expert_linear for layer in layers)
    plain: Counter[str] = Counter()
    for index, kind in kept:
        layer = layers[index]
        attention = layer.attention_linear + layer.kv_linear + layer.replicated_linear
        size = {
            "attention": attention,
            "experts": layer.expert_linear,
            "mlp": layer.split_linear - layer.attention_linear,
        }
        plain["experts" if kind == "experts" else "linear"] += size[kind]
    own = weights.linear_bits if weights.expert_bits is None else weights.expert_bits
    expert_bits = _mean(own, weights.plain_bits, plain["experts"], experts) if experts else weights.expert_bits
    linear_bits = _mean(weights.linear_bits, weights.plain_bits, plain["linear"], linear)
    return replace(weights, linear_bits=linear_bits, expert_bits=expert_bits)


def _mean(bits: Fraction, plain_bits: int, kept: int, whole: int) -> Fraction:
    return bits + (plain_bits - bits) * Fraction(kept, whole) if whole else bits
