"""Small models that stand in for a large one of the same layout: the demo's own where its heads divide, else one of random weights.

A generated model is a Llama whose heads, key-value heads, intermediate size and vocabulary divide by the tensor-parallel size, with as many
layers as its pipeline needs, and the tokenizer of the demo's model. It answers with nonsense, token by token, which is all that a layout's
rehearsal needs.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanwise.checkpoints import smollm2
from spanwise.checkpoints.smollm2 import Progress, cache_dir
from spanwise.errors import LayoutError

# Sizes of SmolLM2-135M (checkpoints/smollm2.py).
_REAL_LAYERS, _REAL_TENSOR_SIZES = 30, (1, 3)
_VOCABULARY, _PADDING = 49152, 64
_HEAD_DIM, _FEWEST_HEADS, _FEWEST_LAYERS = 64, 4, 4
MOST_LAYERS, WIDEST_TENSOR = 256, 64
_RECIPE = 1
_SEED = 20261124


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What a layout asks of a model.

    Attributes:
        tensor_parallel_size: Ranks of a stage; heads divide by it.
        pipeline_parallel_size: Stages; there are at least as many layers.
        layers: Exactly this many, where the stages' lengths are given one by one; None where any number will do.
    """

    tensor_parallel_size: int
    pipeline_parallel_size: int
    layers: int | None = None

    @property
    def real(self) -> bool:
        """True where SmolLM2 has this shape: then it answers sensibly."""
        return (
            self.tensor_parallel_size in _REAL_TENSOR_SIZES
            and self.pipeline_parallel_size <= _REAL_LAYERS
            and self.layers in (None, _REAL_LAYERS)
        )

    @property
    def name(self) -> str:
        """What a report calls the model."""
        if self.real:
            return "SmolLM2-135M-Instruct"
        config = small_config(self)
        return f"generated Llama of {config['num_hidden_layers']} layers, {config['num_attention_heads']} heads"


def small_config(shape: Shape) -> dict[str, Any]:
    """config.json of the smallest Llama that can be cut as ``shape`` says.

    Raises:
        LayoutError: No small model has so many layers or heads.
    """
    tensor, layers = shape.tensor_parallel_size, shape.layers or max(_FEWEST_LAYERS, shape.pipeline_parallel_size)
    if tensor > WIDEST_TENSOR or layers > MOST_LAYERS:
        raise LayoutError(
            f"tensor_parallel_size {tensor} with {layers} layers needs a model that is not small",
            where="the model that stands in",
            remedy=f"the lab goes up to tensor_parallel_size {WIDEST_TENSOR} and {MOST_LAYERS} layers",
        )
    heads = tensor * math.ceil(_FEWEST_HEADS / tensor)
    kv_heads = tensor if tensor > 1 else 2
    hidden = heads * _HEAD_DIM
    unit = math.lcm(_PADDING, tensor)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": _HEAD_DIM,
        # vLLM pads the vocabulary and cuts it by the tensor-parallel size; the tokenizer knows fewer.
        "vocab_size": math.ceil(_VOCABULARY / unit) * unit,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def prepare(shape: Shape, progress: Progress) -> Path:
    """The directory of a model that ``shape`` fits, made on the first call and reused later.

    Raises:
        LayoutError: No small model can be cut like that.
        ModelError, OutsideError: As `smollm2.prepare`, whose tokenizer every one of them has.
    """
    config = small_config(shape)
    real = smollm2.prepare(progress)
    if shape.real:
        return real
    sizes = (
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["num_hidden_layers"],
        config["vocab_size"],
    )
    target = cache_dir() / "models" / ("generated-llama-" + "-".join(map(str, sizes)))
    if _is_made(target, config):
        return target
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        progress(f"making a {shape.name}, random weights")
        _write(made, config, real)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return target


def _is_made(target: Path, config: dict[str, Any]) -> bool:
    try:
        marker = json.loads((target / "spanwise.json").read_text())
        whole = all(
            (target / name).is_file() for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json")
        )
        return whole and marker == {"recipe": _RECIPE} and json.loads((target / "config.json").read_text()) == config
    except (OSError, ValueError):
        return False


def _write(target: Path, config: dict[str, Any], tokenizer: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    draw = np.random.default_rng(_SEED)
    tensors = {
        name: np.ones(shape, dtype=np.float32)
        if len(shape) == 1
        else draw.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        for name, shape in tensor_shapes(config).items()
    }
    # Never the most likely: what the tokenizer does not know.
    tensors["model.embed_tokens.weight"][_VOCABULARY:] = 0
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, target / name)
    (target / "spanwise.json").write_text(json.dumps({"recipe": _RECIPE}))


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Llama with tied embeddings, by its Hugging Face name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes
