"""Every rendered file, byte for byte, against tests/golden.

SPANWISE_UPDATE_GOLDEN=1 writes them again: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spanwise.render import RenderedFile, RenderOptions, render
from spanwise.render.lint import lint
from tests.unit.plans import CASES

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SPANWISE = RenderOptions(runtime="spanwise", image="registry.example/spanwise:0.1.0", name="two-models")


def files_of(case: str) -> dict[str, RenderedFile]:
    plans = CASES[case]
    found = {}
    for target in ("vllm", "ray", "kuberay"):
        found |= {f"{case}/{target}/{file.name}": file for file in render(plans, target)}
    if case == "two-models":
        for target in ("ray", "kuberay"):
            found |= {f"{case}/{target}-spanwise/{file.name}": file for file in render(plans, target, SPANWISE)}
    return found


@pytest.mark.parametrize("case", CASES)
def test_rendered_files_are_the_golden_ones(case: str) -> None:
    files = files_of(case)
    if os.environ.get("SPANWISE_UPDATE_GOLDEN"):
        for name, file in files.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(file.text, encoding="utf-8")
    kept = {str(path.relative_to(GOLDEN)) for path in (GOLDEN / case).rglob("*") if path.is_file()}
    assert set(files) == kept
    for name, file in files.items():
        assert file.text == (GOLDEN / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("case", CASES)
def test_what_render_writes_passes_lint(case: str) -> None:
    for name, file in files_of(case).items():
        bad = [item for item in lint(file.text.encode(), name) if item.severity != "info"]
        assert bad == []


def test_rendering_again_gives_the_same_bytes() -> None:
    assert files_of("two-models") == files_of("two-models")
