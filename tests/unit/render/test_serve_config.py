"""The Serve config against Ray's own schema and Ray Serve LLM's own classes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from spanwise.render import render
from spanwise.render.upstream import ACCELERATORS, RAY_ACCELERATOR_TYPES, accelerator_type, gpu_resource
from tests.unit.plans import CASES, LOCAL, TWO_HOSTS

# One interpreter for all cases: importing Ray Serve LLM with vLLM takes ten seconds.
_CHECK = """
import json, sys
from ray.serve.schema import ServeDeploySchema
from ray.serve.llm import LLMConfig, LLMServingArgs
said = []
for text in json.load(sys.stdin):
    config = ServeDeploySchema.model_validate(text)
    (application,) = config.applications
    args = LLMServingArgs.model_validate(application.args)
    for given, parsed in zip(application.args["llm_configs"], args.llm_configs):
        config = LLMConfig(**given)
        engine = config.get_engine_config()
        kwargs = engine.get_initialization_kwargs()
        said.append([config.model_id, kwargs["model"], kwargs["distributed_executor_backend"], engine.num_devices,
                     engine.placement_strategy, engine.placement_bundles])
print("ANSWER" + json.dumps(said))
"""


def test_ray_accepts_it_and_reads_what_was_meant() -> None:
    pytest.importorskip("ray.serve", reason="Ray is not installed here")
    pytest.importorskip("vllm", reason="vLLM is not installed here")
    texts = [yaml.safe_load(render(plans, "ray")[0].text) for plans in CASES.values()]
    done = subprocess.run(
        [sys.executable, "-c", _CHECK],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    said = json.loads(answer.removeprefix("ANSWER"))
    plans = [plan for plans in CASES.values() for plan in plans]
    assert [item[0] for item in said] == [plan.model.served_name for plan in plans]
    assert [item[1] for item in said] == [plan.model.source for plan in plans]
    assert {item[2] for item in said} == {"ray"}
    assert [item[3] for item in said] == [plan.layout.world_size for plan in plans]
    assert [item[4] for item in said] == [
        "STRICT_PACK" if all(len(gang.hosts) == 1 for gang in plan.gangs) else "PACK" for plan in plans
    ]
    for item, plan in zip(said, plans, strict=True):
        kind = accelerator_type(plan.expected.gpu)
        assert item[5] == [{"GPU": 1, f"accelerator_type:{kind}": 0.001}] * plan.layout.world_size


def test_environment_and_replicas_arrive() -> None:
    (config,) = yaml.safe_load(render([LOCAL], "ray")[0].text)["applications"][0]["args"]["llm_configs"]
    assert config["runtime_env"]["env_vars"] == {"GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "=eth1"}
    assert config["deployment_config"] == {"num_replicas": 1}
    assert "model" not in config["engine_kwargs"]
    (two,) = yaml.safe_load(render([TWO_HOSTS], "ray")[0].text)["applications"][0]["args"]["llm_configs"]
    assert "distributed_executor_backend" not in two["engine_kwargs"]


def test_accelerator_names_are_rays() -> None:
    assert set(ACCELERATORS.values()) <= RAY_ACCELERATOR_TYPES
    accelerators = pytest.importorskip("ray.util.accelerators.accelerators", reason="Ray is not installed here")
    theirs = {value for name, value in vars(accelerators).items() if name.isupper() and isinstance(value, str)}
    # Guard: `AMD_INSTINCT_MI250x` and its like are not upper case.
    theirs |= {value for name, value in vars(accelerators).items() if name.startswith("AMD_")}
    assert theirs == RAY_ACCELERATOR_TYPES


@pytest.mark.parametrize(
    ("gpu", "kind", "resource"),
    [
        ("H100-80GB-SXM", "H100", "nvidia.com/gpu"),
        ("L4-24GB", "L4", "nvidia.com/gpu"),
        ("MI300X-192GB", "AMD-Instinct-MI300X-OAM", "amd.com/gpu"),
        ("lab-cpu", None, "nvidia.com/gpu"),
        ("inline", None, "nvidia.com/gpu"),
    ],
)
def test_gpu_names(gpu: str, kind: str | None, resource: str) -> None:
    assert (accelerator_type(gpu), gpu_resource(gpu)) == (kind, resource)
