"""Judgement on the cluster part of a RayService or RayCluster: what is accepted and will not work, or has a risk.

What KubeRay's controller refuses stands in :mod:`spanwise.render.lint.controller`, what the API server refuses in
:mod:`spanwise.render.lint.schema`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.render.lint.controller import Cluster, check_controller
from spanwise.render.lint.engine import SECRET_VARIABLE
from spanwise.render.lint.names import version_of
from spanwise.render.lint.pod import check_pod
from spanwise.render.lint.report import Report, items, mapping, whole
from spanwise.render.upstream import IMAGE, RAY_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.render.lint.documents import Path


def check_cluster(cluster: Cluster) -> None:
    """Everything about ``cluster`` that its schema does not say."""
    report, spec, path = cluster.report, cluster.spec, cluster.path
    check_controller(cluster)
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
        _check_secrets(report, spec, mapping(head), path)
        _check_group(report, mapping(head), (*path, "headGroupSpec"), "the head group")
        _check_head(report, mapping(head), (*path, "headGroupSpec"))
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


def _check_head(report: Report, head: dict[str, Any], path: Path) -> None:
    if head.get("serviceType") in ("LoadBalancer", "NodePort"):
        report.add(
            "dashboard_exposed",
            "warning",
            (*path, "serviceType"),
            f"serviceType {head['serviceType']} publishes Ray's dashboard and job API outside the cluster: "
            "whoever reaches it runs code",
            "leave serviceType out (ClusterIP) and publish only the serve service",
        )
    if head.get("enableIngress") is True:
        report.add(
            "dashboard_exposed",
            "warning",
            (*path, "enableIngress"),
            "enableIngress publishes Ray's dashboard and job API outside the cluster: whoever reaches it runs code",
            "leave it out, or put authentication in front of the ingress",
        )


def _check_secrets(report: Report, spec: dict[str, Any], head: dict[str, Any], path: Path) -> None:
    """Redis' password may stand in two more places than an environment variable."""
    options = mapping(mapping(spec.get("gcsFaultToleranceOptions")).get("redisPassword"))
    params = mapping(head.get("rayStartParams"))
    for there, where in (
        (options.get("value"), ("gcsFaultToleranceOptions", "redisPassword", "value")),
        (params.get("redis-password"), ("headGroupSpec", "rayStartParams", "redis-password")),
    ):
        if there:
            report.add(
                "secret_in_plain_text",
                "warning",
                (*path, *where),
                "Redis' password stands in the manifest in plain text (not repeated here)",
                "put it into a Secret and use `gcsFaultToleranceOptions.redisPassword.valueFrom.secretKeyRef`",
            )


def _containers(group: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Path]]:
    """The Ray container of a group first, then sidecars, each with its path inside the group."""
    listed = items(mapping(mapping(group.get("template")).get("spec")).get("containers"))
    for index, container in enumerate(listed):
        if isinstance(container, dict):
            yield container, ("template", "spec", "containers", index)


def gpus_of(group: dict[str, Any]) -> int:
    """GPUs that one host of the group has: the group's own ``resources``, ``num-gpus``, or what its first container may use."""
    stated = [whole(count) for name, count in mapping(group.get("resources")).items() if name.lower().endswith("gpu")]
    stated.append(whole(mapping(group.get("rayStartParams")).get("num-gpus")))
    for given in stated:
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
    check_pod(report, mapping(group.get("template")), (*path, "template"), name)


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
    # KubeRay tells Ray its CPUs from the limit or else the request, its memory from the limit; `rayStartParams` and the
    # group's own `resources` beat both (common/pod.go, generateRayStartCommand).
    params = mapping(group.get("rayStartParams"))
    given = {key.lower() for key in mapping(group.get("resources"))}
    known = {
        "cpu": "cpu" in limits or "cpu" in requests or "num-cpus" in params or "cpu" in given,
        "memory": "memory" in limits or "memory" in params or "memory" in given,
    }
    missing = [key for key, there in known.items() if not there]
    if missing:
        report.add(
            "limits_missing",
            "warning",
            (*path, "resources"),
            f"{name} has no limit for {' and '.join(missing)}: KubeRay takes Ray's CPUs and memory from there, and without "
            "it Ray counts the whole machine",
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
            "info" if "memory" in limits else "warning",
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
        hosts = whole(fields.get("numOfHosts")) or 1
        if not gpus_of(fields) or low == high:
            continue
        if hosts == 1:
            report.add(
                "autoscaling_by_host",
                "info",
                (*path, "workerGroupSpecs", index, "maxReplicas"),
                "Ray's autoscaler adds and removes single hosts of this group: a model that spans several would be "
                "torn apart or left waiting for its last host",
                "set numOfHosts to the hosts of one model replica, or keep minReplicas = maxReplicas",
            )
        elif first_autoscaler(spec):
            report.add(
                "autoscaling_multiplies_hosts",
                "warning",
                (*path, "workerGroupSpecs", index, "numOfHosts"),
                f"Ray's autoscaler v1 writes the hosts that it wants as `replicas`, and each of those is {hosts} hosts here: "
                f"it asks for {hosts} times too many",
                "set `autoscalerOptions.version: v2` (Ray 2.47 or later), or keep minReplicas = maxReplicas",
            )


def first_autoscaler(cluster: dict[str, Any]) -> bool:
    """True where Ray's first autoscaler runs: asked for, or a Ray before 2.47, which has it by default."""
    stated = mapping(cluster.get("autoscalerOptions")).get("version")
    if stated is not None:
        return bool(stated == "v1")
    given = cluster.get("rayVersion")
    version = version_of(given) if isinstance(given, str) else None
    return version is not None and version < (2, 47)
