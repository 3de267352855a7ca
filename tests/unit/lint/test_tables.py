"""The data that lint carries along, against what it was made from: vLLM's parser, Ray's schemas, KubeRay's CRDs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from spanwise.render.engine_flags import flag_table, to_flags
from spanwise.render.lint import serve_config
from spanwise.render.lint.compact import compact_text, from_crd
from spanwise.render.lint.schema import shipped
from spanwise.render.lint.serve_schema import reduced
from spanwise.render.upstream import KUBERAY_VERSION, RAY_VERSION, VLLM_VERSION
from tests.shared_data import shared_dir

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "src" / "spanwise" / "render" / "data"


def test_flags_are_those_of_the_installed_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "vllm_flags.py"), "--print"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout[done.stdout.index('{\n  "vllm"') :])
    ours = json.loads((DATA / "vllm-flags.json").read_text())
    assert ours == theirs, "run: python tools/vllm_flags.py"
    assert ours["vllm"] == VLLM_VERSION


def test_the_serve_schema_is_that_of_the_installed_ray() -> None:
    ray = pytest.importorskip("ray.serve.schema", reason="Ray is not installed here")
    ours = json.loads((DATA / "serve-schema.json").read_text())
    assert ours["schema"] == reduced(ray.ServeDeploySchema.model_json_schema()), "run: python tools/serve_schema.py"
    assert ours["ray"] == RAY_VERSION


def test_fields_are_those_of_the_installed_ray() -> None:
    llm = pytest.importorskip(
        "ray.llm._internal.serve.core.configs.llm_config", reason="Ray Serve LLM is not installed"
    )
    assert set(llm.LLMConfig.model_fields) == serve_config.LLM_CONFIG_FIELDS
    assert set(llm.ModelLoadingConfig.model_fields) == serve_config.MODEL_LOADING_FIELDS


@cache
def crds() -> list[str]:
    shared = shared_dir()
    if shared is None:
        pytest.skip("the reference data is absent: KubeRay's CRDs")
    folder = shared / "data" / "kuberay-v1.7"
    return [(folder / f"ray.io_{name}.yaml").read_text() for name in ("rayservices", "rayclusters")]


def test_kuberay_fields_are_those_of_the_crds() -> None:
    assert compact_text(KUBERAY_VERSION, crds()) == (DATA / "kuberay-fields.json").read_text(), (
        "run: python tools/kuberay_fields.py VERSION FOLDER"
    )


def test_a_given_crd_serves_as_well() -> None:
    given = from_crd(crds()[0], "crd.yaml")
    assert given.kinds["RayService"] == shipped().kinds["RayService"]
    assert given.shapes.items() <= shipped().shapes.items()


def test_to_flags_drops_defaults_and_keeps_the_rest() -> None:
    assert to_flags({"dtype": "auto", "tensor_parallel_size": 1, "enforce_eager": False, "seed": 0}) == []
    assert to_flags({"enforce_eager": True, "use_tqdm_on_load": False}) == [
        ("--enforce-eager",),
        ("--no-use-tqdm-on-load",),
    ]
    assert to_flags({"hf_overrides": {"b": 1, "a": 2}}) == [("--hf-overrides", '{"a": 2, "b": 1}')]
    assert to_flags({"served_model_name": ["a", "b"]}) == [("--served-model-name", "a", "b")]
    assert flag_table().by_name["-tp"].name == "tensor-parallel-size"
