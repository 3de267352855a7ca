"""What each option of the place changes in the RayService."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import yaml

from spanwise.errors import InputError
from spanwise.render import RenderOptions, render
from spanwise.render.options import flag
from spanwise.render.site import site
from spanwise.render.upgrade import upgrade
from tests.unit.plans import ARTICLE, CASES, LOCAL, SMALL, TWO_HOSTS, make_plan
from tests.unit.render.sites import FULL, SPANWISE, pods, service


def containers(plans: Any, **options: Any) -> list[dict[str, Any]]:
    return [pod["spec"]["containers"][0] for pod in pods(service(plans, RenderOptions(**options)))]


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", "by reference") for item in container.get("env", [])}


def test_a_claim_holds_what_the_hub_would_give() -> None:
    for container in containers([ARTICLE], model_volume="pvc:weights:/mnt/hub"):
        assert variables(container) == {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/mnt/hub"}
        assert {"name": "models", "mountPath": "/mnt/hub", "readOnly": True} in container["volumeMounts"]
    for pod in pods(service([ARTICLE], RenderOptions(model_volume="pvc:weights"))):
        assert pod["spec"]["volumes"][-1] == {
            "name": "models",
            "persistentVolumeClaim": {"claimName": "weights", "readOnly": True},
        }
        assert pod["spec"]["containers"][0]["volumeMounts"][-1]["mountPath"] == "/models"


def test_a_claim_that_the_hub_fills_can_be_written() -> None:
    for pod in pods(service([ARTICLE], RenderOptions(model_volume="pvc:weights", offline=False))):
        assert pod["spec"]["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "weights"}
        assert pod["spec"]["containers"][0]["volumeMounts"][-1] == {"name": "models", "mountPath": "/models"}
        assert pod["spec"]["securityContext"]["fsGroup"] == 100
    # Nothing is fetched into a volume that holds the plan's own folder.
    (_, worker) = pods(service([LOCAL], RenderOptions(model_volume="pvc:weights", offline=False)))
    assert worker["spec"]["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "weights", "readOnly": True}
    assert "fsGroup" not in worker["spec"]["securityContext"]


def test_a_folder_of_a_plan_must_lie_in_the_volume() -> None:
    for word in ("pvc:weights", "hostPath:/models", "hostPath:/models/"):
        (_, worker) = containers([LOCAL], model_volume=word)
        assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/dev/shm", "/models"]
        assert variables(worker) == {"HF_HUB_OFFLINE": "1"}
    for word in ("pvc:weights:/mode", "hostPath:/srv", "s3://bucket/models"):
        with pytest.raises(InputError, match="does not lie in"):
            service([LOCAL], RenderOptions(model_volume=word))
    above = make_plan(name="above", model="/models/../srv/x")
    with pytest.raises(InputError, match="does not lie in"):
        service([above], RenderOptions(model_volume="pvc:weights"))


def test_a_bucket_is_the_models_source() -> None:
    plan = make_plan(revision="a1b2c3")
    options = RenderOptions(model_volume="s3://weights/llama", env_secrets=("keys", "more", "keys"))
    made = service([plan], options)
    served = yaml.safe_load(made["spec"]["serveConfigV2"])
    (config,) = served["applications"][0]["args"]["llm_configs"]
    assert config["model_loading_config"]["model_source"] == "s3://weights/llama"
    assert "revision" not in config["engine_kwargs"]
    for pod in pods(made):
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}, {"secretRef": {"name": "more"}}]
        assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["shm"]
        assert variables(container) == {"HF_HUB_OFFLINE": "1"}
    (alone,) = render([plan], "ray", RenderOptions(model_volume="s3://weights/llama"))
    assert yaml.safe_load(alone.text) == served


def test_volumes_that_cannot_be() -> None:
    with pytest.raises(InputError, match="one model, and there are 2 plans"):
        service(CASES["two-models"], RenderOptions(model_volume="s3://weights/llama"))
    for target in ("ray", "kuberay"):
        options = RenderOptions(
            runtime="spanwise", image=SPANWISE.image if target == "kuberay" else None, model_volume="s3://weights/llama"
        )
        with pytest.raises(InputError, match="names no bucket"):
            render([ARTICLE], target, options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mounts nothing"):
        render([ARTICLE], "ray", RenderOptions(model_volume="pvc:weights"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"HF_TOKEN": "by reference"}),
        ({"offline": True}, {"HF_HUB_OFFLINE": "1"}),
        (
            {"model_volume": "pvc:weights", "offline": False},
            {"HF_TOKEN": "by reference", "HF_HUB_CACHE": "/models"},
        ),
        # Our image is offline unless told otherwise.
        (
            {"runtime": "spanwise", "image": "registry.example/spanwise:1"},
            {"HF_HUB_OFFLINE": "0", "HF_TOKEN": "by reference"},
        ),
    ],
)
def test_offline(options: dict[str, Any], expected: dict[str, Any]) -> None:
    for container in containers([ARTICLE], **options):
        assert variables(container) == expected


def test_where_pods_may_run() -> None:
    made = service([TWO_HOSTS], FULL)
    head, worker = pods(made)
    theirs = [
        {"key": "dedicated", "operator": "Equal", "value": "inference", "effect": "NoSchedule"},
        {"key": "maintenance", "operator": "Exists"},
    ]
    assert head["spec"]["tolerations"] == theirs
    assert worker["spec"]["tolerations"][1:] == theirs
    assert "nodeSelector" not in head["spec"]
    assert worker["spec"]["nodeSelector"] == {
        "example.com/pool": "gpu",
        "topology.kubernetes.io/zone": "domain-1",
    }
    for pod in (head, worker):
        assert pod["spec"]["serviceAccountName"] == "inference"
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_rdma_is_for_workers_and_only_where_asked() -> None:
    head, worker = containers([TWO_HOSTS], rdma_resource="rdma/hca")
    assert worker["resources"]["limits"]["rdma/hca"] == worker["resources"]["requests"]["rdma/hca"] == "1"
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert "rdma/hca" not in head["resources"]["limits"]
    assert head["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for container in containers([TWO_HOSTS]):
        assert "IPC_LOCK" not in str(container)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, {}),
        ({"gang_scheduler": "kueue", "queue": "team-a"}, {"kueue.x-k8s.io/queue-name": "team-a"}),
        ({"gang_scheduler": "volcano", "queue": "team-a"}, {"volcano.sh/queue-name": "team-a"}),
        ({"gang_scheduler": "volcano"}, {"volcano.sh/queue-name": "default"}),
    ],
)
def test_gang_schedulers(options: dict[str, Any], labels: dict[str, str]) -> None:
    made = service([TWO_HOSTS], RenderOptions(**options))
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "spanwise", **labels}


def test_the_control_store_survives_where_there_is_a_redis() -> None:
    def tolerance(**options: Any) -> Any:
        return service([ARTICLE], RenderOptions(**options))["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions")

    assert tolerance() is None
    assert tolerance(redis="redis:6379") == {"redisAddress": "redis:6379"}
    assert tolerance(redis="rediss://redis.data.svc:6380", redis_secret="redis") == {
        "redisAddress": "rediss://redis.data.svc:6380",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
    }
    assert tolerance(redis="redis:6379", redis_secret="redis:key")["redisPassword"] == {
        "valueFrom": {"secretKeyRef": {"name": "redis", "key": "key"}}
    }


def with_hardware(plan: Any, **hardware: Any) -> Any:
    return plan.model_copy(update={"intent": {**plan.intent, "hardware": hardware}}).sealed()


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        # The plan states nothing but what it uses.
        ((TWO_HOSTS,), "None"),
        ((with_hardware(TWO_HOSTS, nodes=3),), "None"),
        ((with_hardware(TWO_HOSTS, nodes=4),), "NewCluster"),
        ((with_hardware(TWO_HOSTS, nodes=4, hosts=["host-1", "host-2", "a", "b"]),), "NewCluster"),
        ((with_hardware(TWO_HOSTS, nodes=4, hosts=["host-1", "host-2", "a"]),), "None"),
        # Each kind of GPU for itself: the L4 hosts have no twin.
        ((with_hardware(TWO_HOSTS, nodes=4), SMALL), "None"),
        ((with_hardware(TWO_HOSTS, nodes=4), with_hardware(SMALL, nodes=8)), "NewCluster"),
        # A stranger's intent is read with care.
        ((with_hardware(TWO_HOSTS, nodes="many", hosts="host-1"),), "None"),
        ((with_hardware(TWO_HOSTS, nodes=10**30),), "NewCluster"),
        ((TWO_HOSTS.model_copy(update={"intent": {"hardware": ["x"]}}).sealed(),), "None"),
    ],
)
def test_a_second_cluster_only_where_it_has_room(plans: Any, expected: str) -> None:
    made = service(plans)
    assert made["spec"]["upgradeStrategy"] == {"type": expected}
    assert made["metadata"]["annotations"]["spanwise.io/upgrade"].startswith(f"{expected}: ")


def test_kueue_gets_no_second_cluster() -> None:
    roomy = with_hardware(TWO_HOSTS, nodes=4)
    asked = RenderOptions(gang_scheduler="kueue", queue="q")
    assert upgrade([roomy], site(RenderOptions())).type == "NewCluster"
    assert upgrade([roomy], site(asked)).type == "None"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "q"}, "a queue belongs to a scheduler"),
        ({"gang_scheduler": "kueue"}, "names no queue"),
        ({"redis_secret": "redis"}, "a password without a Redis"),
        ({"node_selectors": ("a=b", "a=c")}, "asked for twice"),
        ({"node_selectors": ("zone=b",), "domain_label": "zone"}, "asked for twice"),
        ({"cpu_per_host": 0}, "no amount"),
        ({"memory_gib_per_host": 10**9}, "no amount"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        service([ARTICLE], RenderOptions(**options))
    assert caught.value.where.startswith("--")
    assert caught.value.remedy


def test_an_option_that_a_target_does_not_read_is_refused() -> None:
    full = {field.name: getattr(FULL, field.name) for field in fields(FULL)}
    full |= {"token_secret": "x", "token_key": "x", "offline": False, "ray_auth": "none", "kustomize": True}
    full |= {"cpu_per_host": 1, "memory_gib_per_host": 1}
    del full["runtime"]
    for target, reads in (("ray", {"model_volume"}), ("vllm", set())):
        for name, value in full.items():
            if name in reads:
                continue
            with pytest.raises(InputError, match=f"target {target} does not read") as caught:
                render([ARTICLE], target, RenderOptions(**{name: value}))  # type: ignore[arg-type]
            assert caught.value.where == flag(name)


def test_every_option_has_its_flag_on_the_command_line() -> None:
    import inspect

    from spanwise.cli.render import render as command

    parameters = {f"--{name.replace('_', '-')}" for name in inspect.signature(command).parameters}
    assert {flag(field.name) for field in fields(RenderOptions)} <= parameters
