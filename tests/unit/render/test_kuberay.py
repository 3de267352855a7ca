"""The RayService against KubeRay's own CRD, and its figures against the plan."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml

from spanwise.errors import InputError, PlanError
from spanwise.render import RenderOptions
from spanwise.render.lint.metadata import MAX_NAME
from tests.shared_data import shared_dir
from tests.unit.plans import ARTICLE, CASES, LOCAL, SMALL, TWO_HOSTS, document, make_plan
from tests.unit.render.sites import FULL, SPANWISE, pods, service


@cache
def crd_validator(plural: str = "rayservices") -> Any:
    """A JSON-schema validator of the CRD that refuses unknown fields, as strict validation does."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed here")
    shared = shared_dir()
    if shared is None:
        pytest.skip("the reference data is absent: KubeRay's CRDs")
    crd = yaml.load(
        (shared / "data" / "kuberay-v1.7" / f"ray.io_{plural}.yaml").read_text(),
        Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
    )
    version = next(item for item in crd["spec"]["versions"] if item["storage"])
    return jsonschema.Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"], top=True))


def _strict(node: Any, top: bool = False) -> Any:
    """OpenAPI's structural schema as JSON schema: unknown fields refused, defaults not missed."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string") is True:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], **{k: node[k] for k in ("pattern",) if k in node}}
    result = {
        key: {name: _strict(child) for name, child in value.items()} if key == "properties" else _strict(value)
        for key, value in node.items()
        if not key.startswith("x-") and key not in ("format", "description", "default")
    }
    properties = node.get("properties")
    if isinstance(properties, dict) and isinstance(node.get("required"), list):
        result["required"] = [name for name in node["required"] if "default" not in properties.get(name, {})]
    open_ended = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if isinstance(properties, dict) and node.get("type") == "object" and not open_ended and not top:
        result["additionalProperties"] = False
    return result


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [None, SPANWISE, FULL], ids=["stock", "spanwise", "full"])
def test_the_crd_accepts_it(case: str, options: RenderOptions | None) -> None:
    errors = list(crd_validator().iter_errors(service(CASES[case], options)))
    assert [error.message for error in errors] == []


def test_the_crd_check_has_teeth() -> None:
    bad = service([ARTICLE])
    bad["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replica"] = 1
    bad["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"] = "8000"
    del bad["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["groupName"]
    assert len(list(crd_validator().iter_errors(bad))) == 3


def groups(plans: Any, options: RenderOptions | None = None) -> list[dict[str, Any]]:
    return service(plans, options)["spec"]["rayClusterConfig"]["workerGroupSpecs"]


@pytest.mark.parametrize(
    ("plan", "replicas", "hosts", "gpus"),
    [
        (ARTICLE, 1, 1, "4"),
        (TWO_HOSTS, 1, 2, "4"),
        (make_plan(stages=2, replicas=3, hosts=6), 3, 2, "4"),
        # Two replicas on one host: a pod for both.
        (make_plan(tensor=2, replicas=2), 1, 1, "4"),
        # Replicas that share a host cannot be made and removed host group by host group.
        (make_plan(tensor=2, stages=3, replicas=2, hosts=3), 3, 1, "4"),
        (make_plan(tensor=2, stages=3, hosts=2), 1, 2, "4"),
        (SMALL, 1, 1, "2"),
    ],
)
def test_pods_follow_the_placement(plan: Any, replicas: int, hosts: int, gpus: str) -> None:
    (group,) = groups([plan])
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (replicas,) * 3
    assert group["numOfHosts"] == hosts
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == gpus
    assert resources["limits"] == resources["requests"]
    assert replicas * hosts * int(gpus) >= plan.layout.world_size * plan.layout.replicas


def test_several_models_keep_to_their_own_hosts() -> None:
    made = service(CASES["two-models"])
    first, second = made["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    configs = yaml.safe_load(made["spec"]["serveConfigV2"])["applications"][0]["args"]["llm_configs"]
    assert [config["model_loading_config"]["model_id"] for config in configs] == [
        "meta-llama/Meta-Llama-3-70B",
        "small",
    ]
    for config, group in zip(configs, (first, second), strict=True):
        (pin,) = set(config["placement_group_config"]["bundle_per_worker"]) - {"GPU"}
        # What the shell of KubeRay's container hands to `ray start --resources=…`.
        offered = json.loads(json.loads(group["rayStartParams"]["resources"]))
        assert offered == {
            pin: int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        }
    assert first["groupName"] != second["groupName"]


def test_day_one_needs() -> None:
    made = service([ARTICLE], RenderOptions(token_secret="my-secret", token_key="hf", image="registry.example/x:1"))
    cluster = made["spec"]["rayClusterConfig"]
    for pod in pods(made):
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "registry.example/x:1"
        (variable,) = container["env"]
        assert variable["name"] == "HF_TOKEN"
        assert variable["valueFrom"]["secretKeyRef"] == {"name": "my-secret", "key": "hf", "optional": True}
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        (shm,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "shm"]
        assert shm["emptyDir"]["medium"] == "Memory"
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        # KubeRay's own: a worker's also asks Serve's proxy, which a copy of ours would forget.
        assert not {"readinessProbe", "livenessProbe"} & set(container)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert "authOptions" not in service([ARTICLE], RenderOptions(ray_auth="none"))["spec"]["rayClusterConfig"]


def test_a_revision_reaches_the_engine() -> None:
    made = service([make_plan(revision="a1b2c3")])
    (config,) = yaml.safe_load(made["spec"]["serveConfigV2"])["applications"][0]["args"]["llm_configs"]
    assert config["engine_kwargs"]["revision"] == "a1b2c3"


def test_a_local_model_is_mounted_and_needs_no_token() -> None:
    (group,) = groups([LOCAL])
    container = group["template"]["spec"]["containers"][0]
    assert "env" not in container
    assert {"name": "model-0", "mountPath": "/models/with space", "readOnly": True} in container["volumeMounts"]
    assert container["resources"]["limits"]["amd.com/gpu"] == "2"
    assert group["template"]["spec"]["tolerations"][0]["key"] == "amd.com/gpu"


def test_given_sizes_win() -> None:
    (group,) = groups([ARTICLE], RenderOptions(cpu_per_host=48, memory_gib_per_host=900))
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["cpu"], limits["memory"]) == ("48", "900Gi")


def test_the_spanwise_runtime_carries_the_plans() -> None:
    made = service([ARTICLE], SPANWISE)
    (application,) = yaml.safe_load(made["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"].startswith("spanwise.serve.")
    assert application["args"]["plans"] == [document(ARTICLE)]
    with pytest.raises(InputError, match="image"):
        service([ARTICLE], RenderOptions(runtime="spanwise"))


def test_the_spanwise_runtime_finds_every_host_by_its_label() -> None:
    """The runtime pins ranks to hosts by name: each planned host is one pod that Ray knows by that name."""
    plans = CASES["two-models"]
    made = groups(plans, SPANWISE)
    assert [group["labels"] for group in made] == [
        {"spanwise.io/host": host} for host in ("host-1", "host-2", "host-7")
    ]
    for group in made:
        (host,) = group["labels"].values()
        ranks = [rank for plan in plans for gang in plan.gangs for rank in gang.ranks if rank.host == host]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == str(len(ranks))
        assert (group["replicas"], group["numOfHosts"], group["rayStartParams"]) == (1, 1, {})
    assert all("labels" not in group for group in groups(plans))


def test_plans_that_share_a_host_share_its_pod_with_the_spanwise_runtime() -> None:
    first = make_plan(name="a", model="org/a", tensor=2)
    second = make_plan(name="b", model="/models/b", tensor=1)
    (group,) = groups([first, second], SPANWISE)
    container = group["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "3"
    assert group["template"]["metadata"]["labels"]["spanwise.io/plan"] == "a-b"
    assert "/models/b" in [mount["mountPath"] for mount in container["volumeMounts"]]
    with pytest.raises(PlanError, match="has 4 GPUs and 5 are asked for, by a, c"):
        groups([first, make_plan(name="c", model="org/c", tensor=3)], SPANWISE)
    with pytest.raises(PlanError, match="host-1 is said to have H100-80GB-SXM, L4-24GB"):
        groups([first, make_plan(name="c", model="org/c", tensor=1, gpu="L4-24GB")], SPANWISE)


def test_hosts_of_one_slug_are_two_groups() -> None:
    plan = TWO_HOSTS.model_copy(
        update={
            "gangs": tuple(
                gang.model_copy(
                    update={
                        "ranks": tuple(
                            rank.model_copy(update={"host": {"host-1": "gpu.a", "host-2": "gpu-a"}[rank.host]})
                            for rank in gang.ranks
                        )
                    }
                )
                for gang in TWO_HOSTS.gangs
            ),
            "expected": TWO_HOSTS.expected.model_copy(update={"hosts": ("gpu.a", "gpu-a")}),
        }
    ).sealed()
    names = [group["groupName"] for group in groups([plan], SPANWISE)]
    assert len(set(names)) == 2
    assert [group["labels"]["spanwise.io/host"] for group in groups([plan], SPANWISE)] == ["gpu.a", "gpu-a"]


def test_a_host_name_too_long_for_a_label_is_refused() -> None:
    long = "h" * 64
    plan = ARTICLE.model_copy(
        update={
            "gangs": tuple(
                gang.model_copy(update={"ranks": tuple(rank.model_copy(update={"host": long}) for rank in gang.ranks)})
                for gang in ARTICLE.gangs
            ),
            "expected": ARTICLE.expected.model_copy(update={"hosts": (long,)}),
        }
    ).sealed()
    assert len(groups([plan])) == 1
    with pytest.raises(PlanError, match="longer than a label"):
        groups([plan], SPANWISE)


def test_kueue_takes_no_more_worker_groups_than_it_can() -> None:
    plan = make_plan(tensor=1, gpus_per_node=1, replicas=18, hosts=18)
    kueue = replace(SPANWISE, gang_scheduler="kueue", queue="q")
    assert len(groups([plan], replace(SPANWISE, gang_scheduler="volcano"))) == 18
    with pytest.raises(InputError, match="at most 17 worker groups"):
        groups([plan], kueue)
    assert len(groups([plan], RenderOptions(gang_scheduler="kueue", queue="q"))) == 1


def test_names_fit_kubernetes() -> None:
    many = [make_plan(name=f"model-number-{n}", model=f"org/model-{n}") for n in range(6)]
    name = service(many)["metadata"]["name"]
    assert len(name) <= MAX_NAME["RayService"]
    assert name == service(many)["metadata"]["name"] != service(many[::-1])["metadata"]["name"]
    for asked in ("Upper", "x" * 48, "-x", "x_y", ""):
        with pytest.raises(InputError, match="name for a RayService"):
            service([ARTICLE], RenderOptions(name=asked))
    assert service([make_plan(name="3b.model")])["metadata"]["name"] == "m-3b-model"
