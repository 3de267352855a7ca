# ruff: noqa: E501 - one fault a line
"""Single faults in an otherwise complete RayService, each found under its own code and line."""

from __future__ import annotations

import pytest

from spanwise.errors import ManifestError
from spanwise.render.lint import lint
from tests.unit.lint.checks import codes, findings
from tests.unit.lint.samples import GOOD, SERVE


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "code", "severity", "line"),
    [
        ("name: good", "name: Good", "name_not_allowed", "error", 4),
        ("name: good", f"name: {'x' * 48}", "name_not_allowed", "error", 4),
        ("  name: good", "  labels: {}", "name_missing", "error", 3),
        ("ray.io/v1\n", "ray.io/v1alpha1\n", "api_version", "warning", 1),
        ("ray.io/v1\n", "ray.io/v2\n", "api_version", "error", 1),
        ("spec:\n  serve", "replicas: 1\nspec:\n  serve", "field_unknown", "error", 5),
        ("rayVersion:", "rayversion:", "field_unknown", "error", 17),
        ("      replicas: 2", "      replicas: two", "wrong_type", "error", 29),
        ("      replicas: 2", "      replicas: 5", "replica_bounds_contradict", "warning", 30),
        ("      minReplicas: 2", "      minReplicas: 3", "replica_bounds_contradict", "error", 30),
        ("      minReplicas: 2", "", "replica_bounds_missing", "warning", 28),
        ("    - groupName: gpus", "    - idleTimeoutSeconds: 60", "field_missing", "error", 28),
        ('rayStartParams: {num-cpus: "0"}', "rayStartParams: {num-cpus: 0}", "wrong_type", "error", 19),
        ("rayStartParams: {}", "rayStartParams: {labels: a=b}", "labels_in_start_params", "error", 32),
        ("rayStartParams: {}", "rayStartParams: {num-gpus: '4'}\n      resources: {GPU: '4'}", "resources_twice", "error", 33),
        ("-llm:2.60.0-py312-cu130\n            resources:\n              limits: {cpu: \"2\"", '-llm\n            resources:\n              limits: {cpu: "2"', "image_floating", "warning", 24),
        ("nvidia.com/gpu: \"4\"}", "nvidia.com/gpu: \"2\"}", "gpus_not_enough", "error", 6),
        ("limits: {cpu: \"16\", memory: 100Gi, nvidia.com/gpu: \"4\"}", "limits: {cpu: '16', memory: 100Gi, nvidia.com/gpu: '4'}\n              requests: {nvidia.com/gpu: 2}", "gpu_request_differs", "error", 38),
        ("tensor_parallel_size: 4", "tensor_parallel_size: 8", "tensor_parallel_exceeds_host", "warning", 14),
        ("tensor_parallel_size: 4", "tensor_paralel_size: 4", "engine_argument_unknown", "error", 14),
        ("tensor_parallel_size: 4", "tensor_parallel_size: 4\n            trust_remote_code: true", "trust_remote_code", "warning", 15),
        ("tensor_parallel_size: 4", "model: x", "engine_argument_reserved", "error", 14),
        ("tensor_parallel_size: 4", "distributed_executor_backend: mp", "executor_not_ray", "error", 14),
        ("tensor_parallel_size: 4", "gpu_memory_utilization: 9", "value_not_allowed", "error", 14),
        ("{model_id: m, model_source: org/m}", "{model_source: org/m}", "model_id_missing", "error", 12),
        ("{model_id: m, model_source: org/m}", "{model_id: m, source: org/m}", "serve_field_unknown", "error", 12),
        ("          engine_kwargs:", "          accelerator_type: H900\n          engine_kwargs:", "accelerator_unknown", "error", 13),
        ("      import_path: ray.serve.llm:build_openai_app\n", "", "import_path_missing", "error", 8),
        ("ray.serve.llm:build_openai_app", "nothing", "import_path_malformed", "error", 9),
        ("      args:\n        llm_configs:\n        -", "      args:\n        models:\n        -", "models_missing", "error", 10),
        ("    applications:\n", "    apps:\n", "applications_missing", "error", 7),
        ("    applications:\n", "    applications: [}\n", "serve_config_not_yaml", "error", 6),
        ("            volumeMounts:\n            - {name: shm, mountPath: /dev/shm}\n", "            env:\n            - {name: HF_TOKEN, value: sekret}\n            volumeMounts:\n            - {name: shm, mountPath: /dev/shm}\n", "secret_in_plain_text", "warning", 41),
        ("    headGroupSpec:\n", "    headGroupSpec:\n      serviceType: LoadBalancer\n", "dashboard_exposed", "warning", 19),
        ("    headGroupSpec:\n", "    headGroupSpec:\n      enableIngress: true\n", "dashboard_exposed", "warning", 19),
        ("    rayVersion: \"2.60.0\"\n", "    rayVersion: \"2.60.0\"\n    upgradeStrategy: {type: Never}\n", "value_not_allowed", "error", 18),
        ("      replicas: 2\n", "      replicas: 2\n      replicas: 2\n", "key_repeated", "error", 30),
    ],
)  # fmt: skip
def test_single_faults(old: str, new: str, code: str, severity: str, line: int) -> None:
    found = codes(swapped(old, new))
    assert found.get(code) == (severity, line), found


def test_containers_and_groups() -> None:
    head = GOOD[GOOD.index("    headGroupSpec:") : GOOD.index("    workerGroupSpecs:")]
    assert "head_group_missing" in codes(GOOD.replace(head, ""))
    empty = "    headGroupSpec:\n      template:\n        spec: {containers: []}\n"
    assert codes(GOOD.replace(head, empty)) == {"container_missing": ("error", 20)}
    workers = GOOD[GOOD.index("    workerGroupSpecs:") :]
    assert set(codes(GOOD.replace(workers, ""))) == {"worker_group_missing", "gpus_not_enough"}
    twice = GOOD + workers.replace("    workerGroupSpecs:\n", "")
    assert codes(twice)["group_name_repeated"][0] == "error"


def test_findings_inside_a_folded_serve_config_get_its_line() -> None:
    text = GOOD.replace("serveConfigV2: |", "serveConfigV2: |-").replace("tensor_parallel_size", "tensor_paralel_size")
    assert codes(text)["engine_argument_unknown"] == ("error", 14)
    quoted = SERVE.replace("tensor_parallel_size", "tensor_paralel_size").replace("\n", "\\n")
    start = GOOD.index("  serveConfigV2")
    rest = GOOD[GOOD.index("  rayClusterConfig") :]
    assert codes(f'{GOOD[:start]}  serveConfigV2: "{quoted}"\n{rest}')["engine_argument_unknown"] == ("error", 6)


def test_an_argument_of_another_ray_version_is_a_warning() -> None:
    text = GOOD.replace("tensor_parallel_size: 4", "tensor_parallel_size: 4\n            device: auto").replace(
        '"2.60.0"', '"2.50.1"'
    )
    assert codes(text) == {"engine_argument_unknown": ("warning", 15)}


def test_serve_config_of_its_own() -> None:
    assert codes(SERVE) == {}
    assert codes(SERVE, gpus_per_node=1) == {"tensor_parallel_exceeds_host": ("warning", 8)}
    twice = SERVE + SERVE.removeprefix("applications:\n")
    assert codes(twice) == {"application_repeated": ("error", 9)}
    assert set(codes(SERVE.replace("  import_path", "  port: 1\n  import_pth: x\n  import_path"))) == {
        "serve_host_in_application",
        "serve_field_unknown",
    }
    again = "    - model_loading_config: {model_id: m}\n"
    assert codes(SERVE + again) == {"model_repeated": ("error", 9)}


def test_secrets_in_a_serve_config() -> None:
    for text in (
        SERVE.replace("  args:", "  runtime_env: {env_vars: {HF_TOKEN: sekret}}\n  args:"),
        SERVE.replace(
            "      engine_kwargs:", "      runtime_env: {env_vars: {MY_PASSWORD: sekret}}\n      engine_kwargs:"
        ),
        SERVE + "        hf_token: sekret\n",
    ):
        assert set(codes(text)) == {"secret_in_plain_text"}
        assert "sekret" not in str(findings(text))


def test_several_documents_and_other_kinds() -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"
    assert codes(f"{secret}---\n{GOOD}") == {}
    assert [item.code for item in findings(secret)] == ["kind_not_checked"]
    assert "kind_not_checked" not in {item.code for item in findings(f"{secret}---\n{GOOD}")}
    found = findings("apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: x}\n")
    assert [item.code for item in found] == ["kind_not_checked"]


def test_json_is_yaml() -> None:
    import json

    import yaml

    assert codes(json.dumps(yaml.safe_load(GOOD))) == {}


@pytest.mark.parametrize("text", ["1", "[]", "a: b", "- x", "null", "kind: 3", "apiVersion: {}\nkind: []"])
def test_what_lint_does_not_know(text: str) -> None:
    with pytest.raises(ManifestError, match="neither"):
        lint(text.encode(), "f")


def test_gpus_that_are_there_and_gpus_that_may_come() -> None:
    few = GOOD.replace("      replicas: 2\n      minReplicas: 2", "      replicas: 1\n      minReplicas: 1")
    assert codes(few) == {"gpus_not_enough": ("warning", 6)}
    scaled = few.replace("    headGroupSpec:", "    enableInTreeAutoscaling: true\n    headGroupSpec:")
    assert codes(scaled) == {}
    # Left out, `replicas` is 0, and minReplicas holds.
    assert codes(GOOD.replace("      replicas: 2\n", "")) == {}
    hosts = few.replace("      minReplicas", "      numOfHosts: 2\n      minReplicas")
    assert codes(hosts) == {}


def test_where_ray_gets_its_cpus_and_memory_from() -> None:
    limits = 'limits: {cpu: "16", memory: 100Gi, nvidia.com/gpu: "4"}'
    assert (
        codes(GOOD.replace(limits, 'limits: {memory: 100Gi, nvidia.com/gpu: "4"}\n              requests: {cpu: "8"}'))
        == {}
    )
    for left in ('limits: {memory: 100Gi, nvidia.com/gpu: "4"}', 'limits: {cpu: "16", nvidia.com/gpu: "4"}'):
        text = GOOD.replace(limits, f"{left}\n              requests: {{memory: 1Gi}}")
        assert codes(text) == {"limits_missing": ("warning", 38)}
    text = GOOD.replace(limits, 'limits: {nvidia.com/gpu: "4"}').replace(
        "ayStartParams: {}", "ayStartParams: {num-cpus: '8', memory: '1000'}"
    )
    assert codes(text) == {}


def test_gpus_in_the_groups_own_resources_count() -> None:
    text = GOOD.replace("      rayStartParams: {}\n", "      resources: {GPU: '2'}\n")
    assert codes(text)["gpus_not_enough"] == ("error", 6)
    assert "gpus_not_enough" not in codes(text.replace("GPU: '2'", "GPU: '4'"))
