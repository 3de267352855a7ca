"""The demo's precision follows the processor."""

from pathlib import Path

import pytest

from spanwise.lab.processor import quick_dtype


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx2 f16c", "float32"),
        ("fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("avx2 amx_bf16 amx_tile", "bfloat16"),
    ],
)
def test_flags(tmp_path: Path, flags: str, dtype: str) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: x\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert quick_dtype(info) == dtype


def test_unknown_processors_compute_in_float32(tmp_path: Path) -> None:
    assert quick_dtype(tmp_path / "none") == "float32"
    (tmp_path / "arm").write_text("Features : asimd bf16\n")
    assert quick_dtype(tmp_path / "arm") == "float32"
