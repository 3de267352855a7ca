"""Multi-modal models: the text model's facts, and the parameters of tower and projector as a number of their own.

What is assumed of vLLM 0.32: every pipeline stage builds the tower (``_mark_tower_model`` skips it only where
``--limit-mm-per-prompt`` is zero for its modalities), and tensor parallelism splits it (``--mm-encoder-tp-mode weights``).
Counted here is a whole copy, which is what a rank holds at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from spanwise.facts.architectures import gemma, llama, qwen, shared_experts
from spanwise.facts.architectures.blocks import Body

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def _encoder(layers: int, hidden: int, width: int) -> int:
    """A plain vision transformer: biases everywhere, two layer norms per layer."""
    return layers * (4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden + 4 * hidden)


def _merger(hidden: int, merged: int, out: int, norm: int) -> int:
    """Norm, then two linear layers with bias over merged patches."""
    return norm + merged * merged + merged + merged * out + out


def qwen2_vl(v: Config, _: Config, hidden: int) -> int:
    """Qwen2-VL."""
    width, ratio, depth = v.size("embed_dim", 1280), v.size("mlp_ratio", 4), v.size("depth", 32)
    patch = v.size("in_channels", 3) * v.size("temporal_patch_size", 2) * v.size("patch_size", 14) ** 2 * width
    merged = width * v.size("spatial_merge_size", 2) ** 2
    out = v.size("hidden_size", 3584)
    _same(v, "hidden_size", out, hidden)
    return patch + _encoder(depth, width, width * ratio) + _merger(width, merged, out, 2 * width)


def qwen2_5_vl(v: Config, _: Config, hidden: int) -> int:
    """Qwen2.5-VL: gated MLPs, RMS norms."""
    width, inner = v.size("hidden_size", 3584), v.size("intermediate_size", 3420)
    patch = v.size("in_channels", 3) * v.size("temporal_patch_size", 2) * v.size("patch_size", 14) ** 2 * width
    block = 4 * (width * width + width) + 3 * width * inner + 2 * inner + width + 2 * width
    merged = width * v.size("spatial_merge_size", 2) ** 2
    out = v.size("out_hidden_size", 3584)
    _same(v, "out_hidden_size", out, hidden)
    return patch + v.size("depth", 32) * block + _merger(width, merged, out, width)


def qwen3_vl(v: Config, _: Config, hidden: int) -> int:
    """Qwen3-VL: learnt positions, and a merger more per layer that feeds the text model's first layers."""
    width, inner = v.size("hidden_size", 1152), v.size("intermediate_size", 4304)
    patch = v.size("in_channels", 3) * v.size("temporal_patch_size", 2) * v.size("patch_size", 16) ** 2 * width + width
    merged = width * v.size("spatial_merge_size", 2) ** 2
    out = v.size("out_hidden_size", 3584)
    _same(v, "out_hidden_size", out, hidden)
    deep = 3 if not v.has("deepstack_visual_indexes") else len(v.indices("deepstack_visual_indexes"))
    return (
        patch
        + v.size("num_position_embeddings", 2304) * width
        + _encoder(v.size("depth", 27), width, inner)
        + _merger(width, merged, out, 2 * width)
        + deep * _merger(width, merged, out, 2 * merged)
    )


def gemma3(v: Config, _: Config, hidden: int) -> int:
    """Gemma 3: SigLIP and one projection."""
    width, inner = v.size("hidden_size", 768), v.size("intermediate_size", 3072)
    patch, image = v.size("patch_size", 16), v.size("image_size", 224)
    embed = v.size("num_channels", 3) * patch * patch * width + width + (image // patch) ** 2 * width
    total = embed + _encoder(v.size("num_hidden_layers", 12), width, inner) + 2 * width
    if v.flag("vision_use_head", True):  # attention pooling
        total += width + 4 * (width * width + width) + 2 * width + 2 * width * inner + inner + width
    return total + width * hidden + width


def _pixtral(v: Config) -> int:
    kind = v.raw("model_type")
    if kind not in (None, "pixtral"):
        v.refuse("model_type", f"the tower {str(kind)[:40]!r} is not known; known is 'pixtral'")
    width, inner = v.size("hidden_size", 1024), v.size("intermediate_size", 4096)
    patch = v.size("num_channels", 3) * v.size("patch_size", 16) ** 2 * width
    return patch + width + v.size("num_hidden_layers", 24) * (4 * width * width + 3 * width * inner + 2 * width)


def mistral3(v: Config, top: Config, hidden: int) -> int:
    """Mistral Small 3.1 and later, Ministral 3: Pixtral, patches merged, two linear layers."""
    width, merge = v.size("hidden_size", 1024), top.size("spatial_merge_size", 2)
    bias = 2 * hidden if top.flag("multimodal_projector_bias", False) else 0
    project = width + (width * merge * merge) * width + width * _features(top) * hidden + hidden * hidden
    return _pixtral(v) + project + bias


def llava(v: Config, top: Config, hidden: int) -> int:
    """Pixtral-12B in Hugging Face form: Pixtral and two linear layers."""
    if v.raw("model_type") is None:
        v.missing("model_type")  # transformers would take CLIP
    width = v.size("hidden_size", 1024)
    bias = 2 * hidden if top.flag("multimodal_projector_bias", True) else 0
    return _pixtral(v) + width * _features(top) * hidden + hidden * hidden + bias


def llama4(v: Config, _: Config, hidden: int) -> int:
    """Llama 4: a vision transformer, pixel shuffle, adapter and projection."""
    width, inner = v.size("hidden_size", 768), v.size("intermediate_size", 5632)
    patch, image = v.size("patch_size", 14), v.size("image_size", 448)
    adapter_in, adapter_out = v.size("projector_input_dim", 4096), v.size("projector_output_dim", 4096)
    embed = v.size("num_channels", 3) * patch * patch * width + width + ((image // patch) ** 2 + 1) * width
    return (
        embed
        + 4 * width  # norms before and after
        + _encoder(v.size("num_hidden_layers", 34), width, inner)
        + inner * adapter_in
        + adapter_out * adapter_out
        + v.size("vision_output_dim", 7680) * hidden
    )


def _features(top: Config) -> int:
    """How many of the tower's layers the projector reads."""
    value = top.raw("vision_feature_layer")
    return len(value) if isinstance(value, list) and 0 < len(value) < 100 else 1


def _same(v: Config, key: str, out: int, hidden: int) -> None:
    if out != hidden:
        v.refuse(key, f"{out} is not the text model's hidden_size {hidden}")


# Per architecture: the tower, and the text model by its model_type (None: where the config does not say).
Tower: TypeAlias = Callable[["Config", "Config", int], int]
Texts: TypeAlias = dict[str | None, Callable[["Config"], Body]]
_MISTRAL: Texts = {None: llama.mistral, "mistral": llama.mistral, "ministral3": llama.ministral3}
TOWERS: dict[str, tuple[Tower, Texts]] = {
    "Llama4ForConditionalGeneration": (llama4, {None: shared_experts.llama4, "llama4_text": shared_experts.llama4}),
    "Mistral3ForConditionalGeneration": (mistral3, _MISTRAL),
    "LlavaForConditionalGeneration": (llava, {"mistral": llama.mistral, "llama": llama.llama}),
    "Gemma3ForConditionalGeneration": (gemma3, {None: gemma.gemma3, "gemma3_text": gemma.gemma3}),
    "Qwen2VLForConditionalGeneration": (qwen2_vl, dict.fromkeys((None, "qwen2_vl", "qwen2_vl_text"), qwen.qwen2)),
    "Qwen2_5_VLForConditionalGeneration": (
        qwen2_5_vl,
        dict.fromkeys((None, "qwen2_5_vl", "qwen2_5_vl_text"), qwen.qwen2),
    ),
    "Qwen3VLForConditionalGeneration": (qwen3_vl, dict.fromkeys((None, "qwen3_vl_text"), qwen.qwen3)),
    "Qwen3VLMoeForConditionalGeneration": (qwen3_vl, dict.fromkeys((None, "qwen3_vl_moe_text"), qwen.qwen3_vl_moe)),
}

# transformers writes only what differs from these into a nested text_config (transformers 5.19).
TEXT_DEFAULTS: dict[str, dict[str, object]] = {
    "Gemma3ForConditionalGeneration": {
        "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "sliding_window": 4096, "max_position_embeddings": 131_072,
    },
    "LlavaForConditionalGeneration": {"num_attention_heads": 32},
}  # fmt: skip
