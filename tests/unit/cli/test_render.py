from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.command import refused, spanwise
from tests.unit.plans import ARTICLE, SMALL, TWO_HOSTS, document

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plans(tmp_path: Path) -> list[Path]:
    paths = []
    for plan in (TWO_HOSTS, SMALL):
        paths.append(tmp_path / f"{plan.name}.json")
        paths[-1].write_text(json.dumps(document(plan)))
    return paths


def test_every_target(plans: list[Path], tmp_path: Path) -> None:
    for target, expected in (
        (
            "vllm",
            ["meta-llama-3-70b-0.host-1.sh", "meta-llama-3-70b-0.host-2.sh", "small-0.host-7.sh", "small-1.host-7.sh"],
        ),
        ("ray", ["serve.yaml"]),
        ("kuberay", ["rayservice.yaml"]),
    ):
        out = tmp_path / "out" / target
        code, shown, err = spanwise("render", *plans, "--target", target, "-o", out)
        assert (code, err) == (0, "")
        assert sorted(path.name for path in out.iterdir()) == expected
        assert sorted(shown.split()) == [str(out / name) for name in expected]
    assert (tmp_path / "out" / "vllm" / "small-0.host-7.sh").stat().st_mode & 0o111
    assert not (tmp_path / "out" / "ray" / "serve.yaml").stat().st_mode & 0o111


def test_json_and_options(plans: list[Path], tmp_path: Path) -> None:
    image = ["--runtime", "spanwise", "--image", "registry.example/s:1", "--name", "both"]
    code, shown, _ = spanwise("render", *plans, "--target", "kuberay", *image, "-o", tmp_path / "out", "--json")
    assert code == 0
    answer = json.loads(shown)
    assert answer["files"] == [str(tmp_path / "out" / "rayservice.yaml")]
    assert "name: both" in (tmp_path / "out" / "rayservice.yaml").read_text()


def test_bad_input(plans: list[Path], tmp_path: Path) -> None:
    out = ["-o", tmp_path / "out"]
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document(ARTICLE)).replace('"replicas": 1', '"replicas": 2'))
    assert "edited" in refused("render", edited, "--target", "ray", *out)
    assert "two plans have the name" in refused("render", plans[0], plans[0], "--target", "ray", *out)
    assert "needs an image" in refused("render", plans[0], "--target", "kuberay", "--runtime", "spanwise", *out)
    assert "no other runtime" in refused("render", plans[0], "--target", "vllm", "--runtime", "spanwise", *out)
    assert "'docker'" in refused("render", plans[0], "--target", "docker", *out)
    assert "name for a RayService" in refused("render", plans[0], "--target", "kuberay", "--name", "A B", *out)
    assert "cannot be written" in refused("render", plans[0], "--target", "ray", "-o", plans[0])
    assert not (tmp_path / "out").exists()
