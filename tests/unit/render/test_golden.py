"""Every rendered file, byte for byte, against tests/golden.

SPANWISE_UPDATE_GOLDEN=1 writes them again: read the diff.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from spanwise.render import RenderedFile, RenderOptions, Target, render
from spanwise.render.lint import lint
from tests.unit.plans import CASES
from tests.unit.render.sites import FULL, SPANWISE

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
# Beside the three targets without options: folder, target, options.
FURTHER: dict[str, list[tuple[str, Target, RenderOptions]]] = {
    "two-models": [
        ("ray-spanwise", "ray", RenderOptions(runtime="spanwise")),
        ("kuberay-spanwise", "kuberay", replace(SPANWISE, name="two-models")),
    ],
    "two-hosts": [
        ("kuberay-full", "kuberay", FULL),
        ("kuberay-kustomize", "kuberay", RenderOptions(kustomize=True)),
    ],
    "article": [("kuberay-s3", "kuberay", RenderOptions(model_volume="s3://weights/llama-3-70b", env_secrets=("s3",)))],
}


def files_of(case: str) -> dict[str, RenderedFile]:
    plans = CASES[case]
    wanted = [(target, target, RenderOptions()) for target in get_args(Target)] + FURTHER.get(case, [])
    return {
        f"{case}/{folder}/{file.name}": file
        for folder, target, options in wanted
        for file in render(plans, target, options)
    }


@pytest.mark.parametrize("case", CASES)
def test_rendered_files_are_the_golden_ones(case: str) -> None:
    files = files_of(case)
    if os.environ.get("SPANWISE_UPDATE_GOLDEN"):
        for name, file in files.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(file.text, encoding="utf-8")
    kept = {path.relative_to(GOLDEN).as_posix() for path in (GOLDEN / case).rglob("*") if path.is_file()}
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
