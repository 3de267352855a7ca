"""Plans as one RayService of KubeRay (ray.io/v1), and the objects that belong beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError, PlanError
from spanwise.render.beside import MANAGED, disruption_budgets, network_policy, service_account
from spanwise.render.grammar import label_value
from spanwise.render.hosts import CPU_PER_GPU, HOST_MEMORY_PER_RANK_GIB, HostGroup, host_groups
from spanwise.render.kustomize import kustomized
from spanwise.render.names import service_name, slug
from spanwise.render.options import RenderedFile, RenderOptions
from spanwise.render.pods import head, worker_group
from spanwise.render.serve_config import provenance, serve_config
from spanwise.render.site import Site, site
from spanwise.render.upgrade import upgrade
from spanwise.render.upstream import (
    IMAGE,
    KUBERAY_VERSION,
    KUEUE_MOST_WORKER_GROUPS,
    QUEUE_LABELS,
    RAY_GID,
    RAY_VERSION,
)
from spanwise.render.weights import refuse_unmountable, refuse_unreachable
from spanwise.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

_LONGEST_LABEL = 63


def render_kuberay(plans: Sequence[Plan], options: RenderOptions) -> tuple[RenderedFile, ...]:
    """The RayService, its account, its network policy and its disruption budgets, one file each.

    Raises:
        InputError: An option that the place cannot have, or that contradicts the plans.
        PlanError: Plans that contradict each other.
    """
    place = site(options)
    refuse_unreachable(plans, place.volume)
    refuse_unmountable(plans, place.volume)
    name = service_name(plans, place.name)
    groups = host_groups(plans, place)
    _refuse_groups(groups, place)
    header = [
        *provenance(plans),
        f"For KubeRay {KUBERAY_VERSION} and Ray {RAY_VERSION}. Apply the folder: kubectl apply -{'k' if options.kustomize else 'f'} FOLDER",
    ]
    documents: dict[str, list[dict[str, Any]]] = {
        "rayservice.yaml": [ray_service(plans, place, name, groups)],
        "networkpolicy.yaml": [network_policy(place, name)],
        "poddisruptionbudget.yaml": disruption_budgets(groups, place, name),
    }
    if place.service_account is None:
        documents["serviceaccount.yaml"] = [service_account(name)]
    files = tuple(
        RenderedFile(
            name=file,
            text="---\n".join(yaml_text(each, header if index == 0 else ()) for index, each in enumerate(made)),
        )
        for file, made in documents.items()
    )
    return kustomized(files, name, place.image) if options.kustomize else files


def ray_service(plans: Sequence[Plan], place: Site, name: str, groups: Sequence[HostGroup]) -> dict[str, Any]:
    """The RayService as values."""
    # Stock Ray Serve with one model: every GPU is its own. With several, a custom resource keeps each model on its own
    # worker groups. Runtime spanwise pins each rank to a host.
    several = len(plans) > 1 and place.runtime == "stock"
    pins = {plan.name: f"spanwise-{slug(plan.name)}" for plan in plans} if several else {}
    strategy = upgrade(plans, place)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {
            "name": name,
            # KubeRay copies these labels to its RayCluster, where Volcano's plugin looks for the queue.
            "labels": {**MANAGED, **_queue(place)},
            "annotations": {
                "spanwise.io/plans": ",".join(f"{plan.name}={plan.hash}" for plan in plans),
                "spanwise.io/assumptions": _assumptions(place),
                "spanwise.io/upgrade": f"{strategy.type}: {strategy.reason}",
            },
        },
        "spec": {
            "upgradeStrategy": {"type": strategy.type},
            "serveConfigV2": yaml_text(serve_config(plans, place.runtime, pins, place.volume)),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                **({"authOptions": {"mode": "token"}} if place.ray_auth == "token" else {}),
                **_fault_tolerance(place),
                "headGroupSpec": head(plans, place, name),
                "workerGroupSpecs": [
                    worker_group(group, place, name, pins.get(group.plans[0].name)) for group in groups
                ],
            },
        },
    }


def _refuse_groups(groups: Sequence[HostGroup], place: Site) -> None:
    """What no manifest can say about these groups."""
    if place.gang_scheduler == "kueue" and len(groups) > KUEUE_MOST_WORKER_GROUPS:
        raise InputError(
            f"Kueue takes at most {KUEUE_MOST_WORKER_GROUPS} worker groups, and this RayService has {len(groups)}",
            where="--gang-scheduler",
            remedy="use volcano, render the plans apart, or use --runtime stock, which needs one group per domain",
        )
    for group in groups:
        if place.domain_label is not None:
            label_value(group.domain, f"--domain-label, domain {group.domain[:80]!r}")
        if group.host is not None and len(group.host) > _LONGEST_LABEL:
            raise PlanError(
                f"the host name {group.host[:80]!r} is longer than a label may be, and ranks are pinned by label",
                remedy=f"give hosts names of at most {_LONGEST_LABEL} characters in the intent, and plan again",
            )


def _queue(place: Site) -> dict[str, str]:
    """The label by which a gang scheduler finds its queue."""
    if place.gang_scheduler == "none":
        return {}
    return {QUEUE_LABELS[place.gang_scheduler]: place.queue or "default"}


def _fault_tolerance(place: Site) -> dict[str, Any]:
    """Where Ray's control store keeps what a new head must know; without it a dead head takes the service down."""
    if place.redis is None:
        return {}
    options: dict[str, Any] = {"redisAddress": place.redis}
    if place.redis_password is not None:
        reference = {"name": place.redis_password.name, "key": place.redis_password.key}
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return {"gcsFaultToleranceOptions": options}


def _assumptions(place: Site) -> str:
    """What nobody said and the manifest takes for granted."""
    found = [
        f"{CPU_PER_GPU} CPUs per GPU and {HOST_MEMORY_PER_RANK_GIB} GiB of host memory per rank beside the weights unless given"
    ]
    if place.image_is_ours:
        found.insert(0, f"image {IMAGE} exists in your registry")
    if place.domain_label is None:
        found.append("one domain per worker group is kept together by its node pool")
    else:
        found.append(f"nodes carry {place.domain_label} with the domains that the plan names")
    if place.volume is not None and place.volume.kind == "pvc":
        found.append(f"claim {place.volume.source} can be mounted by many nodes, and group {RAY_GID} may read it")
    if place.volume is not None and place.volume.kind == "s3":
        found.append("the image holds boto3, and each host's disk the whole model")
    if place.rdma_resource is not None:
        found.append(
            "the container runtime limits locked memory (memlock) for no user: IPC_LOCK alone helps only root, and is beyond the "
            "restricted pod security standard"
        )
    if place.gang_scheduler == "kueue":
        found.append("Kueue's waitForPodsReady is off: hosts that run ranks and no proxy of Serve are never Ready")
    if place.gang_scheduler == "volcano":
        found.append("KubeRay's operator runs with --batch-scheduler=volcano")
    return "; ".join(found)
