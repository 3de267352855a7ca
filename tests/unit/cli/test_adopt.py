"""What ``adopt`` writes: all of it or nothing, and nothing that belongs to another run is taken for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.cli.command import refused, spanwise

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = "vllm serve meta-llama/Meta-Llama-3-8B --tensor-parallel-size 2"
GPU = ("--gpu", "H100-80GB-SXM")


def test_both_files_or_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "plan.json").mkdir(parents=True)
    assert "this is a directory" in refused("adopt", "-", *GPU, "-o", out, stdin=KNOWN)
    assert [path.name for path in out.iterdir()] == ["plan.json"]


def test_a_plan_of_an_earlier_run_is_named(tmp_path: Path) -> None:
    assert spanwise("adopt", "-", *GPU, "-o", tmp_path, stdin=KNOWN)[0] == 0
    code, _, err = spanwise("adopt", "-", *GPU, "-o", tmp_path, stdin="vllm serve acme/unknown")
    assert code == 0
    assert f"{tmp_path / 'plan.json'} is from an earlier run" in err


def test_a_place_that_is_no_folder() -> None:
    assert "-o: an empty path is no folder" in refused("adopt", "-", *GPU, "-o", "", stdin=KNOWN)
    assert "-o: several files cannot go to standard output" in refused("adopt", "-", *GPU, "-o", "-", stdin=KNOWN)
