"""GPUs asked for against ranks and GPUs that are there, and what scales them: each fault has its code, and a cure."""

from __future__ import annotations

import json

import pytest

from spanwise.render import RenderOptions, render
from tests.unit.lint.checks import codes, findings
from tests.unit.lint.samples import GOOD, SERVE
from tests.unit.plans import CASES

# One group replica is one model replica: eight ranks on two hosts of four GPUs.
GANGS = GOOD.replace("      replicas: 2\n", "      replicas: 1\n      numOfHosts: 2\n").replace(
    "Replicas: 2", "Replicas: 1"
)
SCALED = GANGS.replace("maxReplicas: 1", "maxReplicas: 3").replace(
    "    headGroupSpec:", "    enableInTreeAutoscaling: true\n    headGroupSpec:"
)


def model(extra: str, text: str = GOOD) -> str:
    """``text`` with lines in its model's entry."""
    assert "          engine_kwargs:\n" in text
    return text.replace("          engine_kwargs:\n", f"          {extra}\n          engine_kwargs:\n")


def deployment(words: str, text: str = GOOD) -> str:
    return model(f"deployment_config: {{{words}}}", text)


def bundles(words: str) -> dict[str, tuple[str, int]]:
    return codes(model(f"placement_group_config: {{{words}}}"))


def test_gpus_that_no_rank_uses() -> None:
    assert codes(GOOD) == {}
    assert codes(GOOD.replace("pipeline_parallel_size: 2", "pipeline_parallel_size: 1")) == {
        "gpus_idle": ("warning", 6)
    }
    (found,) = (item for item in findings(GOOD.replace("Replicas: 2", "Replicas: 3")) if item.code == "gpus_idle")
    assert "at most 8 GPUs" in found.message
    assert "12" in found.message
    # Head GPUs are GPUs too.
    assert "gpus_idle" in codes(GOOD.replace('limits: {cpu: "2"', 'limits: {nvidia.com/gpu: 1, cpu: "2"'))


def test_gpus_that_nobody_can_count_are_not_called_idle() -> None:
    """A program of somebody's own, or a model's config inside an image, may use what is left."""
    few = GOOD.replace("pipeline_parallel_size: 2", "pipeline_parallel_size: 1")
    own = "    - name: own\n      import_path: mine:app\n      route_prefix: /own\n"
    assert codes(few.replace("  rayClusterConfig:", f"{own}  rayClusterConfig:")) == {}
    assert codes(few.replace("        llm_configs:\n", "        llm_configs:\n        - /etc/model.yaml\n")) == {}
    # What the autoscaler takes away is not kept, and what Serve may scale to is used.
    scaled = few.replace("minReplicas: 2", "minReplicas: 1").replace(
        "    headG", "    enableInTreeAutoscaling: true\n    headG"
    )
    assert codes(scaled) == {}
    assert codes(deployment("autoscaling_config: {min_replicas: 1, max_replicas: 2}", few)) == {}


def test_plans_of_our_own_runtime_are_counted() -> None:
    text = render(CASES["two-models"], "kuberay", RenderOptions(runtime="spanwise", image="registry/spanwise:1"))[
        0
    ].text
    assert not {"gpus_idle", "gpus_not_enough"} & set(codes(text))
    least = (
        text.replace("replicas: 1", "replicas: 2")
        .replace("minReplicas: 1", "minReplicas: 2")
        .replace("maxReplicas: 1", "maxReplicas: 2")
    )
    assert "gpus_idle" in codes(least)
    assert "gpus_not_enough" in codes(
        text.replace("maxReplicas: 1", "maxReplicas: 0").replace("minReplicas: 1", "minReplicas: 0")
    )


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bundle_per_worker: {GPU: 1}", {}),
        ("bundle_per_worker: {GPU: 1, CPU: 2}, strategy: PACK", {}),
        ("bundles: [{GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}]", {}),
        ("bundle_per_worker: {GPU: 2}", {"bundles_refused": ("error", 13)}),
        ("bundles: [{GPU: 4}, {GPU: 4}]", {"bundles_refused": ("error", 13)}),
        ("bundles: [{GPU: 1}, {GPU: 1}]", {"bundles_not_ranks": ("error", 13)}),
        ("strategy: PACK", {"bundles_refused": ("error", 13)}),
        ("bundles: [{GPU: 1}], bundle_per_worker: {GPU: 1}", {"bundles_refused": ("error", 13)}),
        ("bundle_per_worker: {GPU: 1}, strategy: TOGETHER", {"bundles_refused": ("error", 13)}),
    ],
)  # fmt: skip
def test_bundles(words: str, found: dict[str, tuple[str, int]]) -> None:
    result = bundles(words)
    result.pop("gpus_idle", None)
    result.pop("gpus_not_enough", None)  # two GPUs a rank are sixteen
    assert result == found


def test_more_bundles_than_ranks_are_idle() -> None:
    text = GOOD.replace("pipeline_parallel_size: 2", "pipeline_parallel_size: 1")
    listed = ", ".join(["{GPU: 1}"] * 8)
    assert codes(model(f"placement_group_config: {{bundles: [{listed}]}}", text)) == {
        "bundles_not_ranks": ("warning", 13)
    }


def test_bundles_without_gpus() -> None:
    """Ray Serve LLM reads them as a model on CPU, and refuses an accelerator beside them."""
    assert bundles("bundle_per_worker: {CPU: 4}") == {}
    text = model("accelerator_type: H100", model("placement_group_config: {bundle_per_worker: {CPU: 4}}"))
    assert codes(text)["bundles_not_ranks"][0] == "error"


def test_parts_of_gpus_are_added_up() -> None:
    text = GOOD.replace('nvidia.com/gpu: "4"', 'nvidia.com/gpu: "2"')
    assert codes(text)["gpus_not_enough"] == ("error", 6)
    half = model("placement_group_config: {bundle_per_worker: {GPU: 0.5}}", text)
    assert "gpus_not_enough" not in codes(half)


@pytest.mark.parametrize(
    "words",
    [
        "autoscaling_config: {min_replicas: 1, max_replicas: 4}",
        "num_replicas: auto",
        "num_replicas: auto, autoscaling_config: {max_replicas: 3}",
    ],
)
def test_serve_scales_past_the_gpus_that_are_there(words: str) -> None:
    assert codes(deployment(words)) == {"replicas_beyond_gpus": ("warning", 6)}
    assert "replicas_scaled_across_hosts" in {item.code for item in findings(deployment(words))}


def test_serve_scales_within_what_the_autoscaler_may_add() -> None:
    words = "autoscaling_config: {min_replicas: 1, max_replicas: 3}"
    assert codes(deployment(words, SCALED)) == {}
    assert "replicas_beyond_gpus" in codes(deployment(words.replace("3", "4"), SCALED))


def test_an_applications_own_word_on_a_deployment_counts() -> None:
    over = "      deployments:\n      - {name: 'LLMServer:m', num_replicas: 1}\n      args:\n"
    text = deployment("autoscaling_config: {min_replicas: 1, max_replicas: 4}").replace("      args:\n", over)
    assert codes(text) == {}
    scaled = over.replace("num_replicas: 1", "num_replicas: auto")
    assert codes(GOOD.replace("      args:\n", scaled)) == {"replicas_beyond_gpus": ("warning", 6)}
    other = scaled.replace("'LLMServer:m'", "'LLMServer:other'")
    assert codes(GOOD.replace("      args:\n", other)) == {}


def test_a_deployment_of_ones_own_over_several_hosts() -> None:
    own = {
        "name": "Own",
        "placement_group_bundles": [{"GPU": 4}, {"GPU": 4}],
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 2},
    }
    config = {"applications": [{"name": "own", "import_path": "mine:app", "deployments": [own]}]}
    assert [item.code for item in findings(json.dumps(config), gpus_per_node=4)] == ["replicas_scaled_across_hosts"]
    assert findings(json.dumps(config), gpus_per_node=8) == ()


def test_the_first_autoscaler_multiplies_groups_of_hosts() -> None:
    for text in (
        SCALED.replace("    headGroupSpec:", "    autoscalerOptions: {version: v1}\n    headGroupSpec:"),
        SCALED.replace('"2.60.0"', '"2.46.0"'),
    ):
        assert [code for code in codes(text) if code.startswith("autoscaling")] == ["autoscaling_multiplies_hosts"]
        fixed = text.replace("maxReplicas: 3", "maxReplicas: 1")
        assert not [code for code in codes(fixed) if code.startswith("autoscaling")]
    # Left out, the version follows Ray's: v2 from 2.47 on.
    assert codes(SCALED) == {}


def test_the_second_autoscaler_rounds_down() -> None:
    text = SCALED.replace("pipeline_parallel_size: 2", "pipeline_parallel_size: 3")
    assert set(codes(text)) == {"autoscaling_rounds_down"}
    assert codes(text.replace("numOfHosts: 2", "numOfHosts: 3")) == {}


def test_a_serve_config_alone_has_no_groups() -> None:
    assert codes(SERVE.replace("tensor_parallel_size: 2", "tensor_parallel_size: 64")) == {}
