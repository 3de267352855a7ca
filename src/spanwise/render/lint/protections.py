"""Protections that a stock manifest lacks: it works without them, until a host, a client or a registry misbehaves.

All of them are ``info``: whether one is needed is the operator's to say. A protection that stands in another object
(a PodDisruptionBudget, a NetworkPolicy) is missed only where no file given with it holds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.ray_cluster import gpus_of
from spanwise.render.lint.report import items, mapping, whole

if TYPE_CHECKING:
    from spanwise.render.lint.controller import Cluster
    from spanwise.render.lint.documents import Path

_GANG_LABELS = (
    "kueue.x-k8s.io/queue-name",
    "ray.io/gang-scheduling-enabled",
    "volcano.sh/queue-name",
    "yunikorn.apache.org/queue",
)
_TOPOLOGY = ("affinity", "nodeSelector", "topologySpreadConstraints")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What stands around a cluster's spec.

    Attributes:
        labels: The object's own labels.
        kinds: Kinds of every object in the files given.
        upgrade: ``spec.upgradeStrategy`` of a RayService.
    """

    labels: dict[str, Any]
    kinds: frozenset[str]
    upgrade: dict[str, Any]


def check_protections(cluster: Cluster, around: Surroundings) -> None:
    """One finding for each protection that is missing."""
    _outside(cluster, around)
    _head_loss(cluster)
    _root(cluster)
    if cluster.kind == "RayService":
        _upgrade(cluster, around)
    for group, path in cluster.groups:
        if (whole(group.get("numOfHosts")) or 1) > 1:
            _gang(cluster, around, group, path)


def _miss(cluster: Cluster, code: str, path: Path, message: str, fix: str) -> None:
    cluster.report.add(code, "info", (*cluster.path, *path), message, fix)


def _outside(cluster: Cluster, around: Surroundings) -> None:
    """Who may reach the cluster, and who may take its pods away."""
    if mapping(cluster.spec.get("authOptions")).get("mode") != "token":
        _miss(
            cluster,
            "ray_auth_off",
            ("authOptions",),
            "Ray's own API takes commands from anybody who reaches port 8265 or 10001",
            "add `authOptions: {mode: token}` (Ray 2.52 or later), or a NetworkPolicy that admits nobody",
        )
    if "NetworkPolicy" not in around.kinds and cluster.spec.get("networkPolicy") is None:
        _miss(
            cluster,
            "network_policy_missing",
            (),
            "no NetworkPolicy in the files given: every pod of the Kubernetes cluster reaches Ray's ports and the engine's",
            "add a NetworkPolicy that admits clients to port 8000 and the cluster's own pods to each other",
        )
    if "PodDisruptionBudget" not in around.kinds:
        _miss(
            cluster,
            "disruption_budget_missing",
            (),
            "no PodDisruptionBudget in the files given: draining one host for maintenance ends the whole model that spans it",
            "add one for the labels `ray.io/cluster` and `ray.io/node-type: worker` with `maxUnavailable: 0`",
        )


def _head_loss(cluster: Cluster) -> None:
    annotation = str(cluster.annotations.get("ray.io/ft-enabled") or "")
    if cluster.spec.get("gcsFaultToleranceOptions") is None and annotation.lower() != "true":
        _miss(
            cluster,
            "fault_tolerance_off",
            ("gcsFaultToleranceOptions",),
            "no fault tolerance for the head: its loss ends every replica, and all weights are loaded again",
            "add `gcsFaultToleranceOptions` with a `redisAddress` outside the cluster",
        )


def _root(cluster: Cluster) -> None:
    """Ray's images bring a user of their own; nothing holds a changed image to it."""
    groups = [
        (cluster.head, ("headGroupSpec",)),
        *((group, path[len(cluster.path) :]) for group, path in cluster.groups),
    ]
    for group, path in groups:
        pod = mapping(mapping(group.get("template")).get("spec"))
        containers = [mapping(container) for container in items(pod.get("containers"))]
        if containers and not all(_not_root(pod) or _not_root(container) for container in containers):
            _miss(
                cluster,
                "root_not_refused",
                (*path, "template", "spec"),
                "nothing keeps these containers from running as root",
                "add `securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 100}` to the pod's spec",
            )


def _not_root(node: dict[str, Any]) -> bool:
    context = mapping(node.get("securityContext"))
    return context.get("runAsNonRoot") is True or bool(whole(context.get("runAsUser")))


def _upgrade(cluster: Cluster, around: Surroundings) -> None:
    kind = around.upgrade.get("type", "NewCluster")
    gpus = sum(
        gpus_of(group) * (whole(group.get("numOfHosts")) or 1) * max(0, whole(group.get("replicas")) or 0)
        for group, _ in cluster.groups
    )
    if kind == "NewCluster" and gpus:
        cluster.report.add(
            "upgrade_doubles_gpus",
            "info",
            ("spec", "upgradeStrategy"),
            f"any change to rayClusterConfig starts a second cluster beside the first: {gpus} more GPUs must be free, "
            "or the change waits for ever",
            "keep as many spare, or set `upgradeStrategy: {type: None}` and accept that changes interrupt the service",
        )


def _gang(cluster: Cluster, around: Surroundings, group: dict[str, Any], path: Path) -> None:
    """A replica of several hosts is worth nothing until the last of them is there."""
    inner = path[len(cluster.path) :]
    template = mapping(group.get("template"))
    pod = mapping(template.get("spec"))
    labels = {**around.labels, **mapping(mapping(template.get("metadata")).get("labels"))}
    hosts = whole(group.get("numOfHosts"))
    if not any(label in labels for label in _GANG_LABELS) and not pod.get("schedulerName"):
        _miss(
            cluster,
            "gang_scheduling_missing",
            (*inner, "numOfHosts"),
            f"{hosts} hosts make one replica, and Kubernetes' scheduler places them one by one: two half placed replicas "
            "wait for each other, holding GPUs",
            "label the object for Kueue, Volcano or YuniKorn (`kueue.x-k8s.io/queue-name`)",
        )
    if not any(pod.get(key) for key in _TOPOLOGY):
        _miss(
            cluster,
            "topology_not_stated",
            (*inner, "template", "spec"),
            f"nothing keeps the {hosts} hosts of a replica in one rack or block of the network",
            "add podAffinity on the topology key of your fabric, or a nodeSelector for one pool",
        )
