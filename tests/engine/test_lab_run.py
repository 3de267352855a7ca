"""`lab run`: a rendered RayService of two models runs, in stock Ray Serve LLM and in our own runtime, and both models answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from spanwise.render import RenderOptions, render
from tests.commands import CommandLine
from tests.leftovers import left, snapshot
from tests.unit.plans import make_plan

pytest.importorskip("vllm", reason="needs the engine: make env")
pytestmark = [pytest.mark.engine, pytest.mark.lab, pytest.mark.timeout(900)]

# A hang limit for a loaded machine, not a promise.
RUN_HANG_S = 600
# Three ranks, two models: a pipeline over two hosts, for which SmolLM2 stands in, and a model of one rank.
PIPE = make_plan(name="pipe", model="org/Pipe-70B", served_name="pipe", tensor=1, stages=2, hosts=2, gpus_per_node=1)
ALONE = make_plan(
    name="alone",
    model="org/Alone-8B",
    served_name="org/alone-8b",
    tensor=1,
    gpus_per_node=1,
    gpu="L4-24GB",
    first_host=5,
)
RUNTIMES = {
    "stock": RenderOptions(),
    "spanwise": RenderOptions(runtime="spanwise", image="registry.example/spanwise:1"),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_both_models_of_a_rendered_rayservice_answer(runtime: str, tmp_path: Path) -> None:
    before = snapshot()
    spanwise = CommandLine(tmp_path / "state")
    manifest = tmp_path / "rayservice.yaml"
    document = yaml.safe_load(render((PIPE, ALONE), "kuberay", RUNTIMES[runtime])[0].text)
    # What a stranger would like to run: it must not be, and the report must say so.
    sign = tmp_path / "it-was-run"
    for group in (
        document["spec"]["rayClusterConfig"]["headGroupSpec"],
        document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0],
    ):
        group["template"]["spec"]["containers"][0] |= {
            "command": ["touch", str(sign)],
            "lifecycle": {"postStart": {"exec": {"command": ["touch", str(sign)]}}},
        }
    manifest.write_text(yaml.safe_dump(document))
    try:
        keep = ["--keep"] if runtime == "stock" else []
        outcome = spanwise("lab", "run", str(manifest), "--json", *keep, timeout_s=RUN_HANG_S)
        if keep and outcome.code == 0:
            _adopted(spanwise, str(tmp_path / "adopted"))
    finally:
        if (spanwise.state_dir / "lab.json").exists():
            spanwise("lab", "down")
    assert outcome.code == 0, outcome.err
    report = outcome.document
    groups = {
        "stock": ["head", "pipe-domain-1", "pipe-domain-1", "alone-domain-1"],
        "spanwise": ["head", "host-1", "host-2", "host-5"],
    }
    assert [host["group"] for host in report["hosts"]] == groups[runtime]
    models = {model["name"]: model for model in report["models"]}
    assert {model["runtime"] for model in models.values()} == {runtime}
    for model in models.values():
        assert model["answered"], model["error"]
        assert model["completion_tokens"] > 0
        assert model["finish_reason"] in ("stop", "length")
        assert "Paris" in model["answer"], "SmolLM2 stands in"
    # Each model on its own worker group, none on the head.
    places = {name: {host for replica in model["replica_hosts"] for host in replica} for name, model in models.items()}
    assert places == {"pipe": {"host-2", "host-3"}, "org/alone-8b": {"host-4"}}
    not_run = {difference["what"] for difference in report["differences"] if difference["kind"] == "not_run"}
    assert {"command", "lifecycle"} <= not_run
    assert not sign.exists()
    assert left(before) == {}
    assert json.loads(outcome.out) == report, "one document"


def _adopted(spanwise: CommandLine, directory: str) -> None:
    """What runs is adopted from the cluster, by the layout that runs, and nothing of it is changed."""
    command = (
        "lab",
        "exec",
        "host-1",
        "spanwise",
        "adopt",
        "--ray",
        "auto",
        "--gpu",
        "lab-cpu",
        "-o",
        directory,
        "--json",
    )
    adopted = spanwise(*command)
    assert adopted.code == 0, adopted.err
    models = {model["name"]: model for model in adopted.document["models"]}
    layouts = {name: model["plan"]["layout"] for name, model in models.items()}
    assert layouts["pipe"]["pipeline_parallel_size"] == 2
    assert layouts["org/alone-8b"]["pipeline_parallel_size"] == 1
    assert models["pipe"]["intent"]["hardware"]["hosts"] == ["host-2", "host-3", "host-4"], "the head has no GPU"
    written = sorted(path.name for path in Path(directory).iterdir())
    assert written == ["alone-8b.intent.yaml", "alone-8b.plan.json", "pipe.intent.yaml", "pipe.plan.json"]
    again = spanwise(*command)
    assert again.document["models"] == adopted.document["models"], "it still runs, as before"
