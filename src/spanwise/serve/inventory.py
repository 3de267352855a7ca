"""What a Ray cluster has, against what plans ask of it. Takes Ray's node table as data; imports neither Ray nor the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spanwise.errors import StalePlanError

HOST_LABEL = "spanwise.io/host"


def hosts_by_node(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Host name by Ray node id: our label, else the hostname."""
    return {node["NodeID"]: (node.get("Labels") or {}).get(HOST_LABEL, node["NodeManagerHostname"]) for node in nodes}


def host_selectors(nodes: list[dict[str, Any]], hosts: set[str]) -> dict[str, dict[str, str]]:
    """How each host of the plans is found in this cluster: our label, else the node's hostname.

    Args:
        nodes: ``ray.nodes()``.
        hosts: Host names that the plans use.

    Raises:
        StalePlanError: A host is not there (the plan is stale).
    """
    known: dict[str, dict[str, str]] = {}
    for node in nodes:
        if not node["Alive"]:
            continue
        labels = node.get("Labels") or {}
        if HOST_LABEL in labels:
            known[labels[HOST_LABEL]] = {HOST_LABEL: labels[HOST_LABEL]}
        known.setdefault(node["NodeManagerHostname"], {"ray.io/node-id": node["NodeID"]})
    if missing := sorted(hosts - set(known)):
        raise StalePlanError(
            f"the plan places ranks on {', '.join(missing)}, and the cluster has {', '.join(sorted(known)) or 'no host'}",
            remedy="plan again for this cluster (hardware.hosts in the intent names its hosts)",
        )
    return {host: known[host] for host in hosts}


def check_gpus(nodes: list[dict[str, Any]], plans: Sequence[Any]) -> None:
    """Refuse plans that together ask a host for more GPUs than it has.

    Raises:
        StalePlanError: Names the host, what is asked, what is there, and by which models.
    """
    have: dict[str, int] = {}
    for node in nodes:
        if node["Alive"]:
            name = (node.get("Labels") or {}).get(HOST_LABEL, node["NodeManagerHostname"])
            have[name] = have.get(name, 0) + int(node["Resources"].get("GPU", 0))
    asked: dict[str, int] = {}
    by: dict[str, list[str]] = {}
    for plan in plans:
        for gang in plan.gangs:
            for rank in gang.ranks:
                asked[rank.host] = asked.get(rank.host, 0) + 1
                by.setdefault(rank.host, []).append(plan.model.served_name)
    for host, count in asked.items():
        if count > have.get(host, 0):
            raise StalePlanError(
                f"{host} has {have.get(host, 0)} GPUs and {count} ranks are planned there, by {', '.join(dict.fromkeys(by[host]))}",
                remedy="plan again for the GPUs that are there, or stop a model",
            )


def selectors_for(nodes: list[dict[str, Any]], plans: Sequence[Any]) -> list[dict[str, dict[str, str]]]:
    """How the hosts of each plan are found in this cluster.

    By the names in the plans. Where nobody gave the cluster's hosts names (Kubernetes names pods itself) and those of the plans are not
    there, they are found by room: each host of a plan becomes a node that has the GPUs for it.

    Args:
        nodes: ``ray.nodes()``.
        plans: Plans that are served together.

    Returns:
        Per plan: label selector by host name.

    Raises:
        StalePlanError: The cluster lacks a host or a GPU that a plan needs.
    """
    hosts = {rank.host for plan in plans for gang in plan.gangs for rank in gang.ranks}
    try:
        named = host_selectors(nodes, hosts)
        check_gpus(nodes, plans)
    except StalePlanError:
        if any(HOST_LABEL in (node.get("Labels") or {}) for node in nodes if node["Alive"]):
            raise
        return selectors_by_room(nodes, plans)
    return [named] * len(plans)


# How `render` calls the custom resource that only the worker groups of one plan have.
PIN_PREFIX = "spanwise-"


def selectors_by_room(nodes: list[dict[str, Any]], plans: Sequence[Any]) -> list[dict[str, dict[str, str]]]:
    """How the hosts of each plan are found in a cluster that does not know them by name: each becomes a node with room for it.

    A plan whose pin (the custom resource that `render` gives to its worker groups) exists takes only nodes that have it, another plan
    only nodes that have no pin. The smallest node that fits is taken, in the order of addresses, and no node twice by one plan.

    Args:
        nodes: ``ray.nodes()``.
        plans: Plans that are served together.

    Returns:
        Per plan: label selector by host name.

    Raises:
        StalePlanError: A host of a plan finds no node.
    """
    alive = sorted((node for node in nodes if node["Alive"]), key=lambda node: by_address(node["NodeManagerAddress"]))
    free = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in alive}
    pins = {node["NodeID"]: {name for name in node["Resources"] if name.startswith(PIN_PREFIX)} for node in alive}
    every_pin = set().union(*pins.values()) if pins else set()
    found = []
    for plan in plans:
        pin = f"{PIN_PREFIX}{plan.name}"
        mine = [node for node, own in pins.items() if (pin in own if pin in every_pin else not own)]
        needed: dict[str, int] = {}
        for gang in plan.gangs:
            for rank in gang.ranks:
                needed[rank.host] = needed.get(rank.host, 0) + 1
        taken: dict[str, dict[str, str]] = {}
        for host, count in needed.items():
            fitting = [node for node in mine if free[node] >= count]
            if not fitting:
                raise StalePlanError(
                    f"{plan.name} needs a host with {count} free GPUs for {host}, and the cluster has"
                    f" {', '.join(f'{free[node]}' for node in mine) or 'none'} on the hosts that are left for it",
                    remedy="plan again for this cluster, or give its worker group more hosts",
                )
            best = min(fitting, key=lambda node: free[node])
            free[best] -= count
            mine.remove(best)
            taken[host] = {"ray.io/node-id": best}
        found.append(taken)
    return found


def by_address(address: str) -> tuple[int, ...]:
    """10.0.0.9 before 10.0.0.10."""
    return tuple(int(part) if part.isdigit() else 0 for part in address.split("."))
