"""Head and workers of the Ray cluster: containers, resources, and a posture that asks for nothing it does not need.

Probes are left to KubeRay on purpose: it adds them per Ray version, and its readiness probe of a worker also asks Serve's
proxy. The serve service selects every worker, so a probe of ours without that question would send requests to hosts
that run ranks and no proxy (docs/decisions/013-what-a-rendered-rayservice-holds.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.render.names import DOMAIN_LABEL, HOST_LABEL, PLAN_LABEL, SERVICE_LABEL, owner, slug
from spanwise.render.upstream import PORTS, RAY_GID, RAY_UID, gpu_resource
from spanwise.render.weights import environment, fills_cache, mounts, volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan
    from spanwise.render.hosts import HostGroup
    from spanwise.render.site import Site, Toleration

_SHM = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 (a mount point in a manifest)


def head(plans: Sequence[Plan], place: Site, service: str) -> dict[str, Any]:
    """The head group."""
    tolerations = [_toleration(item) for item in place.tolerations]
    return {
        # No CPUs for Ray's scheduler: nothing but Serve's own actors, which need none, runs beside the control store.
        "rayStartParams": {"num-cpus": "0"},
        "template": {
            "metadata": {"labels": {SERVICE_LABEL: service}},
            "spec": {
                **_pod(plans, place, service),
                **({"tolerations": tolerations} if tolerations else {}),
                "containers": [
                    {
                        "name": "ray-head",
                        "image": place.image.word,
                        "ports": [{"containerPort": port, "name": name} for name, port in PORTS.items()],
                        **environment(plans, place),
                        "resources": _resources({"cpu": "2", "memory": "8Gi"}),
                        "securityContext": _container_security(),
                        "volumeMounts": [dict(_SHM), *mounts(plans, place)],
                    }
                ],
                "volumes": [_shared_memory(2), *volumes(plans, place)],
            },
        },
    }


def worker_group(group: HostGroup, place: Site, service: str, pin: str | None) -> dict[str, Any]:
    """One worker group.

    Args:
        group: Its hosts.
        place: Where it runs.
        service: The RayService's name.
        pin: Custom resource that only this group's hosts have, one per GPU; None where none is needed.
    """
    resource = gpu_resource(group.gpu)
    amounts = {"cpu": str(group.cpus), "memory": f"{group.memory_gib}Gi", resource: str(group.gpus)}
    if place.rdma_resource is not None:
        amounts[place.rdma_resource] = "1"
    selector = dict(place.node_selector)
    if place.domain_label is not None:
        selector[place.domain_label] = group.domain
    return {
        "groupName": group.name,
        "replicas": group.replicas,
        "minReplicas": group.replicas,
        "maxReplicas": group.replicas,
        "numOfHosts": group.hosts_per_replica,
        # KubeRay hands this through a shell: the JSON is quoted once more.
        "rayStartParams": {"resources": f'"{{\\"{pin}\\": {group.gpus}}}"'} if pin else {},
        **({"labels": {HOST_LABEL: group.host}} if group.host is not None else {}),
        "template": {
            "metadata": {
                "labels": {SERVICE_LABEL: service, PLAN_LABEL: owner(group), DOMAIN_LABEL: slug(group.domain)},
            },
            "spec": {
                **_pod(group.plans, place, service),
                **({"nodeSelector": selector} if selector else {}),
                "tolerations": [
                    {"key": resource, "operator": "Exists", "effect": "NoSchedule"},
                    *(_toleration(item) for item in place.tolerations),
                ],
                "containers": [
                    {
                        "name": "ray-worker",
                        "image": place.image.word,
                        **environment(group.plans, place),
                        "resources": _resources(amounts),
                        "securityContext": _container_security(locks_memory=place.rdma_resource is not None),
                        "volumeMounts": [dict(_SHM), *mounts(group.plans, place)],
                    }
                ],
                "volumes": [_shared_memory(group.shm_gib), *volumes(group.plans, place)],
            },
        },
    }


def account(place: Site, service: str) -> str:
    """The service account that pods run under: the user's own, or the one rendered beside them."""
    return place.service_account or service


def _pod(plans: Sequence[Plan], place: Site, service: str) -> dict[str, Any]:
    """What every pod has: Ray's own unprivileged user, and no service account token that it does not need."""
    # A claim is root's until its group is that of Ray's user; with weights, the walk over its files is long: once.
    group = {"fsGroup": RAY_GID, "fsGroupChangePolicy": "OnRootMismatch"} if fills_cache(plans, place) else {}
    spec: dict[str, Any] = {
        "serviceAccountName": account(place, service),
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RAY_UID,
            "runAsGroup": RAY_GID,
            **group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if place.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in place.image_pull_secrets]
    return spec


def _container_security(*, locks_memory: bool = False) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if locks_memory:
        # RDMA pins the memory that the network card reads.
        capabilities["add"] = ["IPC_LOCK"]
    return {"allowPrivilegeEscalation": False, "capabilities": capabilities}


def _resources(amounts: dict[str, str]) -> dict[str, Any]:
    """Requests equal to limits: the pod gets what it asks for, and is the last to be evicted."""
    return {"limits": dict(amounts), "requests": dict(amounts)}


def _shared_memory(gib: int) -> dict[str, Any]:
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{gib}Gi"}}


def _toleration(item: Toleration) -> dict[str, Any]:
    found: dict[str, Any] = {"key": item.key, "operator": "Exists" if item.value is None else "Equal"}
    if item.value is not None:
        found["value"] = item.value
    if item.effect is not None:
        found["effect"] = item.effect
    return found
