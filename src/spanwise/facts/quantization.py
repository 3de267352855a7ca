"""The precision of a checkpoint, read from config.json: plain or a known quantised form; others are refused.

Scales and zero points are counted where a group or block has its own. One scale per tensor or channel is shared by
thousands of weights and left out (below 0.1 %).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from spanwise.facts.dtypes import WeightFormat, grouped, weight_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwise.facts.config import Config

_PLAIN = ("bfloat16", "float16", "float32")
# One scale per column: thousands of weights share it.
_COLUMN = 1 << 12
_KEY = "quantization_config"
_MAX_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Stored:
    """How the weights lie on disk: the format of what is converted, and the names or patterns of modules that are not."""

    weights: WeightFormat
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def checkpoint_format(c: Config, text: Config | None = None) -> Stored:
    """What the weights on disk are; ``text`` is the text model's part of a multi-modal config.

    A float32 checkpoint counts as bfloat16, because vLLM's ``--dtype auto`` serves it so.

    Raises:
        ModelError: A quantisation that is not known, or known with settings that are not.
    """
    holder = c if text is None or c.raw(_KEY) is not None else text
    plain = _plain_dtype(c if text is None or _dtype_of(c) is not None else text)
    quantisation = holder.raw(_KEY)
    if quantisation is None:
        return Stored(plain)
    if not isinstance(quantisation, dict):
        holder.refuse(_KEY, "is not a mapping")
    method = quantisation.get("quant_method")
    reader = _METHODS.get(method) if isinstance(method, str) else None
    if reader is None:
        why = _GONE.get(method) if isinstance(method, str) else None
        known = ", ".join(sorted(_METHODS))
        holder.refuse(f"{_KEY}.quant_method", why or f"{str(method)[:60]!r} is not known; known are {known}")
    stored = reader(holder, quantisation)
    return replace(stored, kept=_kept(holder, quantisation))


def _kept(c: Config, quantisation: dict[str, Any]) -> tuple[str, ...]:
    """Modules that stay in 16 bits, under the names the tools use."""
    kept: list[str] = []
    for key in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules"):
        value = quantisation.get(key)
        if value is None:
            continue
        if not isinstance(value, list) or len(value) > _MAX_KEPT or not all(isinstance(item, str) for item in value):
            c.refuse(f"{_KEY}.{key}", "expected a list of module names")
        kept += value
    return tuple(kept)


def _awq(c: Config, quantisation: dict[str, Any]) -> Stored:
    zeros = quantisation.get("zero_point", True)
    return Stored(_integer(c, quantisation, "awq", zeros=zeros is not False))


def _gptq(c: Config, quantisation: dict[str, Any]) -> Stored:
    """GPTQ files carry zero points even where they are symmetric, and vLLM loads them."""
    for key in ("dynamic", "modules_in_block_to_quantize"):
        if quantisation.get(key):
            c.refuse(f"{_KEY}.{key}", "differing settings per module are not known")
    head = ("the quantised lm_head is counted in 16 bits",) if quantisation.get("lm_head") is True else ()
    return Stored(_integer(c, quantisation, "gptq", zeros=True), notes=head)


def _integer(c: Config, quantisation: dict[str, Any], name: str, *, zeros: bool) -> WeightFormat:
    bits = _whole(c, quantisation, "bits", (2, 3, 4, 8), 4 if name == "awq" else None)
    if quantisation.get("group_size", 128) == -1:
        return grouped(name, bits, _COLUMN, zeros=zeros)
    return grouped(name, bits, _whole(c, quantisation, "group_size", (16, 32, 64, 128, 256), 128), zeros=zeros)


def _fp8(c: Config, quantisation: dict[str, Any]) -> Stored:
    block = quantisation.get("weight_block_size")
    return Stored(weight_format("fp8") if block is None else _blocks(c, block, f"{_KEY}.weight_block_size"))


def _blocks(c: Config, block: Any, key: str) -> WeightFormat:
    """fp8 with one float32 scale per block (DeepSeek: 128 x 128)."""
    if not (isinstance(block, list) and len(block) == 2 and all(_is_size(side) for side in block)):
        c.refuse(key, "expected two sizes, for example [128, 128]")
    return replace(weight_format("fp8"), linear_bits=8 + Fraction(32, block[0] * block[1]), block=block[0])


def _mxfp4(c: Config, quantisation: dict[str, Any]) -> Stored:
    """gpt-oss: only the experts are in mxfp4, attention stays in bfloat16."""
    return Stored(replace(weight_format("mxfp4"), linear_bits=Fraction(16), expert_bits=4 + Fraction(8, 32)))


def _modelopt(c: Config, quantisation: dict[str, Any]) -> Stored:
    algorithm = quantisation.get("quant_algo")
    if algorithm not in ("FP8", "NVFP4"):
        c.refuse(f"{_KEY}.quant_algo", f"{str(algorithm)[:40]!r} is not known; known are FP8, NVFP4")
    weights = weight_format("fp8" if algorithm == "FP8" else "nvfp4")
    scheme = quantisation.get("kv_cache_scheme")
    fp8_cache = quantisation.get("kv_cache_quant_algo") == "FP8" or (
        isinstance(scheme, dict) and (scheme.get("type"), scheme.get("num_bits")) == ("float", 8)
    )
    return Stored(replace(weights, kv_bits=8) if fp8_cache else weights)


def _compressed(c: Config, quantisation: dict[str, Any]) -> Stored:
    """compressed-tensors with one group of settings for all linear layers."""
    key = f"{_KEY}.config_groups"
    groups = quantisation.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        c.refuse(key, "expected exactly one group; mixed precisions are not known")
    group = next(iter(groups.values()))
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        c.refuse(key, "its group has no `weights`")
    made = _compressed_weights(c, key, weights)
    if made.fp8_math and group.get("input_activations") is None:
        made = replace(made, fp8_math=False)  # weights alone are in fp8
    scheme = quantisation.get("kv_cache_scheme")
    if scheme is not None:
        if not isinstance(scheme, dict) or (scheme.get("type"), scheme.get("num_bits")) != ("float", 8):
            c.refuse(f"{_KEY}.kv_cache_scheme", "a KV cache of 8-bit floats is known, no other")
        made = replace(made, kv_bits=8)  # vLLM's `auto` follows the checkpoint
    return Stored(made)


def _compressed_weights(c: Config, key: str, weights: dict[str, Any]) -> WeightFormat:
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    group = size if _is_size(size) else None
    zeros = weights.get("symmetric") is False
    if bits == 8 and kind == "float":
        if weights.get("strategy") == "block":
            return _blocks(c, weights.get("block_structure"), f"{key}.weights.block_structure")
        return weight_format("fp8")
    if bits == 8 and kind == "int":
        return weight_format("int8") if group is None else grouped("int8", 8, group, zeros=zeros)
    if bits == 4 and kind == "int":
        return grouped("int4", 4, group or _COLUMN, zeros=zeros)
    if bits == 4 and kind == "float" and group == 16:
        return weight_format("nvfp4")
    if bits == 4 and kind == "float" and group == 32:
        return weight_format("mxfp4")
    known = "8 float, 8 int, 4 int, 4 float in groups of 16 or 32 are"
    return c.refuse(key, f"weights of {str(bits)[:20]} bits and type {str(kind)[:20]!r} are not known ({known})")


_METHODS: dict[str, Callable[[Config, dict[str, Any]], Stored]] = {
    "awq": _awq,
    "gptq": _gptq,
    "fp8": _fp8,
    "fbgemm_fp8": lambda _c, _q: Stored(weight_format("fp8")),
    "mxfp4": _mxfp4,
    "modelopt": _modelopt,
    "compressed-tensors": _compressed,
}
_GONE = {
    "bitsandbytes": "vLLM 0.32 loads no bitsandbytes checkpoints; use one in awq, gptq, fp8 or compressed-tensors",
}


def _dtype_of(c: Config) -> Any:
    return c.raw("dtype") if c.raw("dtype") is not None else c.raw("torch_dtype")


def _plain_dtype(c: Config) -> WeightFormat:
    name = _dtype_of(c)
    if name is None or name == "float32":
        return weight_format("bfloat16")
    if name not in _PLAIN:
        c.refuse("torch_dtype", f"is {str(name)[:60]!r}; expected one of {', '.join(_PLAIN)}")
    return weight_format(name)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 20


def _whole(c: Config, mapping: dict[str, Any], key: str, allowed: tuple[int, ...], default: int | None = None) -> int:
    value = mapping.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        c.refuse(f"{_KEY}.{key}", f"is {str(value)[:60]!r}; expected one of {list(allowed)}")
    return int(value)
