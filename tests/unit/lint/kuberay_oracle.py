"""What a Kubernetes cluster with KubeRay v1.7.0 refuses, worked out without lint: the judge of the mutation test.

Two judges, as in life. :func:`admitted` is the API server with strict field validation: the CRD's structural schema
with defaults, dropped nulls, list types and the CEL rules that it holds (k8s.io/apiextensions-apiserver, pkg/apiserver/
schema), and ObjectMeta (k8s.io/apimachinery). :func:`reconciled` is KubeRay's controller, transcribed in the order of
ray-operator/controllers/ray/utils/validation.go at tag v1.7.0. Both raise :class:`Refused`.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import pytest
import yaml

from tests.shared_data import shared_dir

ALL_GATES = frozenset(
    {"RayClusterNetworkPolicy", "GCSFaultToleranceEmbeddedStorage", "RayClusterMTLS", "RayClusterHistoryServer"}
)
_PLURAL = {"RayService": "rayservices", "RayCluster": "rayclusters"}


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The object is not accepted, or nothing is made of it."""


def verdict(document: Any) -> tuple[str, str]:
    """``("no", why)``, ``("gate", why)`` where only closed feature gates stand against it, or ``("yes", "")``."""
    try:
        spec = admitted(document)
        reconciled(document, spec, ALL_GATES)
    except Refused as error:
        return "no", str(error)
    try:
        reconciled(document, spec, frozenset())
    except Refused as error:
        return "gate", str(error)
    return "yes", ""


# --- the API server ---------------------------------------------------------------------------------------------------


@cache
def _schemas(kind: str) -> dict[str, Any]:
    """The schema of ``spec`` by served version."""
    shared = shared_dir()
    if shared is None:
        pytest.skip("the reference data is absent: KubeRay's CRDs")
    text = (shared / "data" / "kuberay-v1.7" / f"ray.io_{_PLURAL[kind]}.yaml").read_text()
    crd = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {
        f"ray.io/{item['name']}": item["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for item in crd["spec"]["versions"]
        if item["served"]
    }


def admitted(document: Any) -> dict[str, Any]:
    """The spec as the API server stores it."""
    if not isinstance(document, dict):
        raise Refused("no object")
    kind, version = document.get("kind"), document.get("apiVersion")
    if (
        not isinstance(kind, str)
        or kind not in _PLURAL
        or not isinstance(version, str)
        or version not in _schemas(kind)
    ):
        raise Refused(f"no matches for kind {kind} in version {version}")
    if unknown := document.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        raise Refused(f"unknown fields {unknown}")
    _object_meta(document.get("metadata"))
    spec = document.get("spec")
    if spec is None:  # `spec` itself is not required by the CRD; the controller then has nothing to make
        raise Refused("no spec")
    return _structural(spec, _schemas(kind)[version], "spec")


_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")


def _qualified(key: str) -> bool:
    parts = key.split("/")
    if len(parts) == 2:
        prefix, name = parts
        label = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        if not prefix or len(prefix) > 253 or not re.match(rf"{label}(\.{label})*\Z", prefix):
            return False
    elif len(parts) == 1:
        (name,) = parts
    else:
        return False
    return bool(name) and len(name) <= 63 and bool(re.match(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z", name))


def _object_meta(metadata: Any) -> None:
    if not isinstance(metadata, dict):
        raise Refused("metadata is no object")
    known = "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp "
    known += "deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields"
    if unknown := metadata.keys() - set(known.split()):
        raise Refused(f"unknown metadata {unknown}")
    for key in ("name", "generateName", "namespace"):
        if metadata.get(key) is not None and not isinstance(metadata[key], str):
            raise Refused(f"metadata.{key} is no text")
    if not metadata.get("name") and not metadata.get("generateName"):
        raise Refused("name or generateName is required")
    for field in ("labels", "annotations"):
        pairs = metadata.get(field)
        if pairs is None:
            continue
        if not isinstance(pairs, dict):
            raise Refused(f"metadata.{field} is no map")
        for key, value in pairs.items():
            if value is not None and not isinstance(value, str):
                raise Refused(f"metadata.{field}: {key} is no text")
            if not _qualified(key if field == "labels" else key.lower()):
                raise Refused(f"metadata.{field}: key {key}")
            if field == "labels" and (len(value or "") > 63 or not _LABEL_VALUE.match(value or "")):
                raise Refused(f"metadata.labels: value of {key}")


def _structural(value: Any, schema: dict[str, Any], path: str) -> Any:
    """``value`` with defaults, without nulls that the schema does not allow."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise Refused(f"{path}: neither integer nor text")
        if isinstance(value, str) and "pattern" in schema:
            _pattern(value, schema["pattern"], path)
        return value
    kind = schema["type"]
    if kind == "object":
        value = _object(value, schema, path)
    elif kind == "array":
        value = _array(value, schema, path)
    elif kind == "integer":
        value = _integer(value, schema, path)
    elif kind == "string":
        if not isinstance(value, str):
            raise Refused(f"{path}: no text")
        if "pattern" in schema:
            _pattern(value, schema["pattern"], path)
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 2**31):
            raise Refused(f"{path}: length")
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise Refused(f"{path}: no boolean")
    else:
        raise AssertionError(f"a type that the oracle does not know: {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise Refused(f"{path}: not one of {schema['enum']}")
    for rule in schema.get("x-kubernetes-validations", ()):
        if rule["rule"] == "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']":
            if value not in ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"):
                raise Refused(f"{path}: {rule['message']}")
        else:
            assert rule["rule"] == "self == oldSelf", "a CEL rule that the oracle does not know"  # not at creation
    return value


def _pattern(value: str, pattern: str, path: str) -> None:
    assert pattern.startswith("^") and pattern.endswith("$")
    if not re.match(pattern[1:-1] + r"\Z", value):
        raise Refused(f"{path}: pattern")


def _integer(value: Any, schema: dict[str, Any], path: str) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise Refused(f"{path}: no integer")
    # The API server lets it through; the operator's decoder does not, and then sees no object at all.
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        raise Refused(f"{path}: does not fit int32")
    if value < schema.get("minimum", value) or value > schema.get("maximum", value):
        raise Refused(f"{path}: out of bounds")
    return value


def _object(value: Any, schema: dict[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{path}: no object")
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
    result: dict[str, Any] = {}
    for key, child in value.items():
        inner = properties.get(key, rest)
        if not isinstance(inner, dict):
            raise Refused(f"{path}.{key}: unknown field")
        if child is None and not inner.get("nullable"):
            continue
        result[key] = _structural(child, inner, f"{path}.{key}")
    for key, inner in properties.items():
        if key not in result and "default" in inner:
            result[key] = copy.deepcopy(inner["default"])
    if missing := [key for key in schema.get("required", ()) if key not in result]:
        raise Refused(f"{path}: {missing} required")
    return result


def _array(value: Any, schema: dict[str, Any], path: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused(f"{path}: no array")
    result = []
    for index, item in enumerate(value):
        if item is None:
            raise Refused(f"{path}[{index}]: null")
        result.append(_structural(item, schema["items"], f"{path}[{index}]"))
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        keys = [{key: item[key] for key in schema["x-kubernetes-list-map-keys"] if key in item} for item in result]
    elif kind == "set":
        keys = result
    else:
        return result
    if any(key in keys[:index] for index, key in enumerate(keys)):
        raise Refused(f"{path}: duplicate value")
    return result


# --- KubeRay's controller ---------------------------------------------------------------------------------------------


def _get(node: Any, *path: str | int) -> Any:
    for part in path:
        if isinstance(part, int):
            node = node[part] if isinstance(node, list) and len(node) > part else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def _env(container: Any, name: str) -> Any:
    return next((entry for entry in _get(container, "env") or [] if entry.get("name") == name), None)


def reconciled(document: dict[str, Any], spec: dict[str, Any], gates: frozenset[str]) -> None:
    """validateRayService, or the beginning of the RayCluster's reconcile loop."""
    metadata = document["metadata"]
    service = document["kind"] == "RayService"
    limit = 47 if service else 53
    name = metadata.get("name") or f"{metadata['generateName'][:58]}abcde"
    if len(name) > limit or not re.match(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z", name):
        raise Refused("name")
    annotations = metadata.get("annotations") or {}
    if not service:
        _cluster_spec(spec, annotations, gates)
        origin = (metadata.get("labels") or {}).get("ray.io/originated-from-crd")
        if _get(spec, "upgradeStrategy", "type") is not None and origin in ("RayJob", "RayService"):
            raise Refused("upgradeStrategy cannot be set when RayCluster is created by another")
        return
    _initializing_timeout(annotations.get("ray.io/initializing-timeout") or "")
    cluster = spec["rayClusterConfig"]
    if _get(cluster, "authOptions", "enableK8sTokenAuth"):
        raise Refused("K8s token auth mode is currently not supported for RayService")
    _cluster_spec(cluster, annotations, gates)
    if _get(cluster, "headGroupSpec", "headService", "metadata", "name"):
        raise Refused("headService.metadata.name should not be set")
    kind = _get(spec, "upgradeStrategy", "type")
    if kind not in (None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"):
        raise Refused("upgradeStrategy.type")
    if (_get(spec, "rayClusterDeletionDelaySeconds") or 0) < 0:
        raise Refused("rayClusterDeletionDelaySeconds")
    if kind == "NewClusterWithIncrementalUpgrade":
        _incremental(spec, cluster)
    # constructRayClusterForRayService copies the spec; ValidateRayClusterUpgradeOptions refuses the copy.
    if _get(cluster, "upgradeStrategy", "type") is not None:
        raise Refused("upgradeStrategy cannot be set when RayCluster is created by RayService")


def _initializing_timeout(text: str) -> None:
    if not text:
        return
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    duration = re.match(r"([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)\Z", text, re.ASCII)
    if duration:
        parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", duration[2])
        seconds = sum(float(number) * units[unit] for number, unit in parts)
        if duration[1] == "-" or seconds < 1e-9:
            raise Refused("initializing-timeout is not positive")
        if seconds < 2**63 / 1e9:
            return
    if re.match(r"[-+]?\d+\Z", text, re.ASCII) and 0 < int(text) < 2**63:
        return
    raise Refused("initializing-timeout")


def _incremental(spec: dict[str, Any], cluster: dict[str, Any]) -> None:
    if cluster.get("enableInTreeAutoscaling") is not True:
        raise Refused("Ray Autoscaler is required for NewClusterWithIncrementalUpgrade")
    options = _get(spec, "upgradeStrategy", "clusterUpgradeOptions")
    if options is None:
        raise Refused("ClusterUpgradeOptions are required")
    if not 0 <= options["maxSurgePercent"] <= 100 or not 0 <= options["stepSizePercent"] <= 100:
        raise Refused("percent")
    if options["stepSizePercent"] > options["maxSurgePercent"] or options["intervalSeconds"] <= 0:
        raise Refused("step or interval")
    if not options["gatewayClassName"]:
        raise Refused("gatewayClassName")


def _group_rules(params: dict[str, str], group: dict[str, Any]) -> None:
    if any(params.get(key) for key in ("num-cpus", "num-gpus", "memory", "resources")) and group.get("resources"):
        raise Refused("resource fields in both")
    if "labels" in params:
        raise Refused("rayStartParams['labels']")
    for key, value in (group.get("labels") or {}).items():
        if not _qualified(key) or len(value) > 63 or not _LABEL_VALUE.match(value):
            raise Refused(f"label {key}")


def _version(text: str | None) -> tuple[int, ...]:
    match = re.match(r"\s*v?([0-9]+(?:\.[0-9]+)*)(.*)\Z", text or "")
    numbers = match[1].split(".") if match else []
    if len(numbers) < 2 or (numbers[0] != "0" and numbers[0].startswith("0")):
        raise Refused("rayVersion")
    return (*(int(number) for number in numbers), 0, 0)[: max(3, len(numbers))]


def _cluster_spec(spec: dict[str, Any], annotations: dict[str, str], gates: frozenset[str]) -> None:
    head = spec["headGroupSpec"]
    containers = _get(head, "template", "spec", "containers")
    if not containers:
        raise Refused("headGroupSpec should have at least one container")
    container = containers[0]
    _group_rules(head.get("rayStartParams") or {}, head)
    groups = spec.get("workerGroupSpecs") or []
    autoscaling = spec.get("enableInTreeAutoscaling") is True
    options = spec.get("autoscalerOptions") or {}
    v2 = options.get("version") == "v2"
    by_variable = (_env(container, "RAY_enable_autoscaler_v2") or {}).get("value") in ("1", "true")
    for group in groups:
        if not _get(group, "template", "spec", "containers"):
            raise Refused("workerGroupSpec should have at least one container")
        if group["minReplicas"] < 0 or group["maxReplicas"] < 0 or group["minReplicas"] > group["maxReplicas"]:
            raise Refused("minReplicas, maxReplicas")
        _group_rules(group.get("rayStartParams") or {}, group)
        idle = group.get("idleTimeoutSeconds")
        if idle is not None and (idle < 0 or not (v2 or by_variable)):
            raise Refused("idleTimeoutSeconds of a group")
        if group.get("priority") and (_version(spec.get("rayVersion")) < (2, 56, 0) or not (v2 or by_variable)):
            raise Refused("priority")
    _redis(spec, container, annotations, gates)
    if (head.get("rayStartParams") or {}).get("redis-username") or _env(container, "REDIS_USERNAME"):
        raise Refused("redis username")
    if not autoscaling and by_variable:
        raise Refused("RAY_enable_autoscaler_v2 without autoscaling")
    if autoscaling:
        if any(group.get("suspend") for group in groups):
            raise Refused("suspended with autoscaling")
        if options.get("version") is not None and _env(container, "RAY_enable_autoscaler_v2"):
            raise Refused("autoscaler version twice")
        policies = [_get(group, "template", "spec", "restartPolicy") for group in (head, *groups)]
        if v2 and any(policy not in (None, "", "Never") for policy in policies):
            raise Refused("restartPolicy")
    if (options.get("idleTimeoutSeconds") or 0) < 0:
        raise Refused("autoscalerOptions.idleTimeoutSeconds")
    if _env(options, "KUBERAY_GEN_AUTOSCALER_START_CMD"):
        raise Refused("KUBERAY_GEN_AUTOSCALER_START_CMD")
    _history(spec, gates)
    _auth(spec)
    if spec.get("networkPolicy") is not None:
        _network(spec, gates)
    if spec.get("tlsOptions") is not None:
        _tls(spec, container, gates)


def _redis(spec: dict[str, Any], container: Any, annotations: dict[str, str], gates: frozenset[str]) -> None:
    options = spec.get("gcsFaultToleranceOptions")
    enabled = annotations.get("ray.io/ft-enabled") or ""
    if enabled and options is not None:
        raise Refused("annotation and GcsFaultToleranceOptions")
    if options is None:
        if enabled.lower() != "true" and _env(container, "RAY_REDIS_ADDRESS"):
            raise Refused("RAY_REDIS_ADDRESS")
        return
    params = spec["headGroupSpec"].get("rayStartParams") or {}
    if params.get("redis-password") or _env(container, "REDIS_PASSWORD") or _env(container, "RAY_REDIS_ADDRESS"):
        raise Refused("redis beside GcsFaultToleranceOptions")
    if annotations.get("ray.io/external-storage-namespace"):
        raise Refused("external-storage-namespace")
    if options.get("backend", "redis") != "rocksdb":
        if options.get("storage") is not None:
            raise Refused("storage")
        return
    if "GCSFaultToleranceEmbeddedStorage" not in gates:
        raise Refused("gate GCSFaultToleranceEmbeddedStorage")
    if options.get("redisAddress") or options.get("externalStorageNamespace"):
        raise Refused("redis fields")
    if options.get("redisUsername") is not None or options.get("redisPassword") is not None:
        raise Refused("redis fields")
    storage = options.get("storage") or {}
    if storage.get("claimName") and (
        storage.get("size") is not None or storage.get("storageClassName") is not None or storage.get("accessModes")
    ):
        raise Refused("claimName")
    if _env(container, "RAY_gcs_storage") or _env(container, "RAY_gcs_storage_path"):
        raise Refused("RAY_gcs_storage")
    for mount in container.get("volumeMounts") or []:
        if mount["mountPath"] == "/data/gcs" or mount["name"] == "gcs-storage":
            raise Refused("mount")
    if any(item["name"] == "gcs-storage" for item in _get(spec, "headGroupSpec", "template", "spec", "volumes") or []):
        raise Refused("volume")


def _history(spec: dict[str, Any], gates: frozenset[str]) -> None:
    if spec.get("historyServerOptions") is None:
        return
    if "RayClusterHistoryServer" not in gates:
        raise Refused("gate RayClusterHistoryServer")
    collector = spec["historyServerOptions"].get("collectorOptions")
    if collector is None or not collector.get("image"):
        raise Refused("collectorOptions")
    env = {entry.get("name"): entry for entry in collector.get("env") or []}
    managed = {"POD_IP", "FQ_RAY_IP", "RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE", "RAY_ROLE"}
    if env.keys() & (managed | {"OWNER_KIND", "OWNER_NAME", "EVENTS_PORT"}):
        raise Refused("managed variable")
    backend = (env.get("STORAGE_BACKEND") or {}).get("value") or ""
    if not backend:
        raise Refused("STORAGE_BACKEND")

    def has(name: str) -> bool:
        return bool(env.get(name, {}).get("value")) or env.get(name, {}).get("valueFrom") is not None

    needed = {"GCS": ["GCS_BUCKET"], "S3": ["S3_REGION"], "ALIYUNOSS": ["OSS_BUCKET", "OSS_ENDPOINT", "OSS_REGION"]}
    if not all(has(name) for name in needed.get(backend.upper(), [])):
        raise Refused("storage variables")
    if backend.upper() == "AZUREBLOB":
        mode = (env.get("AZURE_STORAGE_AUTH_MODE", {}).get("value") or "").strip().lower()
        text, url = has("AZURE_STORAGE_CONNECTION_STRING"), has("AZURE_STORAGE_ACCOUNT_URL")
        if not {"connection_string": text, "workload_identity": url, "default": url}.get(mode, text or url):
            raise Refused("azure variables")
    for group in (spec["headGroupSpec"], *(spec.get("workerGroupSpecs") or [])):
        if any(item["name"] == "ray-history-collector" for item in _get(group, "template", "spec", "containers")):
            raise Refused("container name")


def _auth(spec: dict[str, Any]) -> None:
    options = spec.get("authOptions") or {}
    if options.get("mode") != "token":
        if options.get("enableK8sTokenAuth"):
            raise Refused("enableK8sTokenAuth without token")
        return
    version = _version(spec.get("rayVersion"))
    if version < (2, 52, 0):
        raise Refused("token needs 2.52")
    if options.get("enableK8sTokenAuth") and (version < (2, 55, 0) or options.get("secretName")):
        raise Refused("enableK8sTokenAuth")


def _network(spec: dict[str, Any], gates: frozenset[str]) -> None:
    if "RayClusterNetworkPolicy" not in gates:
        raise Refused("gate RayClusterNetworkPolicy")
    policy = spec["networkPolicy"]
    mode = policy.get("mode", "DenyAll")
    for rules in (policy.get("head") or {}, policy.get("worker") or {}, *(policy.get("workerGroups") or [])):
        if (mode == "DenyAllEgress" and rules.get("ingressRules")) or (
            mode == "DenyAllIngress" and rules.get("egressRules")
        ):
            raise Refused("rules against mode")
    names = [group["groupName"] for group in spec.get("workerGroupSpecs") or []]
    for name in names:
        if len(name) > 63 or not re.match(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", name):
            raise Refused("group name")
    if any(rules["groupName"] not in names for rules in policy.get("workerGroups") or []):
        raise Refused("no such group")


def _tls(spec: dict[str, Any], container: Any, gates: frozenset[str]) -> None:
    if "RayClusterMTLS" not in gates:
        raise Refused("gate RayClusterMTLS")
    if not spec["tlsOptions"].get("enabled"):
        return
    workers = [_get(group, "template", "spec", "containers", 0) for group in spec.get("workerGroupSpecs") or []]
    for owner in (container, *workers, spec.get("autoscalerOptions") or {}):
        for name in ("RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"):
            if _env(owner, name):
                raise Refused(name)
        for mount in owner.get("volumeMounts") or []:
            if mount["name"] == "ray-tls" or mount["mountPath"] == "/etc/ray/tls":
                raise Refused("tls mount")
