"""Plans as one RayService of KubeRay (ray.io/v1): everything a cluster needs to serve them, in one file.

Left to the operator on purpose: probes (KubeRay adds its own, per Ray version), and the services (made from the serve
ports).
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError, PlanError
from spanwise.render.lint.metadata import MAX_NAME
from spanwise.render.options import RenderedFile, RenderOptions
from spanwise.render.serve_config import provenance, serve_config
from spanwise.render.upstream import (
    IMAGE,
    KUBERAY_VERSION,
    OBJECT_STORE_SHARE,
    RAY_GID,
    RAY_UID,
    RAY_VERSION,
    gpu_resource,
)
from spanwise.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

# Assumptions, not measurements; `--cpu-per-host` and `--memory-per-host` replace them, and an annotation names them.
_CPU_PER_GPU = 4
_HOST_MEMORY_PER_RANK_GIB = 8  # one worker process with its CUDA context and libraries, plus the server beside rank 0
_SHM_FOR_ENGINE_GIB = 4  # NCCL's and vLLM's own segments, beside Ray's object store
_DNS = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """Hosts of one plan in one domain, as a worker group sees them."""

    plan: Plan
    domain: str
    name: str
    replicas: int
    hosts_per_replica: int
    gpus: int
    cpus: int
    memory_gib: int
    shm_gib: int


def render_kuberay(plans: Sequence[Plan], options: RenderOptions) -> tuple[RenderedFile, ...]:
    """The RayService as the file ``rayservice.yaml``.

    Raises:
        InputError: A name that Kubernetes refuses, or runtime ``spanwise`` without an image.
    """
    if options.runtime == "spanwise" and not options.image:
        raise InputError(
            "runtime spanwise needs an image that holds spanwise, and none is published",
            where="--image",
            remedy=f"build one on Ray {RAY_VERSION} with `pip install '.[gpu]'` from a checkout, and name it with --image",
        )
    header = [
        *provenance(plans),
        f"For KubeRay {KUBERAY_VERSION} and Ray {RAY_VERSION}. Apply it with: kubectl apply -f rayservice.yaml",
    ]
    return (RenderedFile(name="rayservice.yaml", text=yaml_text(ray_service(plans, options), header)),)


def ray_service(plans: Sequence[Plan], options: RenderOptions) -> dict[str, Any]:
    """The RayService as values."""
    groups = [group for plan in plans for group in host_groups(plan, options, several=len(plans) > 1)]
    # With one model every GPU is its own. With several, a custom resource keeps each model on its own worker groups.
    pins = {plan.name: f"spanwise-{_label(plan.name)}" for plan in plans} if len(plans) > 1 else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {
            "name": _name(plans, options.name),
            "labels": {"app.kubernetes.io/managed-by": "spanwise"},
            "annotations": {
                "spanwise.io/plans": ",".join(f"{plan.name}={plan.hash}" for plan in plans),
                "spanwise.io/assumptions": _assumptions(options),
            },
        },
        "spec": {
            "serveConfigV2": yaml_text(serve_config(plans, options.runtime, pins)),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "headGroupSpec": _head(plans, options),
                "workerGroupSpecs": [_worker_group(group, options, pins.get(group.plan.name)) for group in groups],
            },
        },
    }


def host_groups(plan: Plan, options: RenderOptions, *, several: bool) -> list[HostGroup]:
    """The worker groups of one plan, one per domain.

    A replica that has several hosts to itself becomes ``numOfHosts``: KubeRay then makes and removes them together.
    """
    result = []
    for domain in dict.fromkeys(rank.domain for gang in plan.gangs for rank in gang.ranks):
        per_host: dict[str, int] = {}
        weights: dict[str, int] = {}
        gangs_on: dict[str, set[str]] = {}
        for gang in plan.gangs:
            for rank in (rank for rank in gang.ranks if rank.domain == domain):
                per_host[rank.host] = per_host.get(rank.host, 0) + 1
                weights[rank.host] = weights.get(rank.host, 0) + plan.stages[rank.stage].weights_bytes_per_rank
                gangs_on.setdefault(rank.host, set()).add(gang.id)
        gpus = max(per_host.values())
        spans = {
            sum(gang.id in gangs for gangs in gangs_on.values())
            for gang in plan.gangs
            if any(rank.domain == domain for rank in gang.ranks)
        }
        alone = all(len(gangs) == 1 for gangs in gangs_on.values()) and len(spans) == 1
        hosts_per_replica = spans.pop() if alone else 1
        memory = options.memory_gib_per_host or max(
            32, math.ceil(max(weights.values()) / 2**30) + _HOST_MEMORY_PER_RANK_GIB * gpus
        )
        result.append(
            HostGroup(
                plan=plan,
                domain=domain,
                name=_label(f"{plan.name}-{domain}" if several else domain),
                replicas=len(per_host) // hosts_per_replica,
                hosts_per_replica=hosts_per_replica,
                gpus=gpus,
                cpus=options.cpu_per_host or max(8, _CPU_PER_GPU * gpus),
                memory_gib=memory,
                shm_gib=math.ceil(memory * OBJECT_STORE_SHARE) + _SHM_FOR_ENGINE_GIB,
            )
        )
    return result


def _head(plans: Sequence[Plan], options: RenderOptions) -> dict[str, Any]:
    # No CPUs for Ray's scheduler: nothing but Serve's own actors, which need none, runs beside the control store.
    ports = {"gcs": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}
    return {
        "rayStartParams": {"num-cpus": "0"},
        "template": {
            "spec": {
                **_pod(plans),
                "containers": [
                    {
                        "name": "ray-head",
                        "image": options.image or IMAGE,
                        "ports": [{"containerPort": port, "name": name} for name, port in ports.items()],
                        **_environment(plans, options),
                        "resources": _resources({"cpu": "2", "memory": "8Gi"}),
                        "securityContext": _container_security(),
                        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *_model_mounts(plans)],  # noqa: S108
                    }
                ],
                "volumes": [_shared_memory(2), *_model_volumes(plans)],
            }
        },
    }


def _worker_group(group: HostGroup, options: RenderOptions, pin: str | None) -> dict[str, Any]:
    resource = gpu_resource(group.plan.expected.gpu)
    amounts = {"cpu": str(group.cpus), "memory": f"{group.memory_gib}Gi", resource: str(group.gpus)}
    plans = [group.plan]
    return {
        "groupName": group.name,
        "replicas": group.replicas,
        "minReplicas": group.replicas,
        "maxReplicas": group.replicas,
        "numOfHosts": group.hosts_per_replica,
        # KubeRay hands this through a shell: the JSON is quoted once more.
        "rayStartParams": {"resources": f'"{{\\"{pin}\\": {group.gpus}}}"'} if pin else {},
        "template": {
            "metadata": {
                "labels": {"spanwise.io/plan": _label(group.plan.name), "spanwise.io/domain": _label(group.domain)}
            },
            "spec": {
                **_pod(plans),
                "tolerations": [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}],
                "containers": [
                    {
                        "name": "ray-worker",
                        "image": options.image or IMAGE,
                        **_environment(plans, options),
                        "resources": _resources(amounts),
                        "securityContext": _container_security(),
                        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *_model_mounts(plans)],  # noqa: S108
                    }
                ],
                "volumes": [_shared_memory(group.shm_gib), *_model_volumes(plans)],
            },
        },
    }


def _pod(plans: Sequence[Plan]) -> dict[str, Any]:
    """What every pod has: Ray's own unprivileged user, and no service account token that it does not need."""
    return {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RAY_UID,
            "runAsGroup": RAY_GID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
    }


def _container_security() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _resources(amounts: dict[str, str]) -> dict[str, Any]:
    """Requests equal to limits: the pod gets what it asks for, and is the last to be evicted."""
    return {"limits": dict(amounts), "requests": dict(amounts)}


def _shared_memory(gib: int) -> dict[str, Any]:
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{gib}Gi"}}


def _local(plans: Sequence[Plan]) -> list[str]:
    """Model folders on the hosts' own disks, each once."""
    return list(dict.fromkeys(plan.model.source for plan in plans if plan.model.source.startswith("/")))


def _model_mounts(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    return [{"name": f"model-{index}", "mountPath": path, "readOnly": True} for index, path in enumerate(_local(plans))]


def _model_volumes(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    return [
        {"name": f"model-{index}", "hostPath": {"path": path, "type": "Directory"}}
        for index, path in enumerate(_local(plans))
    ]


def _environment(plans: Sequence[Plan], options: RenderOptions) -> dict[str, Any]:
    """The hub's token by reference, where a model comes from the hub. Optional: public models need none."""
    if all(plan.model.source.startswith("/") for plan in plans):
        return {}
    reference = {"name": options.token_secret, "key": options.token_key, "optional": True}
    return {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}]}


def _assumptions(options: RenderOptions) -> str:
    image = "" if options.image else f"image {IMAGE} exists in your registry; "
    return (
        f"{image}{_CPU_PER_GPU} CPUs per GPU and {_HOST_MEMORY_PER_RANK_GIB} GiB of host memory per rank "
        "beside the weights unless given; one domain per worker group is kept together by its node pool"
    )


def _name(plans: Sequence[Plan], asked: str | None) -> str:
    limit = MAX_NAME["RayService"]
    if asked is not None:
        if len(asked) > limit or not _DNS.fullmatch(asked):
            raise InputError(
                f"{asked[:80]!r} is no name for a RayService",
                where="--name",
                remedy=f"use at most {limit} lower-case letters, digits and '-', beginning with a letter",
            )
        return asked
    return _label("-".join(plan.name for plan in plans), limit)


def _label(text: str, limit: int = 50) -> str:
    """``text`` as a DNS-1035 label; a shortened one ends in a hash of the whole, so that it stays unique."""
    clean = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    if not clean or not clean[0].isalpha():
        clean = f"m-{clean}".rstrip("-")
    if len(clean) <= limit:
        return clean
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{clean[: limit - 7].rstrip('-')}-{digest}"


def refuse_same_names(plans: Sequence[Plan]) -> None:
    """Two models of one name cannot stand behind one door.

    Raises:
        PlanError: Two plans share a name or a served name.
    """
    for attribute in ("name", "served name"):
        names = [plan.name if attribute == "name" else plan.model.served_name for plan in plans]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PlanError(
                f"two plans have the {attribute} {twice[0]!r}",
                remedy="give each plan once; two deployments of one model are `replicas` of one plan",
            )
