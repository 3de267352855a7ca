"""The precision of a checkpoint, read from config.json: plain or a known quantised form; others are refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from spanwise.facts.dtypes import WeightFormat, grouped, weight_format

if TYPE_CHECKING:
    from spanwise.facts.config import Config

_PLAIN = ("bfloat16", "float16", "float32")


def checkpoint_format(c: Config) -> WeightFormat:
    """What the weights on disk are.

    A float32 checkpoint counts as bfloat16, because vLLM's ``--dtype auto`` serves it so.

    Raises:
        ModelError: A quantisation that is not known, or known with settings that are not.
    """
    plain = _plain_dtype(c)
    quantisation = c.raw("quantization_config")
    if quantisation is None:
        return plain
    if not isinstance(quantisation, dict):
        c.refuse("quantization_config", "is not a mapping")
    method = quantisation.get("quant_method")
    if method in ("awq", "gptq"):
        bits = _whole(c, quantisation, "bits", (2, 3, 4, 8))
        group = quantisation.get("group_size", 128)
        if group == -1:  # one scale per column: thousands of weights share it
            return replace(grouped(str(method), bits, 1 << 12), name=str(method))
        return grouped(str(method), bits, _whole(c, quantisation, "group_size", (16, 32, 64, 128, 256), 128))
    if method == "fp8":
        block = quantisation.get("weight_block_size")
        bits8 = Fraction(8)
        if block is not None:
            if not (isinstance(block, list) and len(block) == 2 and all(_is_size(side) for side in block)):
                c.refuse("quantization_config.weight_block_size", "expected two sizes, for example [128, 128]")
            bits8 += Fraction(32, block[0] * block[1])  # one float32 scale per block
        return replace(weight_format("fp8"), linear_bits=bits8)
    if method == "mxfp4":
        # gpt-oss: only the experts are in mxfp4, attention stays in bfloat16.
        return replace(weight_format("mxfp4"), linear_bits=Fraction(16), expert_bits=4 + Fraction(8, 32))
    if method == "compressed-tensors":
        return _compressed(c, quantisation)
    known = "awq, gptq, fp8, mxfp4, compressed-tensors"
    return c.refuse("quantization_config.quant_method", f"{str(method)[:60]!r} is not known; known are {known}")


def _compressed(c: Config, quantisation: dict[str, Any]) -> WeightFormat:
    """compressed-tensors with one group of settings for all linear layers."""
    key = "quantization_config.config_groups"
    groups = quantisation.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        c.refuse(key, "expected exactly one group; mixed precisions are not known")
    group = next(iter(groups.values()))
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        c.refuse(key, "its group has no `weights`")
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if bits == 8 and kind == "float":
        return weight_format("fp8")
    if bits == 8 and kind == "int":
        return weight_format("int8")
    if bits == 4 and kind == "int":
        return grouped("int4", 4, int(size) if isinstance(size, int) and _is_size(size) else 1 << 12)
    return c.refuse(
        key, f"weights of {bits!r} bits and type {str(kind)[:20]!r} are not known (8 float, 8 int, 4 int are)"
    )


def _plain_dtype(c: Config) -> WeightFormat:
    name = c.raw("dtype") if c.raw("dtype") is not None else c.raw("torch_dtype")
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
        c.refuse(f"quantization_config.{key}", f"is {str(value)[:60]!r}; expected one of {list(allowed)}")
    return int(value)
