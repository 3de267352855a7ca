"""Rules for the cluster part of a RayService or RayCluster: the controller's own, and judgement.

What KubeRay's controller refuses, it refuses after creation, as a status that nobody looks at. Its rules are those of
KubeRay v1.7 (ray-operator/controllers/ray/utils/validation.go); the API server's own are in
:mod:`spanwise.render.lint.schema`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.engine import SECRET_VARIABLE
from spanwise.render.lint.report import Report, items, mapping, whole
from spanwise.render.upstream import IMAGE, RAY_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.render.lint.documents import Path

# KubeRay: MaxRayClusterNameLength is 53; a RayService's name is 6 shorter because the cluster's name is made from it.
MAX_NAME = {"RayCluster": 53, "RayService": 47}
_DNS1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")


def check_name(report: Report, document: dict[str, Any], kind: str) -> None:
    """``metadata.name``: present, a DNS-1035 label, short enough for the names that KubeRay makes from it."""
    metadata = mapping(document.get("metadata"))
    name = metadata.get("name")
    if not name:
        if not metadata.get("generateName"):
            report.add("name_missing", "error", ("metadata", "name"), "the object has no name", "add `metadata.name`")
        return
    text = str(name)
    if len(text) > MAX_NAME[kind] or not _DNS1035.fullmatch(text):
        report.add(
            "name_not_allowed",
            "error",
            ("metadata", "name"),
            f"{text[:80]!r} is refused by KubeRay as the name of a {kind}",
            f"use at most {MAX_NAME[kind]} lower-case letters, digits and '-', beginning with a letter",
        )


def check_cluster(report: Report, spec: dict[str, Any], path: Path) -> None:
    """Everything about ``spec`` (a RayClusterSpec at ``path``) that its schema does not say."""
    head = spec.get("headGroupSpec")
    if head is None:
        report.add(
            "head_group_missing",
            "error",
            (*path, "headGroupSpec"),
            "no head group: a Ray cluster has exactly one head, which runs its control store and Serve's controller",
            'add `headGroupSpec:` with `rayStartParams: {num-cpus: "0"}` and a template of one container '
            f"(image {IMAGE}, at least 2 CPU and 8Gi memory)",
        )
    else:
        _check_group(report, mapping(head), (*path, "headGroupSpec"), "the head group")
        _check_head(report, spec, mapping(head), (*path, "headGroupSpec"))
    groups = items(spec.get("workerGroupSpecs"))
    names: dict[Any, int] = {}
    for index, group in enumerate(groups):
        group_path = (*path, "workerGroupSpecs", index)
        name = mapping(group).get("groupName")
        _check_group(report, mapping(group), group_path, f"worker group {str(name)[:60]!r}")
        _check_bounds(report, mapping(group), group_path)
        if isinstance(name, str) and names.setdefault(name, index) != index:
            report.add(
                "group_name_repeated",
                "error",
                (*group_path, "groupName"),
                f"two worker groups are called {name[:60]!r}",
                "give each its own name",
            )
    if not groups:
        report.add(
            "worker_group_missing",
            "warning",
            (*path, "workerGroupSpecs"),
            "no worker group: everything would run on the head",
            "add a worker group with the GPUs that the model needs",
        )
    _check_version(report, spec, path)
    _check_autoscaling(report, spec, groups, path)
    if mapping(spec.get("authOptions")).get("mode") != "token":
        report.add(
            "ray_auth_off",
            "info",
            (*path, "authOptions"),
            "Ray's own API takes commands from anybody who reaches port 8265 or 10001",
            "add `authOptions: {mode: token}` (Ray 2.52 or later), or a NetworkPolicy that admits nobody",
        )


def _check_head(report: Report, spec: dict[str, Any], head: dict[str, Any], path: Path) -> None:
    if head.get("serviceType") in ("LoadBalancer", "NodePort"):
        report.add(
            "dashboard_exposed",
            "warning",
            (*path, "serviceType"),
            f"serviceType {head['serviceType']} publishes Ray's dashboard and job API outside the cluster: "
            "whoever reaches it runs code",
            "leave serviceType out (ClusterIP) and publish only the serve service",
        )
    # RAY_REDIS_ADDRESS turns fault tolerance on behind the operator's back; the controller refuses it.
    container = next(_containers(head), ({}, ()))[0]
    if spec.get("gcsFaultToleranceOptions") is None and any(
        mapping(entry).get("name") == "RAY_REDIS_ADDRESS" for entry in items(container.get("env"))
    ):
        report.add(
            "redis_without_options",
            "warning",
            (*path, "template"),
            "RAY_REDIS_ADDRESS is set, gcsFaultToleranceOptions is not: KubeRay refuses that without its annotation",
            "move the address to `gcsFaultToleranceOptions.redisAddress`",
        )


def _containers(group: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Path]]:
    """The Ray container of a group first, then sidecars, each with its path inside the group."""
    listed = items(mapping(mapping(group.get("template")).get("spec")).get("containers"))
    for index, container in enumerate(listed):
        if isinstance(container, dict):
            yield container, ("template", "spec", "containers", index)


def gpus_of(group: dict[str, Any]) -> int:
    """GPUs that one host of the group has: ``num-gpus``, or what its first container may use."""
    params = mapping(group.get("rayStartParams"))
    given = whole(params.get("num-gpus"))
    if given is not None:
        return given
    container = next(_containers(group), ({}, ()))[0]
    limits = mapping(mapping(container.get("resources")).get("limits"))
    return sum(whole(count) or 0 for name, count in limits.items() if str(name).endswith("gpu"))


def _check_group(report: Report, group: dict[str, Any], path: Path, name: str) -> None:
    containers = list(_containers(group))
    if not containers:
        report.add(
            "container_missing",
            "error",
            (*path, "template", "spec", "containers"),
            f"{name} has no container",
            f"add one under `template.spec.containers`, with image {IMAGE}",
        )
    for container, inner in containers:
        _check_image(report, container, (*path, *inner), name)
        _check_env(report, container, (*path, *inner))
    if containers:
        _check_resources(report, group, containers[0][0], (*path, *containers[0][1]), name)
    params = mapping(group.get("rayStartParams"))
    if group.get("resources") and any(params.get(key) for key in _RESOURCE_PARAMS):
        report.add(
            "resources_twice",
            "error",
            (*path, "resources"),
            f"{name} sets resources both in `resources` and in `rayStartParams`; KubeRay refuses that",
            "keep one of the two",
        )
    if "labels" in params:
        report.add(
            "labels_in_start_params",
            "error",
            (*path, "rayStartParams", "labels"),
            f"{name} sets labels in `rayStartParams`; KubeRay refuses that",
            "use the group's own `labels` field",
        )


def _check_image(report: Report, container: dict[str, Any], path: Path, name: str) -> None:
    image = container.get("image")
    if not image:
        report.add(
            "image_missing",
            "error",
            (*path, "image"),
            f"container {str(container.get('name'))[:60]!r} of {name} has no image: the pods cannot be created",
            f"add `image: {IMAGE}` (head and workers must run the same Ray and Python)",
        )
        return
    last = str(image).rsplit("/", 1)[-1]
    if "@" not in last and (":" not in last or last.endswith(":latest")):
        report.add(
            "image_floating",
            "warning",
            (*path, "image"),
            f"image {str(image)[:120]} has no fixed tag: hosts that pull on different days run different engines",
            "name a version, or better a digest",
        )


def _check_env(report: Report, container: dict[str, Any], path: Path) -> None:
    for index, entry in enumerate(items(container.get("env"))):
        named = mapping(entry)
        if named.get("value") and SECRET_VARIABLE.search(str(named.get("name"))):
            report.add(
                "secret_in_plain_text",
                "warning",
                (*path, "env", index),
                f"{str(named['name'])[:60]} stands in the manifest in plain text (not repeated here)",
                "put it into a Secret and use `valueFrom.secretKeyRef`",
            )


def _check_resources(report: Report, group: dict[str, Any], container: dict[str, Any], path: Path, name: str) -> None:
    resources = mapping(container.get("resources"))
    limits, requests = mapping(resources.get("limits")), mapping(resources.get("requests"))
    missing = [key for key in ("cpu", "memory") if key not in limits]
    if missing:
        report.add(
            "limits_missing",
            "warning",
            (*path, "resources"),
            f"{name} has no limit for {' and '.join(missing)}: KubeRay takes Ray's CPUs and memory from the limits, "
            "and without them Ray counts the whole machine",
            "add `resources.limits` and `requests` for cpu and memory",
        )
    for key in limits:
        if str(key).endswith("gpu") and key in requests and whole(limits[key]) != whole(requests[key]):
            report.add(
                "gpu_request_differs",
                "error",
                (*path, "resources"),
                f"{name} asks for {requests[key]} {key} and limits it to {limits[key]}; Kubernetes wants them equal",
                "make them equal, or leave the request out",
            )
    for key in requests:
        if str(key).endswith("gpu") and key not in limits:
            report.add(
                "gpu_limit_missing",
                "error",
                (*path, "resources"),
                f"{name} requests {key} without a limit; Kubernetes refuses that for GPUs",
                f"add `{key}` to the limits",
            )
    mounts = [mapping(mount).get("mountPath") for mount in items(container.get("volumeMounts"))]
    if gpus_of(group) > 1 and "/dev/shm" not in mounts:  # noqa: S108 (a mount point in a manifest)
        report.add(
            "shm_not_declared",
            "warning" if "memory" in missing else "info",
            path,
            f"{name} has several GPUs and declares no /dev/shm: NCCL, vLLM and Ray's object store all need it, and the "
            "container runtime's default is 64 MiB (KubeRay's operator adds one, bounded only by the memory limit)",
            "add an emptyDir volume with `medium: Memory` and a sizeLimit, mounted at /dev/shm",
        )


def _check_bounds(report: Report, group: dict[str, Any], path: Path) -> None:
    missing = [key for key in ("minReplicas", "maxReplicas") if group.get(key) is None]
    replicas = whole(group.get("replicas"))
    if missing:
        wanted = replicas if replicas is not None else 1
        report.add(
            "replica_bounds_missing",
            "warning",
            (*path, missing[0]),
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: they default to 0 and "
            "2147483647, so nothing bounds what this group may cost, nor keeps it alive",
            f"add `minReplicas: {wanted}` and `maxReplicas: {wanted}` for a group of fixed size",
        )
        return
    low, high = whole(group["minReplicas"]), whole(group["maxReplicas"])
    if low is None or high is None:
        return
    if low > high or (replicas is not None and not low <= replicas <= high):
        report.add(
            "replica_bounds_contradict",
            "error" if low > high else "warning",
            (*path, "minReplicas"),
            f"replicas {'unset' if replicas is None else replicas}, minReplicas {low}, maxReplicas {high} contradict",
            "keep minReplicas <= replicas <= maxReplicas",
        )


def _check_version(report: Report, spec: dict[str, Any], path: Path) -> None:
    version = spec.get("rayVersion")
    if version is None:
        report.add(
            "ray_version_missing",
            "warning",
            (*path, "rayVersion"),
            "rayVersion is not stated: KubeRay chooses commands and probes by it",
            f'add `rayVersion: "{RAY_VERSION}"`, the version inside the image',
        )


def _check_autoscaling(report: Report, spec: dict[str, Any], groups: list[Any], path: Path) -> None:
    if spec.get("enableInTreeAutoscaling") is not True:
        return
    for index, group in enumerate(groups):
        fields = mapping(group)
        low, high = whole(fields.get("minReplicas")), whole(fields.get("maxReplicas"))
        if gpus_of(fields) and low != high and (whole(fields.get("numOfHosts")) or 1) == 1:
            report.add(
                "autoscaling_by_host",
                "info",
                (*path, "workerGroupSpecs", index, "maxReplicas"),
                "Ray's autoscaler adds and removes single hosts of this group: a model that spans several would be "
                "torn apart or left waiting for its last host",
                "set numOfHosts to the hosts of one model replica, or keep minReplicas = maxReplicas",
            )
