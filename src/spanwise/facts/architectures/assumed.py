"""An unknown architecture whose config has Llama's keys and nothing else that says how it computes.

Only where the caller allows it, and always marked: ``ModelFacts.assumed`` and a caveat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanwise.facts.config import Config

_NEEDED = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "rms_norm_eps",
)  # fmt: skip
# What a Llama config holds, and what any config may hold without meaning another computation.
_KNOWN = frozenset(
    {
        *_NEEDED, "architectures", "model_type", "auto_map", "num_key_value_heads", "head_dim", "attention_bias",
        "mlp_bias", "hidden_act", "max_position_embeddings", "tie_word_embeddings", "rope_theta", "rope_scaling",
        "rope_parameters", "torch_dtype", "dtype", "initializer_range", "use_cache", "pretraining_tp",
        "attention_dropout", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id",
        "quantization_config", "_name_or_path", "return_dict", "output_attentions", "output_hidden_states", "id2label",
        "label2id", "is_decoder", "is_encoder_decoder", "original_max_position_embeddings", "unk_token_id",
        "_attn_implementation", "_attn_implementation_autoset", "max_length", "use_return_dict",
    }
)  # fmt: skip
ASSUMED = "llama-shaped"


def strange_keys(c: Config) -> list[str]:
    """Keys that hint at another computation than Llama's; an explicit null or false hints at nothing."""
    return sorted(str(key)[:60] for key in c.names() if key not in _KNOWN and c.raw(key) not in (None, False))


def missing_keys(c: Config) -> list[str]:
    """Keys of Llama's that this config lacks."""
    missing = [key for key in _NEEDED if c.raw(key) is None]
    activation = c.raw("hidden_act")
    if activation not in ("silu", "swish"):
        missing.append("hidden_act: silu")
    return missing


def caveat(architecture: str) -> str:
    """What the user must read beside every figure."""
    return (
        f"{architecture} is not a known architecture; its config has Llama's keys and no others, so it is counted as "
        "Llama. Compare the parameter count with the model card"
    )
