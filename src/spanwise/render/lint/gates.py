"""Fields behind KubeRay's alpha feature gates, and what the controller refuses in them even where the gate is open.

The gates are the operator's flags; a manifest does not show them. Needing one is a warning; what is refused either way
is an error. KubeRay v1.7.0: validateGcsFaultToleranceBackend, validateNetworkPolicy, validateTLSOptions,
validateCollectorOptions in ray-operator/controllers/ray/utils/validation.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.render.lint.names import is_dns1123_label
from spanwise.render.lint.report import items, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.render.lint.controller import Cluster
    from spanwise.render.lint.documents import Path

_TLS = frozenset({"RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"})
_COLLECTOR = "ray-history-collector"
_COLLECTOR_OWN = frozenset(
    {
        "POD_IP",
        "FQ_RAY_IP",
        "RAY_CLUSTER_NAME",
        "RAY_CLUSTER_NAMESPACE",
        "RAY_ROLE",
        "OWNER_KIND",
        "OWNER_NAME",
        "EVENTS_PORT",
    }
)
# What each storage of the history server's collector cannot do without.
_STORAGE = {"GCS": ("GCS_BUCKET",), "S3": ("S3_REGION",), "ALIYUNOSS": ("OSS_BUCKET", "OSS_ENDPOINT", "OSS_REGION")}


def check_gated(cluster: Cluster) -> None:
    """Findings on everything that an alpha feature gate guards."""
    _fault_tolerance_backend(cluster)
    if isinstance(cluster.spec.get("networkPolicy"), dict):
        _needs_gate(cluster, "networkPolicy", "RayClusterNetworkPolicy")
        _network_policy(cluster, cluster.spec["networkPolicy"])
    if isinstance(cluster.spec.get("tlsOptions"), dict):
        _needs_gate(cluster, "tlsOptions", "RayClusterMTLS")
        if cluster.spec["tlsOptions"].get("enabled") is True:
            _tls(cluster)
    if isinstance(cluster.spec.get("historyServerOptions"), dict):
        _needs_gate(cluster, "historyServerOptions", "RayClusterHistoryServer")
        _history(cluster, cluster.spec["historyServerOptions"])


def _needs_gate(cluster: Cluster, field: str, gate: str) -> None:
    cluster.report.add(
        "feature_gate_needed",
        "warning",
        (*cluster.path, field),
        f"{field} needs the operator's feature gate {gate}, which is closed by default; KubeRay refuses the object then",
        f"start the operator with `--feature-gates={gate}=true`, or leave {field} out",
    )


def _fault_tolerance_backend(cluster: Cluster) -> None:
    options = mapping(cluster.spec.get("gcsFaultToleranceOptions"))
    path: Path = ("gcsFaultToleranceOptions",)
    if options.get("backend") != "rocksdb":
        if options.get("storage") is not None:
            cluster.refuse(
                "fault_tolerance_conflict",
                (*path, "storage"),
                "storage is set for the backend redis",
                "remove it, or set `backend: rocksdb`",
            )
        return
    _needs_gate(cluster, "gcsFaultToleranceOptions", "GCSFaultToleranceEmbeddedStorage")
    for key in ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace"):
        if options.get(key) not in (None, ""):
            cluster.refuse(
                "fault_tolerance_conflict", (*path, key), f"{key} is set for the backend rocksdb", "remove it"
            )
    storage = mapping(options.get("storage"))
    if storage.get("claimName") and any(storage.get(key) for key in ("size", "storageClassName", "accessModes")):
        cluster.refuse(
            "fault_tolerance_conflict",
            (*path, "storage"),
            "storage names a claim, and its size, class or access modes too",
            "keep claimName alone",
        )
    pod = mapping(mapping(cluster.head.get("template")).get("spec"))
    container = cluster.head_container
    managed = [
        *(name for name in _names(container.get("env")) if name in ("RAY_gcs_storage", "RAY_gcs_storage_path")),
        *(name for name in _names(pod.get("volumes")) if name == "gcs-storage"),
        *_mounts(container, "gcs-storage", "/data/gcs"),
    ]
    if managed:
        cluster.refuse(
            "fault_tolerance_conflict",
            ("headGroupSpec", "template"),
            f"the head sets {managed[0]}, which the operator sets itself for the backend rocksdb",
            "remove it",
        )


def _names(value: Any) -> list[Any]:
    """The names of a list of named things."""
    return [mapping(item).get("name") for item in items(value)]


def _mounts(container: dict[str, Any], name: str, place: str) -> list[str]:
    """Mounts of that name or at that place."""
    mounts = [mapping(mount) for mount in items(container.get("volumeMounts"))]
    return [f"the mount {place}" for mount in mounts if mount.get("name") == name or mount.get("mountPath") == place]


def _network_policy(cluster: Cluster, policy: dict[str, Any]) -> None:
    idle = {"DenyAllEgress": "ingressRules", "DenyAllIngress": "egressRules"}.get(str(policy.get("mode")))
    path: Path = ("networkPolicy",)
    groups = [
        (mapping(group), (*path, "workerGroups", index))
        for index, group in enumerate(items(policy.get("workerGroups")))
    ]
    places = [(mapping(policy.get(part)), (*path, part)) for part in ("head", "worker")] + groups
    for rules, place in places:
        if idle and rules.get(idle):
            cluster.refuse(
                "network_policy_contradicts",
                (*place, idle),
                f"{idle} are given, and mode {policy['mode']} does not restrict that direction",
                "remove them, or use the mode DenyAll",
            )
    names = [group.get("groupName") for group, _ in cluster.groups]
    for index, name in enumerate(names):
        if isinstance(name, str) and not is_dns1123_label(name):
            cluster.refuse(
                "network_policy_contradicts",
                ("workerGroupSpecs", index, "groupName"),
                f"the group {name[:60]!r} cannot be part of a NetworkPolicy's name",
                "use at most 63 lower-case letters, digits and '-'",
            )
    for rules, place in groups:
        if rules.get("groupName") not in names:
            cluster.refuse(
                "network_policy_contradicts",
                (*place, "groupName"),
                f"no worker group is called {str(rules.get('groupName'))[:60]!r}",
                f"use one of {', '.join(map(str, names))[:200] or 'the groups in workerGroupSpecs'}",
            )


def _tls(cluster: Cluster) -> None:
    for container, path in _tls_containers(cluster):
        own = [name for name in _names(container.get("env")) if isinstance(name, str) and name in _TLS]
        own += _mounts(container, "ray-tls", "/etc/ray/tls")
        if own:
            cluster.refuse(
                "tls_conflict", path, f"{own[0]} is set, which the operator sets itself under tlsOptions", "remove it"
            )


def _tls_containers(cluster: Cluster) -> Iterator[tuple[dict[str, Any], Path]]:
    yield cluster.head_container, ("headGroupSpec", "template", "spec", "containers", 0)
    for index, (group, _) in enumerate(cluster.groups):
        containers = items(mapping(mapping(group.get("template")).get("spec")).get("containers"))
        place: Path = ("workerGroupSpecs", index, "template", "spec", "containers", 0)
        yield mapping(containers[0]) if containers else {}, place
    yield mapping(cluster.spec.get("autoscalerOptions")), ("autoscalerOptions",)


def _history(cluster: Cluster, options: dict[str, Any]) -> None:
    path: Path = ("historyServerOptions", "collectorOptions")
    collector = options.get("collectorOptions")
    problems: list[str] = []
    if collector is None:
        problems.append("collectorOptions are missing")
    else:
        entries = {str(mapping(entry).get("name")): mapping(entry) for entry in items(mapping(collector).get("env"))}
        if not mapping(collector).get("image"):
            problems.append("the collector has no image")
        problems += [
            f"{name} is set, which the operator sets itself" for name in sorted(_COLLECTOR_OWN & entries.keys())
        ]
        problems += _storage_gaps(entries)
    for group in [cluster.head, *(group for group, _ in cluster.groups)]:
        if _COLLECTOR in _names(mapping(mapping(group.get("template")).get("spec")).get("containers")):
            problems.append(f"a container is called {_COLLECTOR}, as the operator's own")
    for problem in problems:
        cluster.refuse("history_server_refused", path, problem, "complete or correct historyServerOptions")


def _storage_gaps(entries: dict[str, dict[str, Any]]) -> list[str]:
    """What the collector's environment lacks for the storage that it names."""

    def has(name: str) -> bool:
        entry = entries.get(name, {})
        return bool(entry.get("value")) or entry.get("valueFrom") is not None

    backend = str(entries.get("STORAGE_BACKEND", {}).get("value") or "").upper()
    if not backend:
        return ["the collector has no STORAGE_BACKEND as plain text"]
    gaps = [f"{name} is missing for {backend}" for name in _STORAGE.get(backend, ()) if not has(name)]
    if backend == "AZUREBLOB":
        mode = str(entries.get("AZURE_STORAGE_AUTH_MODE", {}).get("value") or "").strip().lower()
        by_string, by_url = has("AZURE_STORAGE_CONNECTION_STRING"), has("AZURE_STORAGE_ACCOUNT_URL")
        enough = {"connection_string": by_string, "workload_identity": by_url, "default": by_url}
        if not enough.get(mode, by_string or by_url):
            gaps.append("AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_URL is missing for AZUREBLOB")
    return gaps
