"""The groups of a probe: which collectives a plan's gangs run, and their curves where the hosts can form them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.journey.try_setting import try_setting
from spanwise.probe.finding import Finding
from spanwise.probe.groups import Group, Manner, measure_group
from spanwise.probe.transport import check_transport, read_log

if TYPE_CHECKING:
    from spanwise.journey.ground import Ground
    from spanwise.plan.types import Plan


def groups_of(plan: Plan | None, hosts: list[str]) -> list[Group]:
    """The groups whose collectives the plan's gangs run, each kind of placement once; without a plan all hosts."""
    if plan is None:
        if len(hosts) < 2:
            return []
        return [Group(name="all hosts", operations=("all_reduce", "send_recv"), hosts=tuple(hosts))]
    found: dict[tuple[str, tuple[str, ...]], Group] = {}
    for gang in plan.gangs:
        by_stage: dict[int, list[str]] = {}
        for rank in gang.ranks:
            by_stage.setdefault(rank.stage, []).append(rank.host)
        for stage, places in by_stage.items():
            if len(places) > 1:
                found.setdefault(
                    ("all_reduce", tuple(places)),
                    Group(
                        name=f"{gang.id} stage {stage}: tensor parallel",
                        operations=("all_reduce",),
                        hosts=tuple(places),
                    ),
                )
            if stage + 1 in by_stage:
                pair = (places[0], by_stage[stage + 1][0])
                found.setdefault(
                    ("send_recv", pair),
                    Group(
                        name=f"{gang.id} stages {stage} to {stage + 1}: pipeline", operations=("send_recv",), hosts=pair
                    ),
                )
    return [group for group in found.values() if set(group.hosts) <= set(hosts)]


def measure_groups(ground: Ground, setting: tuple[str, str] | None) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Curves of all groups whose hosts can form one, into ``ground.probed``; with ``setting`` what that variable does to each.

    Returns:
        What is wrong with the ways that the groups took, and a document per group and operation that the variable was tried on.

    Raises:
        ProbeError: A group failed that nothing found before explains.
    """
    backend = ground.backend
    findings: list[Finding] = []
    tried: list[dict[str, Any]] = []
    for group in ground.groups:
        if why := ground.obstacle(group):
            ground.say(f"group {group.name}: {why}")
            continue
        ground.say(f"group {group.name}: {', '.join(group.operations)} over {len(group.hosts)} ranks, {backend}")
        environment = {"NCCL_DEBUG": "INFO"} if backend == "nccl" else {}
        manner = Manner(backend=backend, interface=ground.interface(group), environment=environment)
        curves: list[dict[str, Any]] = []
        if setting is not None:
            curves, rows = try_setting(ground, group, manner, setting)
            tried += rows
        # Where the group fails with the setting, what the hosts are without it is still asked for.
        curves = curves or measure_group(ground.reach, ground.hosts, group, ground.effort, manner)
        told: dict[str, Any]
        if backend == "nccl":
            transports = read_log("\n".join(curves[0]["logs"]))
            told = transports.as_json()
            findings += check_transport(
                transports, rdma=ground.expected.rdma and len(set(group.hosts)) > 1, hosts=", ".join(group.hosts)
            )
        else:
            told = {"network": "TCP (gloo)", "connections": curves[0]["connections"]}
            findings += _other_way(curves[0], {host.address for host in ground.hosts.values()})
        ground.probed.groups += [measured | {"transport": told} for measured in curves]
    return findings, tried


def _other_way(measured: dict[str, Any], addresses: set[str]) -> list[Finding]:
    """Connections of a gloo group that left the interface that joins the hosts."""
    found = []
    for host, pairs in measured["connections"].items():
        odd = sorted({remote for _, remote in pairs if remote not in addresses})
        if odd:
            found.append(
                Finding(
                    code="transport_other",
                    severity="warning",
                    host=host,
                    value=", ".join(odd),
                    message=f"gloo connected to {', '.join(odd)}, not to the addresses of the hosts' common interface",
                    remedy="set GLOO_SOCKET_IFNAME (`spanwise plan --interface NAME`) on all hosts",
                )
            )
    return found
