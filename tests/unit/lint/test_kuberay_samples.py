"""KubeRay's own samples get no error, as they are; with a mistake planted in them, they do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanwise.render.lint import lint
from tests.unit.lint.kuberay_oracle import verdict

# What others wrote, byte for byte; the README there says from where.
SAMPLES = Path(__file__).resolve().parents[2] / "recorded" / "kuberay-samples"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FILES = sorted(SAMPLES.rglob("*.yaml"))
CLUSTERS = {"RayService": ("spec", "rayClusterConfig"), "RayCluster": ("spec",)}
# A sample that is genuinely wrong would stand here: its name, the error's code, and the rule of KubeRay, Ray or Kubernetes that
# makes the error true. KubeRay 1.7.0 has none.
WRONG: dict[str, dict[str, str]] = {}


def name_of(file: Path) -> str:
    return str(file.relative_to(SAMPLES))


def errors(data: bytes) -> set[str]:
    return {finding.code for finding in lint(data, "sample") if finding.severity == "error"}


def objects(file: Path) -> Iterator[dict[str, Any]]:
    """The RayServices and RayClusters of a file."""
    for document in yaml.load_all(file.read_text("utf-8"), Loader=_LOADER):
        if isinstance(document, dict) and document.get("kind") in CLUSTERS:
            yield document


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_sample_has_no_error(file: Path) -> None:
    found = [finding for finding in lint(file.read_bytes(), name_of(file)) if finding.severity == "error"]
    expected = WRONG.get(name_of(file), {})
    assert {finding.code for finding in found} == set(expected), found


def test_they_are_all_there() -> None:
    """An empty folder would pass as well."""
    kinds = [sample["kind"] for file in FILES for sample in objects(file)]
    assert (len(FILES), kinds.count("RayService"), kinds.count("RayCluster")) == (62, 16, 46)
    assert set(WRONG) <= {name_of(file) for file in FILES}


def test_the_oracle_accepts_them_too() -> None:
    """The rules transcribed from KubeRay's sources, which know nothing of lint, hold on KubeRay's own objects."""
    answers = {(name_of(file), verdict(sample)) for file in FILES for sample in objects(file)}
    assert {(name, why) for name, (answer, why) in answers if answer == "no"} == set()


def _cluster(sample: dict[str, Any]) -> dict[str, Any]:
    inner: Any = sample
    for key in CLUSTERS[sample["kind"]]:
        inner = inner[key]
    assert isinstance(inner, dict)
    return inner


def _head(sample: dict[str, Any]) -> Any:
    return _cluster(sample)["headGroupSpec"]["template"]["spec"]["containers"][0]


def _no_image(sample: dict[str, Any]) -> None:
    del _head(sample)["image"]


def _head_misspelt(sample: dict[str, Any]) -> None:
    cluster = _cluster(sample)
    cluster["headGroupSpecs"] = cluster.pop("headGroupSpec")


def _number_for_text(sample: dict[str, Any]) -> None:
    _cluster(sample)["headGroupSpec"]["rayStartParams"] = {"num-cpus": 0}


def _mount_of_nothing(sample: dict[str, Any]) -> None:
    _head(sample).setdefault("volumeMounts", []).append({"name": "nowhere", "mountPath": "/nowhere"})


def _name_in_capitals(sample: dict[str, Any]) -> None:
    sample["metadata"]["name"] = "Sample"


def _redis_twice(sample: dict[str, Any]) -> None:
    cluster = _cluster(sample)
    cluster["gcsFaultToleranceOptions"] = {"redisAddress": "redis:6379"}
    _head(sample).setdefault("env", []).append({"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"})


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (_no_image, "image_missing"),
        (_head_misspelt, "head_group_missing"),
        (_number_for_text, "wrong_type"),
        (_mount_of_nothing, "pod_refused"),
        (_name_in_capitals, "name_not_allowed"),
        (_redis_twice, "fault_tolerance_conflict"),
    ],
)
def test_a_planted_mistake_is_an_error(plant: Callable[[dict[str, Any]], None], code: str) -> None:
    """In every single sample: being silent about all of them is not being right about them."""
    silent = []
    for file in FILES:
        for sample in objects(file):
            changed = copy.deepcopy(sample)
            plant(changed)
            if code not in errors(json.dumps(changed).encode()):
                silent.append((name_of(file), sample["metadata"]["name"]))
    assert silent == []


def test_a_planted_mistake_in_a_serve_config_is_an_error() -> None:
    file = SAMPLES / "ray-service.deepseek.yaml"
    text = file.read_text("utf-8")
    for old, new, code in (
        ("tensor_parallel_size: 8", "tensor_parallel_size: 16", "gpus_not_enough"),
        ('model_id: "deepseek"', 'model: "deepseek"', "model_id_missing"),
        ("      import_path: ray.serve.llm:build_openai_app\n", "", "import_path_missing"),
        ('accelerator_type: "H100"', 'accelerator_type: "H1000"', "accelerator_unknown"),
    ):
        assert old in text
        assert code in errors(text.replace(old, new).encode()), code
