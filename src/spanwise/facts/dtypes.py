"""Weight formats: how many bytes a parameter takes on the GPU, and what the GPU must be able to do with it.

Quantised formats touch linear layers only; embeddings, output head, norms and routers stay in the activation's
precision, as vLLM loads them (measured on an H200 with vLLM 0.24: Llama-3-70B in fp8 loads 67.67 GiB; counted so:
67.66 GiB).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from spanwise.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """One way to store weights.

    Attributes:
        name: The intent's word for it.
        linear_bits: Bits per weight of a linear layer, scales and zero points included.
        plain_bits: Bits per parameter of everything else, which is also the activation's precision.
        expert_bits: Bits per weight of a routed expert, where they differ from other linear layers (gpt-oss).
        fp8_math: True where matrix products run in fp8 (on hardware that has it).
        kv_bits: Bits per KV cache element, where they differ from the activation's (fp8 KV cache).
        block: Side of the square blocks that have a scale each (fp8 of DeepSeek and Qwen3), which no cut may divide; None without.
        on_the_fly: True where vLLM makes it from a bfloat16 checkpoint while loading; others need their own checkpoint.
    """

    name: str
    linear_bits: Fraction
    plain_bits: int
    expert_bits: Fraction | None = None
    fp8_math: bool = False
    on_the_fly: bool = False
    kv_bits: int | None = None
    block: int | None = None

    @property
    def kv_bytes(self) -> int:
        """Bytes per KV element: vLLM's ``--kv-cache-dtype auto`` keeps the activation's precision unless the checkpoint asks for fp8."""
        return (self.plain_bits if self.kv_bits is None else self.kv_bits) // 8

    @property
    def quantised(self) -> bool:
        """True where linear weights are smaller than activations."""
        return self.linear_bits < self.plain_bits or self.expert_bits is not None

    def linear_bytes(self, parameters: int) -> int:
        """Bytes of ``parameters`` linear weights, rounded up."""
        return -(-parameters * self.linear_bits.numerator // (self.linear_bits.denominator * 8))

    def expert_bytes(self, parameters: int) -> int:
        """Bytes of ``parameters`` weights of routed experts, rounded up."""
        bits = self.linear_bits if self.expert_bits is None else self.expert_bits
        return -(-parameters * bits.numerator // (bits.denominator * 8))

    def plain_bytes(self, parameters: int) -> int:
        """Bytes of ``parameters`` other parameters."""
        return parameters * self.plain_bits // 8


def grouped(name: str, bits: int, group: int, *, zeros: bool = True) -> WeightFormat:
    """A weight-only integer format: per ``group`` weights one 16-bit scale, and one zero point of ``bits`` bits where it has ``zeros``."""
    return WeightFormat(name=name, linear_bits=bits + Fraction(16 + (bits if zeros else 0), group), plain_bits=16)


# --kv-cache-dtype: bits per element. fp8 scales are one number per layer.
KV_CACHE_DTYPES = {"auto": None, "bfloat16": 16, "float16": 16, "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8}


def with_kv_cache(weights: WeightFormat, dtype: str) -> WeightFormat:
    """The same weights with another ``--kv-cache-dtype``; ``auto`` leaves what the checkpoint asks for.

    Raises:
        ModelError: An unknown name.
    """
    if dtype not in KV_CACHE_DTYPES:
        raise ModelError(
            f"unknown KV cache dtype {dtype[:40]!r}",
            where="kv_cache_dtype",
            remedy=f"use one of {', '.join(KV_CACHE_DTYPES)}",
        )
    bits = KV_CACHE_DTYPES[dtype]
    return weights if bits is None else replace(weights, kv_bits=bits)


_FORMATS = {
    "float32": WeightFormat(name="float32", linear_bits=Fraction(32), plain_bits=32, on_the_fly=True),
    "bfloat16": WeightFormat(name="bfloat16", linear_bits=Fraction(16), plain_bits=16, on_the_fly=True),
    "float16": WeightFormat(name="float16", linear_bits=Fraction(16), plain_bits=16, on_the_fly=True),
    # One scale per tensor or per channel: thousands of weights share it, it is left out (below 0.1 %).
    "fp8": WeightFormat(name="fp8", linear_bits=Fraction(8), plain_bits=16, fp8_math=True, on_the_fly=True),
    "int8": WeightFormat(name="int8", linear_bits=Fraction(8), plain_bits=16),
    # AWQ and GPTQ checkpoints use groups of 128 unless their config says otherwise.
    "int4": grouped("int4", 4, 128),
    "awq": grouped("awq", 4, 128),
    "gptq": grouped("gptq", 4, 128),
    # NVFP4: 16 weights share one fp8 scale, a tensor one float32.
    "nvfp4": WeightFormat(name="nvfp4", linear_bits=4 + Fraction(8, 16), plain_bits=16),
    # OCP MX v1.0: 32 weights share one 8-bit exponent.
    "mxfp4": WeightFormat(name="mxfp4", linear_bits=4 + Fraction(8, 32), plain_bits=16),
}


def weight_format(name: str) -> WeightFormat:
    """The format of that name.

    Raises:
        ModelError: An unknown name.
    """
    try:
        return _FORMATS[name]
    except KeyError:
        raise ModelError(
            f"unknown dtype {name!r}", where="dtype", remedy=f"use one of {', '.join(sorted(_FORMATS))}"
        ) from None
