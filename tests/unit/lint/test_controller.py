# ruff: noqa: E501 - one rule a line
"""Each rule of KubeRay's controller: a manifest that breaks it alone, lint's code for it, and the oracle's agreement."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from spanwise.render.lint import lint
from spanwise.render.lint.names import is_dns1035_label, is_label_value, is_qualified_name, version_of
from spanwise.render.lint.ray_service import is_positive_duration
from tests.shared_data import shared_dir
from tests.unit.lint.kuberay_oracle import verdict
from tests.unit.lint.samples import GOOD

C = "spec.rayClusterConfig."
HEAD, GROUP = f"{C}headGroupSpec.", f"{C}workerGroupSpecs.0."
ENV = f"{HEAD}template.spec.containers.0.env"
FT, AUTO, HISTORY = f"{C}gcsFaultToleranceOptions", f"{C}enableInTreeAutoscaling", f"{C}historyServerOptions"
UPGRADE: dict[str, Any] = {"type": "NewClusterWithIncrementalUpgrade"}
OPTIONS: dict[str, Any] = {"gatewayClassName": "istio", "stepSizePercent": 10, "intervalSeconds": 30}


def env(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def upgrade(**options: Any) -> dict[str, Any]:
    return {**UPGRADE, "clusterUpgradeOptions": {**OPTIONS, **options}}


def collector(**values: str) -> dict[str, Any]:
    return {"collectorOptions": {"image": "i:1", "env": env(**values)}}


def changed(changes: dict[str, Any], kind: str = "RayService") -> dict[str, Any]:
    manifest: dict[str, Any] = copy.deepcopy(yaml.safe_load(GOOD))
    for path, value in changes.items():
        *above, last = path.split(".")
        node: Any = manifest
        for part in above:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[last] = value
    if kind == "RayCluster":
        return {**manifest, "kind": kind, "spec": manifest["spec"]["rayClusterConfig"]}
    return manifest


def errors(manifest: dict[str, Any], severity: str = "error") -> set[str]:
    return {item.code for item in lint(json.dumps(manifest).encode(), "f") if item.severity == severity}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("container_missing", {f"{HEAD}template.spec.containers": []}),
    ("container_missing", {f"{GROUP}template.spec.containers": []}),
    ("resources_twice", {f"{HEAD}resources": {"CPU": "1"}}),
    ("resources_twice", {f"{GROUP}resources": {"GPU": "4"}, f"{GROUP}rayStartParams": {"num-gpus": "4"}}),
    ("labels_in_start_params", {f"{GROUP}rayStartParams": {"labels": ""}}),
    ("label_not_allowed", {f"{GROUP}labels": {"a b": "c"}}),
    ("label_not_allowed", {f"{HEAD}labels": {"a": "b/c"}}),
    ("label_not_allowed", {"metadata.labels": {"a": "b c"}}),
    ("label_not_allowed", {"metadata.annotations": {"a/b/c": "d"}}),
    ("wrong_type", {"metadata.annotations": {"a": 1}}),
    ("wrong_type", {"metadata.labels": []}),
    ("field_unknown", {"metadata.lables": {}}),
    ("name_not_allowed", {"metadata.name": "", "metadata.generateName": "x" * 43}),
    ("name_not_allowed", {"metadata.name": "a.b"}),
    ("replica_bounds_negative", {f"{GROUP}minReplicas": -1}),
    ("replica_bounds_contradict", {f"{GROUP}minReplicas": 3}),
    ("idle_timeout_refused", {f"{GROUP}idleTimeoutSeconds": -1, f"{C}autoscalerOptions": {"version": "v2"}}),
    ("idle_timeout_refused", {f"{GROUP}idleTimeoutSeconds": 60}),
    ("idle_timeout_refused", {f"{C}autoscalerOptions": {"idleTimeoutSeconds": -1}}),
    ("priority_refused", {f"{GROUP}priority": 1}),
    ("priority_refused", {f"{GROUP}priority": 1, f"{C}rayVersion": "2.55.1", f"{C}autoscalerOptions": {"version": "v2"}}),
    ("suspend_with_autoscaling", {f"{GROUP}suspend": True, AUTO: True}),
    ("fault_tolerance_conflict", {FT: {"redisAddress": "r:1"}, "metadata.annotations": {"ray.io/ft-enabled": "false"}}),
    ("fault_tolerance_conflict", {FT: {"redisAddress": "r:1"}, "metadata.annotations": {"ray.io/external-storage-namespace": "n"}}),
    ("fault_tolerance_conflict", {FT: {"redisAddress": "r:1"}, ENV: env(REDIS_PASSWORD="x")}),
    ("fault_tolerance_conflict", {FT: {"redisAddress": "r:1"}, ENV: env(RAY_REDIS_ADDRESS="x")}),
    ("fault_tolerance_conflict", {FT: {"redisAddress": "r:1"}, f"{HEAD}rayStartParams": {"redis-password": "x"}}),
    ("fault_tolerance_conflict", {FT: {"backend": "redis", "storage": {}}}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb", "redisAddress": "r:1"}}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb", "redisUsername": {}}}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb", "storage": {"claimName": "c", "size": "1Gi"}}}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb"}, ENV: env(RAY_gcs_storage="x")}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb"}, f"{HEAD}template.spec.volumes": [{"name": "gcs-storage"}]}),
    ("fault_tolerance_conflict", {FT: {"backend": "rocksdb"}, f"{HEAD}template.spec.containers.0.volumeMounts": [{"name": "v", "mountPath": "/data/gcs"}]}),
    ("redis_without_options", {ENV: env(RAY_REDIS_ADDRESS="x")}),
    ("redis_username_misplaced", {ENV: env(REDIS_USERNAME="x")}),
    ("redis_username_misplaced", {f"{HEAD}rayStartParams": {"redis-username": "x"}, FT: {"redisAddress": "r:1"}}),
    ("autoscaler_v2_without_autoscaling", {ENV: env(RAY_enable_autoscaler_v2="1")}),
    ("autoscaler_version_twice", {AUTO: True, f"{C}autoscalerOptions": {"version": "v1"}, ENV: env(RAY_enable_autoscaler_v2="0")}),
    ("restart_policy_refused", {AUTO: True, f"{C}autoscalerOptions": {"version": "v2"}, f"{GROUP}template.spec.restartPolicy": "Always"}),
    ("restart_policy_refused", {AUTO: True, f"{C}autoscalerOptions": {"version": "v2"}, f"{HEAD}template.spec.restartPolicy": "OnFailure"}),
    ("autoscaler_command_overridden", {f"{C}autoscalerOptions": {"env": env(KUBERAY_GEN_AUTOSCALER_START_CMD="x")}}),
    ("auth_refused", {f"{C}authOptions": {"mode": "token"}, f"{C}rayVersion": "2.51.9"}),
    ("auth_refused", {f"{C}authOptions": {"mode": "token"}, f"{C}rayVersion": ""}),
    ("auth_refused", {f"{C}authOptions": {"mode": "token"}, f"{C}rayVersion": "nightly"}),
    ("auth_refused", {f"{C}authOptions": {"mode": "token", "enableK8sTokenAuth": True}}),
    ("history_server_refused", {HISTORY: {}}),
    ("history_server_refused", {HISTORY: collector()}),
    ("history_server_refused", {HISTORY: collector(STORAGE_BACKEND="s3")}),
    ("history_server_refused", {HISTORY: collector(STORAGE_BACKEND="x", POD_IP="x")}),
    ("history_server_refused", {HISTORY: collector(STORAGE_BACKEND="AzureBlob", AZURE_STORAGE_AUTH_MODE="default")}),
    ("history_server_refused", {HISTORY: collector(STORAGE_BACKEND="x"), f"{GROUP}template.spec.containers.0.name": "ray-history-collector"}),
    ("network_policy_contradicts", {f"{C}networkPolicy": {"mode": "DenyAllEgress", "head": {"ingressRules": [{}]}}}),
    ("network_policy_contradicts", {f"{C}networkPolicy": {"mode": "DenyAllIngress", "worker": {"egressRules": [{}]}}}),
    ("network_policy_contradicts", {f"{C}networkPolicy": {"workerGroups": [{"groupName": "absent"}]}}),
    ("network_policy_contradicts", {f"{C}networkPolicy": {}, f"{GROUP}groupName": "GPUs"}),
    ("tls_conflict", {f"{C}tlsOptions": {"enabled": True}, ENV: env(RAY_USE_TLS="0")}),
    ("tls_conflict", {f"{C}tlsOptions": {"enabled": True}, f"{C}autoscalerOptions": {"volumeMounts": [{"name": "ray-tls", "mountPath": "/x"}]}}),
    ("head_service_named", {f"{HEAD}headService": {"metadata": {"name": "mine"}}}),
    ("upgrade_refused", {"spec.upgradeStrategy": {"type": "Recreate"}}),
    ("upgrade_refused", {f"{C}upgradeStrategy": {"type": "None"}}),
    ("upgrade_refused", {"spec.upgradeStrategy": UPGRADE, AUTO: True}),
    ("upgrade_refused", {"spec.upgradeStrategy": upgrade()}),
    *(("upgrade_refused", {"spec.upgradeStrategy": upgrade(**{key: value}), AUTO: True}) for key, value in (("stepSizePercent", 101), ("stepSizePercent", -1), ("maxSurgePercent", 5), ("maxSurgePercent", 101), ("intervalSeconds", 0), ("gatewayClassName", ""))),
    *(("annotation_not_allowed", {"metadata.annotations": {"ray.io/initializing-timeout": text}}) for text in ("0", "-5m", "5 m", "abc", "1d", "9999999h")),
    ("value_not_allowed", {"spec.rayClusterDeletionDelaySeconds": -1}),
    ("value_not_allowed", {"spec.managedBy": "me"}),
    ("value_not_allowed", {f"{GROUP}maxReplicas": 2**31}),
    ("value_not_allowed", {f"{GROUP}template.spec.containers.0.resources.limits.cpu": "two"}),
    ("value_not_allowed", {f"{GROUP}template.spec.containers.0.resources.limits.cpu": "16\n"}),
    ("item_repeated", {f"{GROUP}template.spec.containers.0.ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}]}),
    ("wrong_type", {f"{GROUP}template.spec.containers.0.args": [None]}),
    ("wrong_type", {f"{GROUP}replicas": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "changes"), REFUSED, ids=[f"{number}-{code}" for number, (code, _) in enumerate(REFUSED)]
)
def test_refused(code: str, changes: dict[str, Any]) -> None:
    manifest = changed(changes)
    assert code in errors(manifest)
    if shared_dir() is not None:
        assert verdict(manifest)[0] == "no"


ACCEPTED: list[dict[str, Any]] = [
    {},
    {f"{HEAD}rayStartParams": {"num-cpus": ""}, f"{HEAD}resources": {"CPU": "1"}},
    {f"{GROUP}labels": {"ray.io/zone": "a", "empty": ""}},
    {"metadata.annotations": {"Example.com/x": "any text\nat all"}},
    {"metadata.name": "", "metadata.generateName": "x" * 42},
    {f"{GROUP}idleTimeoutSeconds": 60, f"{C}autoscalerOptions": {"version": "v2"}},
    {f"{GROUP}priority": 1, f"{C}autoscalerOptions": {"version": "v2"}},
    {f"{GROUP}suspend": True},
    {"metadata.annotations": {"ray.io/ft-enabled": "TRUE"}, ENV: env(RAY_REDIS_ADDRESS="x")},
    {FT: {"redisAddress": "r:1"}, "metadata.annotations": {"ray.io/ft-enabled": ""}},
    {f"{C}authOptions": {"mode": "token", "secretName": "s"}, f"{C}rayVersion": "v2.52"},
    {f"{C}rayVersion": "nightly"},
    {"spec.upgradeStrategy": upgrade(), AUTO: True},
    *({"metadata.annotations": {"ray.io/initializing-timeout": text}} for text in ("30m", "1h30m", "90", "+5s", ".5s", "")),
    {f"{GROUP}replicas": 2.0},
    {f"{GROUP}minReplicas": None, f"{GROUP}maxReplicas": None},
    {f"{GROUP}template.metadata": None},
    {f"{GROUP}template.spec.containers.0.ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}]},
]  # fmt: skip


@pytest.mark.parametrize("changes", ACCEPTED, ids=map(str, range(len(ACCEPTED))))
def test_accepted(changes: dict[str, Any]) -> None:
    manifest = changed(changes)
    assert errors(manifest) == set()
    if shared_dir() is not None:
        assert verdict(manifest) == ("yes", "")


@pytest.mark.parametrize(
    "changes",
    [
        {FT: {"backend": "rocksdb", "storage": {"size": "1Gi"}}},
        {f"{C}networkPolicy": {"mode": "DenyAllIngress", "head": {"ingressRules": [{}]}}},
        {f"{C}tlsOptions": {"enabled": True}},
        {HISTORY: collector(STORAGE_BACKEND="s3", S3_REGION="r")},
    ],
    ids=["rocksdb", "network", "tls", "history"],
)
def test_a_closed_feature_gate_is_a_warning(changes: dict[str, Any]) -> None:
    manifest = changed(changes)
    assert errors(manifest) == set()
    assert "feature_gate_needed" in errors(manifest, "warning")
    if shared_dir() is not None:
        assert verdict(manifest)[0] == "gate"


def test_a_cluster_of_its_own_may_have_an_upgrade_strategy() -> None:
    strategy = {f"{C}upgradeStrategy": {"type": "Recreate"}}
    assert errors(changed(strategy, "RayCluster")) == set()
    origin = {"metadata.labels": {"ray.io/originated-from-crd": "RayService"}}
    assert errors(changed({**strategy, **origin}, "RayCluster")) == {"upgrade_refused"}
    kubernetes = {f"{C}authOptions": {"mode": "token", "enableK8sTokenAuth": True}}
    assert errors(changed(kubernetes, "RayCluster")) == set()
    assert errors(changed({**kubernetes, f"{C}rayVersion": "2.54.0"}, "RayCluster")) == {"auth_refused"}


def test_versions_and_kinds() -> None:
    old = {**changed({}), "apiVersion": "ray.io/v1alpha1"}
    assert "api_version" in errors(old, "warning")
    assert errors(old) == set()
    newer = {**changed({f"{C}authOptions": {"mode": "token"}}), "apiVersion": "ray.io/v1alpha1"}
    assert "field_unknown" in errors(newer), "the old version has no authOptions"
    for kind, version, code in (
        ("RayServices", "ray.io/v1", "kind_unknown"),
        ("ray.io/v1", "RayCluster", "kind_unknown"),
        ("RayService", "ray.io/v9", "api_version"),
        ("RayService", "v1", "api_version"),
    ):
        assert errors({**changed({}), "kind": kind, "apiVersion": version}) == {code}


def test_a_document_without_a_kind_in_a_file_of_others() -> None:
    text = f"{GOOD}---\nmetadata: {{name: x}}\nspec: {{}}\n"
    (finding,) = [item for item in lint(text.encode(), "f") if item.severity == "error"]
    assert (finding.code, finding.line) == ("kind_missing", len(GOOD.splitlines()) + 2)


def test_syntax() -> None:
    assert is_dns1035_label("a-1")
    assert not any(map(is_dns1035_label, ("", "1a", "a-", "A", "a.b", "a" * 64, "a\n")))
    assert all(map(is_qualified_name, ("a", "A_b.c-d", "x.example/a", "a" * 63, f"{'a' * 253}/b")))
    assert not any(
        map(is_qualified_name, ("", "/a", "a/", "a/b/c", "X.example/a", "a b", "-a", "a" * 64, f"{'a' * 254}/b"))
    )
    assert all(map(is_label_value, ("", "a", "A.b_c-d")))
    assert not any(map(is_label_value, ("a b", "-a", "a/", "a" * 64, "a\n")))
    assert version_of("2.52.0rc1") == (2, 52, 0)
    assert version_of(" v2.52") == (2, 52)
    assert [version_of(text) for text in ("", "2", "02.5", "x2.5", "2.5\n", f"2.{'9' * 30}")] == [None] * 6
    assert is_positive_duration("1.5h") and not is_positive_duration("0x")
