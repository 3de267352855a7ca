"""Hosts of plans as worker groups: how many pods, how large, and which of them come and go together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.errors import PlanError
from spanwise.render.names import slug
from spanwise.render.upstream import OBJECT_STORE_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan
    from spanwise.render.site import Site

# Assumptions, not measurements; `--cpu-per-host` and `--memory-gib-per-host` replace them, and an annotation names them.
CPU_PER_GPU = 4
HOST_MEMORY_PER_RANK_GIB = 8  # one worker process with its CUDA context and libraries, plus the server beside rank 0
_SHM_FOR_ENGINE_GIB = 4  # NCCL's and vLLM's own segments, beside Ray's object store


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """Equal hosts of one domain, as a worker group sees them.

    Attributes:
        plans: Whose ranks they run: one plan, or with runtime spanwise all that share the host.
        host: The one host that this group is; None where hosts of the domain are alike.
    """

    plans: tuple[Plan, ...]
    domain: str
    host: str | None
    name: str
    replicas: int
    hosts_per_replica: int
    gpus: int
    cpus: int
    memory_gib: int
    shm_gib: int

    @property
    def gpu(self) -> str:
        """The kind of GPU, as plans name it."""
        return self.plans[0].expected.gpu


def host_groups(plans: Sequence[Plan], place: Site) -> list[HostGroup]:
    """The worker groups of all plans.

    Stock Ray Serve spreads the ranks itself: a group per plan and domain. With runtime spanwise each rank is pinned to its
    host by name, and a group gives all its pods the same labels: a group per host.

    Raises:
        PlanError: Plans that contradict each other about a host.
    """
    if place.runtime == "spanwise":
        return _distinct(_per_host(plans, place))
    return _distinct([group for plan in plans for group in _per_domain(plan, place, several=len(plans) > 1)])


def _distinct(groups: list[HostGroup]) -> list[HostGroup]:
    """No two groups of one name: `gpu.a` and `gpu-a` are two hosts and one slug."""
    found: list[HostGroup] = []
    for group in groups:
        name = group.name
        if any(name == other.name for other in found):
            whose = " ".join(plan.name for plan in group.plans)
            name = slug(f"{name} {whose} {group.domain} {group.host} {len(found)}", limit=len(name) + 7)
        found.append(replace(group, name=name))
    return found


def _per_domain(plan: Plan, place: Site, *, several: bool) -> list[HostGroup]:
    """The worker groups of one plan, one per domain.

    A replica that has several hosts to itself becomes ``numOfHosts``: KubeRay then makes and removes them together.
    """
    result = []
    for domain in dict.fromkeys(rank.domain for gang in plan.gangs for rank in gang.ranks):
        gpus: dict[str, int] = {}
        weights: dict[str, int] = {}
        gangs_on: dict[str, set[str]] = {}
        for gang in plan.gangs:
            for rank in (rank for rank in gang.ranks if rank.domain == domain):
                gpus[rank.host] = gpus.get(rank.host, 0) + 1
                weights[rank.host] = weights.get(rank.host, 0) + plan.stages[rank.stage].weights_bytes_per_rank
                gangs_on.setdefault(rank.host, set()).add(gang.id)
        spans = {
            sum(gang.id in gangs for gangs in gangs_on.values())
            for gang in plan.gangs
            if any(rank.domain == domain for rank in gang.ranks)
        }
        alone = all(len(gangs) == 1 for gangs in gangs_on.values()) and len(spans) == 1
        hosts_per_replica = spans.pop() if alone else 1
        result.append(
            _sized(
                place,
                plans=(plan,),
                domain=domain,
                host=None,
                name=slug(f"{plan.name}-{domain}" if several else domain),
                replicas=len(gpus) // hosts_per_replica,
                hosts_per_replica=hosts_per_replica,
                gpus=max(gpus.values()),
                weights_bytes=max(weights.values()),
            )
        )
    return result


def _per_host(plans: Sequence[Plan], place: Site) -> list[HostGroup]:
    """One worker group per host, for all plans that use it."""
    on: dict[str, list[tuple[Plan, str, int]]] = {}
    for plan in plans:
        for gang in plan.gangs:
            for rank in gang.ranks:
                weights = plan.stages[rank.stage].weights_bytes_per_rank
                on.setdefault(rank.host, []).append((plan, rank.domain, weights))
    result = []
    for host, ranks in on.items():
        users = tuple(plan for plan in plans if any(plan is other for other, _, _ in ranks))
        _agree(host, users, len(ranks))
        result.append(
            _sized(
                place,
                plans=users,
                domain=ranks[0][1],
                host=host,
                name=slug(host),
                replicas=1,
                hosts_per_replica=1,
                gpus=len(ranks),
                weights_bytes=sum(weights for _, _, weights in ranks),
            )
        )
    return result


def _agree(host: str, plans: tuple[Plan, ...], ranks: int) -> None:
    names = ", ".join(plan.name for plan in plans)
    if len({plan.expected.gpu for plan in plans}) > 1:
        kinds = ", ".join(dict.fromkeys(plan.expected.gpu for plan in plans))
        raise PlanError(
            f"{host} is said to have {kinds[:200]}, by {names[:200]}", remedy="plan again for the same hosts"
        )
    has = min(plan.expected.gpus_per_node for plan in plans)
    if ranks > has:
        raise PlanError(
            f"{host} has {has} GPUs and {ranks} are asked for, by {names[:200]}",
            remedy="plan with other hosts (`hardware.hosts` in the intent), or render the plans apart",
        )


def _sized(
    place: Site,
    *,
    plans: tuple[Plan, ...],
    domain: str,
    host: str | None,
    name: str,
    replicas: int,
    hosts_per_replica: int,
    gpus: int,
    weights_bytes: int,
) -> HostGroup:
    memory = place.memory_gib_per_host or max(32, math.ceil(weights_bytes / 2**30) + HOST_MEMORY_PER_RANK_GIB * gpus)
    return HostGroup(
        plans=plans,
        domain=domain,
        host=host,
        name=name,
        replicas=replicas,
        hosts_per_replica=hosts_per_replica,
        gpus=gpus,
        cpus=place.cpu_per_host or max(8, CPU_PER_GPU * gpus),
        memory_gib=memory,
        shm_gib=math.ceil(memory * OBJECT_STORE_SHARE) + _SHM_FOR_ENGINE_GIB,
    )
