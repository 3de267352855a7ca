"""What stands beside a RayService: its account, who may reach its pods, and what a drained node may take away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.render.names import PLAN_LABEL, SERVICE_LABEL, owner
from spanwise.render.upstream import OPERATOR_LABELS, PORTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.render.hosts import HostGroup
    from spanwise.render.site import Site

MANAGED = {"app.kubernetes.io/managed-by": "spanwise"}


def service_account(service: str) -> dict[str, Any]:
    """An account without rights and without a mounted token: nothing in the pods asks Kubernetes for anything."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": service, "labels": dict(MANAGED)},
        "automountServiceAccountToken": False,
    }


def network_policy(place: Site, service: str) -> dict[str, Any]:
    """Who may open connections to the pods: they themselves, KubeRay's operator, and clients of the served models.

    Ray's ports take commands and vLLM's ranks trust what arrives on theirs, so inside the cluster too nobody else may speak
    to them. KubeRay's own `networkPolicy` field does the same, behind a feature gate that is off by default.
    """
    pods = {"matchLabels": {SERVICE_LABEL: service}}
    clients: dict[str, Any] = {"podSelector": {}}
    if place.serve_from is not None:
        key, value = place.serve_from
        clients = {"namespaceSelector": {"matchLabels": {key: value}}}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(OPERATOR_LABELS)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": service, "labels": dict(MANAGED)},
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": pods}]},
                # It submits the Serve config to the dashboard and asks Serve's proxy for its health.
                {"from": [operator], "ports": _tcp("dashboard", "serve")},
                {"from": [clients], "ports": _tcp("serve")},
            ],
        },
    }


def _tcp(*names: str) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": PORTS[name]} for name in names]


def disruption_budgets(groups: Sequence[HostGroup], place: Site, service: str) -> list[dict[str, Any]]:
    """What may be evicted for maintenance: a whole replica at most, and only where others go on serving.

    Guard: pods of a custom resource have no scale, so Kubernetes takes nothing but a whole ``minAvailable`` for them. And
    hosts with ranks but no replica are never Ready (KubeRay's probe asks for Serve's proxy), so ``unhealthyPodEvictionPolicy``
    must stay at its default: AlwaysAllow would let a drain take exactly those.
    """
    budgets = []
    if place.redis is None:  # with a control store that outlives it, the head may move
        head = {SERVICE_LABEL: service, "ray.io/node-type": "head"}
        budgets.append(_budget(f"{service}-head", 1, head))
    by_owner: dict[str, list[HostGroup]] = {}
    for group in groups:
        by_owner.setdefault(owner(group), []).append(group)
    for name, members in by_owner.items():
        pods = sum(group.replicas * group.hosts_per_replica for group in members)
        gangs = [gang for plan in members[0].plans for gang in plan.gangs]
        alone = len(members[0].plans) == 1 and all(len(gang.hosts) == 1 for gang in gangs)
        spare = 1 if alone and pods > 1 else 0
        ours = f"{service}-workers" if len(by_owner) == 1 else f"{service}-workers-{name}"
        budgets.append(_budget(ours, pods - spare, {SERVICE_LABEL: service, PLAN_LABEL: name}))
    return budgets


def _budget(name: str, least: int, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": dict(MANAGED)},
        "spec": {"minAvailable": least, "selector": {"matchLabels": labels}},
    }
