"""What KubeRay's controller refuses after the API server has accepted an object.

It does so as an event and a condition ("ValidationFailed") that nobody looks at: no cluster appears, and kubectl was
content. The rules are those of KubeRay v1.7.0, ray-operator/controllers/ray/utils/validation.go; each function below
names the one that it follows. What hangs on an alpha feature gate, which a manifest does not show, is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.gates import check_gated
from spanwise.render.lint.names import is_label_value, is_qualified_name, version_of
from spanwise.render.lint.report import Report, items, mapping, whole

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path

_RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
_FT_ENABLED, _FT_NAMESPACE = "ray.io/ft-enabled", "ray.io/external-storage-namespace"
_AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"
_ORIGIN = "ray.io/originated-from-crd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A RayClusterSpec at ``path``, with what most rules ask of it."""

    report: Report
    spec: dict[str, Any]
    path: Path
    kind: str
    annotations: dict[str, Any]
    labels: dict[str, Any]

    @property
    def head(self) -> dict[str, Any]:
        """The head group."""
        return mapping(self.spec.get("headGroupSpec"))

    @property
    def groups(self) -> list[tuple[dict[str, Any], Path]]:
        """The worker groups with their paths."""
        listed = items(self.spec.get("workerGroupSpecs"))
        return [(mapping(group), (*self.path, "workerGroupSpecs", index)) for index, group in enumerate(listed)]

    @property
    def head_container(self) -> dict[str, Any]:
        """The head's Ray container, which is always the first."""
        return ray_container(self.head)

    @property
    def autoscaling(self) -> bool:
        """IsAutoscalingEnabled."""
        return self.spec.get("enableInTreeAutoscaling") is True

    @property
    def autoscaler_v2(self) -> bool:
        """IsAutoscalingV2Enabled: whether or not autoscaling itself is on."""
        return mapping(self.spec.get("autoscalerOptions")).get("version") == "v2"

    @property
    def autoscaler_v2_by_variable(self) -> bool:
        """The old way to ask for it."""
        return variable(self.head_container, _AUTOSCALER_V2) in ("1", "true")

    def refuse(self, code: str, path: Path, message: str, fix: str) -> None:
        """Record what the controller refuses, at ``path`` inside the cluster's spec."""
        self.report.add(code, "error", (*self.path, *path), f"{message}; KubeRay refuses that", fix)


def ray_container(group: dict[str, Any]) -> dict[str, Any]:
    """The Ray container of a group: the first."""
    listed = items(mapping(mapping(group.get("template")).get("spec")).get("containers"))
    return mapping(listed[0]) if listed else {}


def variable(container: dict[str, Any], name: str) -> str | None:
    """The value of an environment variable, empty where it comes from elsewhere; None where it is not there."""
    for entry in items(container.get("env")):
        if mapping(entry).get("name") == name:
            return str(mapping(entry).get("value") or "")
    return None


def check_controller(cluster: Cluster) -> None:
    """ValidateRayClusterSpec, and ValidateRayClusterUpgradeOptions for the cluster that a RayService makes."""
    _start_params(cluster, cluster.head, ("headGroupSpec",), "the head group")
    for index, (group, _) in enumerate(cluster.groups):
        name = f"worker group {str(group.get('groupName'))[:60]!r}"
        _start_params(cluster, group, ("workerGroupSpecs", index), name)
        _group(cluster, group, ("workerGroupSpecs", index), name)
    _fault_tolerance(cluster)
    _autoscaling(cluster)
    _auth(cluster)
    check_gated(cluster)
    if cluster.kind == "RayService" and mapping(cluster.spec.get("upgradeStrategy")).get("type") is not None:
        cluster.refuse(
            "upgrade_refused",
            ("upgradeStrategy",),
            "upgradeStrategy stands in rayClusterConfig, and no cluster made by a RayService may have one",
            "move it to `spec.upgradeStrategy` (types NewCluster, NewClusterWithIncrementalUpgrade, None)",
        )
    elif cluster.labels.get(_ORIGIN) in ("RayJob", "RayService") and mapping(cluster.spec.get("upgradeStrategy")).get(
        "type"
    ):
        cluster.refuse(
            "upgrade_refused",
            ("upgradeStrategy",),
            f"the label {_ORIGIN} says that another object made this cluster, and then it may have no upgradeStrategy",
            "remove the label or the upgradeStrategy",
        )


def _start_params(cluster: Cluster, group: dict[str, Any], path: Path, name: str) -> None:
    """The functions validateRayGroupResources and validateRayGroupLabels."""
    params = mapping(group.get("rayStartParams"))
    if mapping(group.get("resources")) and any(params.get(key) for key in _RESOURCE_PARAMS):
        cluster.refuse(
            "resources_twice",
            (*path, "resources"),
            f"{name} sets resources both in `resources` and in `rayStartParams`",
            "keep one of the two",
        )
    if "labels" in params:
        cluster.refuse(
            "labels_in_start_params",
            (*path, "rayStartParams", "labels"),
            f"{name} sets labels in `rayStartParams`",
            "use the group's own `labels` field",
        )
    for key, value in mapping(group.get("labels")).items():
        if not is_qualified_name(key) or (isinstance(value, str) and not is_label_value(value)):
            cluster.refuse(
                "label_not_allowed",
                (*path, "labels", key),
                f"{name} has the label {key[:80]!r}: {str(value)[:80]!r}, which is none for Kubernetes",
                "use letters, digits, '-', '_' and '.', at most 63 of them",
            )


def _group(cluster: Cluster, group: dict[str, Any], path: Path, name: str) -> None:
    """The worker groups' own rules; minReplicas and maxReplicas are never absent there (the CRD has defaults)."""
    for key in ("minReplicas", "maxReplicas"):
        bound = whole(group.get(key))
        if bound is not None and bound < 0:
            cluster.refuse(
                "replica_bounds_negative", (*path, key), f"{name} has {key} {bound}", "give 0 or a larger number"
            )
    # validateWorkerGroupIdleTimeout
    idle = whole(group.get("idleTimeoutSeconds"))
    if idle is not None and idle < 0:
        cluster.refuse(
            "idle_timeout_refused",
            (*path, "idleTimeoutSeconds"),
            f"{name} has idleTimeoutSeconds {idle}",
            "give 0 or a larger number",
        )
    elif idle is not None and not (cluster.autoscaler_v2 or cluster.autoscaler_v2_by_variable):
        cluster.refuse(
            "idle_timeout_refused",
            (*path, "idleTimeoutSeconds"),
            f"{name} has an idleTimeoutSeconds of its own without autoscaler v2",
            "set `autoscalerOptions.version: v2`, or leave it out",
        )
    if whole(group.get("priority")):
        _priority(cluster, (*path, "priority"), name)
    if cluster.autoscaling and group.get("suspend") is True:
        cluster.refuse(
            "suspend_with_autoscaling",
            (*path, "suspend"),
            f"{name} is suspended in a cluster with autoscaling",
            "remove `suspend`, or turn autoscaling off",
        )


def _priority(cluster: Cluster, path: Path, name: str) -> None:
    """The function validateWorkerGroupPriority."""
    _at_least(cluster, (2, 56), "priority_refused", path, f"{name} has a priority")
    if not (cluster.autoscaler_v2 or cluster.autoscaler_v2_by_variable):
        cluster.refuse(
            "priority_refused",
            path,
            f"{name} has a priority without autoscaler v2",
            "set `autoscalerOptions.version: v2`, or leave it out",
        )


def _at_least(cluster: Cluster, least: tuple[int, int], code: str, path: Path, what: str) -> None:
    given = cluster.spec.get("rayVersion")
    version = version_of(given) if isinstance(given, str) else None
    wanted = ".".join(map(str, least))
    if version is None or version < least:
        said = f"rayVersion is {str(given)[:40]}" if given else "rayVersion is not stated"
        cluster.refuse(
            code, path, f"{what}, which needs Ray {wanted}, and {said}", f"state rayVersion {wanted} or later"
        )


def _fault_tolerance(cluster: Cluster) -> None:
    options = cluster.spec.get("gcsFaultToleranceOptions")
    container, params = cluster.head_container, mapping(cluster.head.get("rayStartParams"))
    head: Path = ("headGroupSpec", "template", "spec", "containers", 0, "env")
    annotation = str(cluster.annotations.get(_FT_ENABLED) or "")
    if options is None:
        if annotation.lower() != "true" and variable(container, "RAY_REDIS_ADDRESS") is not None:
            cluster.refuse(
                "redis_without_options",
                head,
                "RAY_REDIS_ADDRESS is set and gcsFaultToleranceOptions is not",
                "move the address to `gcsFaultToleranceOptions.redisAddress`",
            )
    else:
        if annotation:
            cluster.report.add(
                "fault_tolerance_conflict",
                "error",
                ("metadata", "annotations", _FT_ENABLED),
                f"the annotation {_FT_ENABLED} stands beside gcsFaultToleranceOptions; KubeRay refuses that",
                "remove the annotation",
            )
        conflicts = [
            (variable(container, "REDIS_PASSWORD") is not None, "the variable REDIS_PASSWORD", "redisPassword"),
            (variable(container, "RAY_REDIS_ADDRESS") is not None, "the variable RAY_REDIS_ADDRESS", "redisAddress"),
            (bool(params.get("redis-password")), "rayStartParams' redis-password", "redisPassword"),
            (
                bool(cluster.annotations.get(_FT_NAMESPACE)),
                f"the annotation {_FT_NAMESPACE}",
                "externalStorageNamespace",
            ),
        ]
        for there, what, field in conflicts:
            if there:
                cluster.refuse(
                    "fault_tolerance_conflict",
                    ("gcsFaultToleranceOptions",),
                    f"{what} stands beside gcsFaultToleranceOptions",
                    f"use `gcsFaultToleranceOptions.{field}` alone",
                )
    if params.get("redis-username") or variable(container, "REDIS_USERNAME") is not None:
        cluster.refuse(
            "redis_username_misplaced",
            ("headGroupSpec", "rayStartParams") if params.get("redis-username") else head,
            "the name of Redis' user stands in rayStartParams or in the environment",
            "use `gcsFaultToleranceOptions.redisUsername`",
        )


def _autoscaling(cluster: Cluster) -> None:
    options = mapping(cluster.spec.get("autoscalerOptions"))
    head: Path = ("headGroupSpec", "template", "spec")
    by_variable = variable(cluster.head_container, _AUTOSCALER_V2)
    if not cluster.autoscaling and cluster.autoscaler_v2_by_variable:
        cluster.refuse(
            "autoscaler_v2_without_autoscaling",
            (*head, "containers", 0, "env"),
            f"{_AUTOSCALER_V2} is set and enableInTreeAutoscaling is not true",
            "set `enableInTreeAutoscaling: true`, or remove the variable",
        )
    if cluster.autoscaling and options.get("version") is not None and by_variable is not None:
        cluster.refuse(
            "autoscaler_version_twice",
            ("autoscalerOptions", "version"),
            f"the autoscaler's version is set here and in {_AUTOSCALER_V2}",
            "keep `autoscalerOptions.version`",
        )
    if cluster.autoscaling and cluster.autoscaler_v2:
        for index, group in enumerate([cluster.head, *(group for group, _ in cluster.groups)]):
            policy = mapping(mapping(group.get("template")).get("spec")).get("restartPolicy")
            if policy and policy != "Never":
                where: Path = ("headGroupSpec",) if index == 0 else ("workerGroupSpecs", index - 1)
                cluster.refuse(
                    "restart_policy_refused",
                    (*where, "template", "spec", "restartPolicy"),
                    f"restartPolicy {str(policy)[:40]} under autoscaler v2",
                    "leave it out, or write Never",
                )
    idle = whole(options.get("idleTimeoutSeconds"))
    if idle is not None and idle < 0:
        cluster.refuse(
            "idle_timeout_refused",
            ("autoscalerOptions", "idleTimeoutSeconds"),
            f"the autoscaler has idleTimeoutSeconds {idle}",
            "give 0 or a larger number",
        )
    if variable(options, "KUBERAY_GEN_AUTOSCALER_START_CMD") is not None:
        cluster.refuse(
            "autoscaler_command_overridden",
            ("autoscalerOptions", "env"),
            "KUBERAY_GEN_AUTOSCALER_START_CMD is set, which the operator sets itself",
            "remove the variable; `autoscalerOptions.args` may use it",
        )


def _auth(cluster: Cluster) -> None:
    """Token authentication needs a Ray that knows it; Kubernetes' own tokens do not work in a RayService."""
    options = mapping(cluster.spec.get("authOptions"))
    path: Path = ("authOptions",)
    kubernetes = options.get("enableK8sTokenAuth") is True
    if kubernetes and cluster.kind == "RayService":
        cluster.refuse(
            "auth_refused",
            (*path, "enableK8sTokenAuth"),
            "a RayService cannot use Kubernetes' tokens",
            "use `mode: token` without enableK8sTokenAuth",
        )
    if options.get("mode") != "token":
        if kubernetes:
            cluster.refuse("auth_refused", path, "enableK8sTokenAuth is set and mode is not token", "add `mode: token`")
        return
    _at_least(cluster, (2, 55) if kubernetes else (2, 52), "auth_refused", path, "token authentication is on")
    if kubernetes and options.get("secretName"):
        cluster.refuse("auth_refused", path, "enableK8sTokenAuth and secretName are both set", "keep one of the two")
