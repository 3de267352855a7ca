"""`spanwise probe`: from the hosts of a lab, an ssh list or a Ray cluster to findings, curves and a facts file."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spanwise.errors import FactsError, InputError, ProbeError
from spanwise.facts.book import FactBook
from spanwise.journey.try_setting import try_setting
from spanwise.probe.checks_host import check_host
from spanwise.probe.checks_pairs import check_between, check_pairs
from spanwise.probe.document import facts_document
from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected, Probed
from spanwise.probe.run import Effort, Group, Say, located, measure_group, measure_links, preflight
from spanwise.probe.transport import check_transport, read_log

if TYPE_CHECKING:
    from spanwise.plan.types import Plan
    from spanwise.probe.reach import Host, Reach

_RDMA_PREFIXES = ("roce-", "ib-", "efa-", "tcpxo-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is probed, beside the hosts.

    Attributes:
        effort: How much is measured.
        plan: The plan whose groups are measured and whose needs are checked; None: one group of all hosts.
        interface: Name of the interface that joins the hosts; None: the plan's, or as the hosts say.
        fabric: Name that the facts get; None: the plan's fabric, or ``probed``.
        measure: False for the preflight alone.
        setting: A variable whose effect is measured on the groups; None: none.
    """

    effort: Effort
    plan: Plan | None = None
    interface: str | None = None
    fabric: str | None = None
    measure: bool = True
    setting: tuple[str, str] | None = None


def probe(reach: Reach, request: Request, say: Say) -> dict[str, Any]:
    """The facts document, findings included.

    Raises:
        ProbeError: No host answered at all.
    """
    started = time.monotonic()
    expected = expectations(reach, request)
    probed, wire = preflight(reach, expected, say)
    if all(report.facts is None for report in probed.hosts):
        raise ProbeError(
            f"none of {len(probed.hosts)} hosts answered: {probed.hosts[0].error}",
            where=probed.hosts[0].host.name,
            remedy="check that commands can be run there, and the Python (--python)",
        )
    preflight_s = time.monotonic() - started
    findings: list[Finding] = []
    try:
        if wire is not None and request.measure:
            measure_links(probed, wire, request.effort, say)
        if wire is not None:
            wire.close(probed)
    finally:
        if wire is not None:
            wire.abandon()
    hosts = located(probed.hosts, expected)
    before_groups = _judged(probed, expected)
    if request.measure and wire is not None:
        findings += _measure_groups(reach, hosts, request, expected, probed, before_groups, say)
    tried = []
    if request.setting is not None:
        tried = _try_all(reach, hosts, request, expected, probed, before_groups, say)
    findings = before_groups + [finding for finding in findings if finding not in before_groups]
    how = {
        "interface": expected.interface,
        "effort": request.effort.pairs,
        "preflight_s": round(preflight_s, 1),
        "seconds": round(time.monotonic() - started, 1),
        "plan": request.plan.hash if request.plan else None,
    }
    document = facts_document(probed, findings, expected, fabric=fabric_of(request), how=how)
    return document | {"tried": tried} if tried else document


def _try_all(
    reach: Reach,
    hosts: dict[str, Host],
    request: Request,
    expected: Expected,
    probed: Probed,
    known: list[Finding],
    say: Say,
) -> list[dict[str, Any]]:
    """The setting's effect on every operation of every group; nothing where hosts have errors of their own."""
    assert request.setting is not None
    if any(finding.severity == "error" for finding in known):
        say(f"{request.setting[0]} is not tried: mend the findings first")
        return []
    rows = []
    for group in groups_of(request.plan, list(hosts)):
        for operation in group.operations:
            rows.append(
                try_setting(
                    reach,
                    hosts,
                    replace(group, operations=(operation,)),
                    request.setting,
                    request.effort,
                    backend=backend_of(probed),
                    interface=expected.interface or _common_interface(probed, group),
                    say=say,
                )
            )
    return rows


def _judged(probed: Probed, expected: Expected) -> list[Finding]:
    found = [finding for report in probed.hosts if report.facts is not None for finding in check_host(report, expected)]
    found += check_between(probed.hosts, expected)
    found += check_pairs(probed, expected)
    return sorted(found, key=lambda finding: (finding.severity != "error", finding.host, finding.code))


def fabric_of(request: Request) -> str:
    """The name that the link's facts get."""
    if request.fabric:
        return request.fabric
    if request.plan and request.plan.expected.fabric != "none":
        named = request.plan.expected.fabric
        return "inline" if named.startswith("inline") else named
    return "probed"


def expectations(reach: Reach, request: Request) -> Expected:
    """What the plan and the fabric's name say of the hosts."""
    plan, fabric = request.plan, fabric_of(request)
    interface, gpus = request.interface, None
    missing: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()
    if plan is not None:
        named = {setting.name: setting.value for setting in plan.environment}
        interface = interface or named.get("GLOO_SOCKET_IFNAME")
        gpus = None if plan.expected.gpu.startswith("lab-") else plan.expected.gpus_per_node
        there = {host.name for host in reach.hosts}
        missing = tuple(sorted({rank.host for gang in plan.gangs for rank in gang.ranks} - there))
        engine = ("ray", "vllm", "torch")
    try:
        rate: float | None = FactBook().fabric(fabric).bandwidth.value
    except FactsError:
        rate = None
    return Expected(
        interface=interface,
        gpus_per_host=gpus,
        rdma=fabric.startswith(_RDMA_PREFIXES),
        fabric_bytes_per_s=rate,
        missing=missing,
        engine=engine,
    )


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


def backend_of(probed: Probed) -> str:
    """Nccl where every host shows GPUs, gloo elsewhere."""
    there = [report for report in probed.hosts if report.facts is not None]
    return "nccl" if there and all((report.part("gpus") or {}).get("cards") for report in there) else "gloo"


def _measure_groups(
    reach: Reach,
    hosts: dict[str, Host],
    request: Request,
    expected: Expected,
    probed: Probed,
    known: list[Finding],
    say: Say,
) -> list[Finding]:
    """Curves of all groups whose hosts can form one; a group that fails is a finding only where nothing else explains it."""
    blocking = {name for finding in known if finding.severity == "error" for name in hosts if name in finding.host}
    without_torch = {r.host.name for r in probed.hosts if not (r.part("versions") or {}).get("torch")}
    backend, findings = backend_of(probed), []
    for group in groups_of(request.plan, list(hosts)):
        if bad := sorted(set(group.hosts) & (blocking | without_torch)):
            say(
                f"group {group.name}: not measured, see the findings on {', '.join(bad)}"
                if set(bad) & blocking
                else f"group {group.name}: no torch on {', '.join(bad)}"
            )
            continue
        say(f"group {group.name}: {', '.join(group.operations)} over {len(group.hosts)} ranks, {backend}")
        environment = {"NCCL_DEBUG": "INFO"} if backend == "nccl" else None
        interface = expected.interface or _common_interface(probed, group)
        curves = measure_group(
            reach, hosts, group, request.effort, backend=backend, interface=interface, environment=environment
        )
        if backend == "nccl":
            transports = read_log("\n".join(curves[0]["logs"]))
            told = transports.as_json()
            findings += check_transport(
                transports, rdma=expected.rdma and len(set(group.hosts)) > 1, hosts=", ".join(group.hosts)
            )
        else:
            told = {"network": "TCP (gloo)", "connections": curves[0]["connections"]}
            findings += _other_way(curves[0], {host.address for host in hosts.values()})
        probed.groups += [measured | {"transport": told} for measured in curves]
    return findings


def _common_interface(probed: Probed, group: Group) -> str | None:
    """The name that the interface has on all hosts of the group; None where it has several (the address decides then)."""
    names = {(r.interface(None) or {}).get("name") for r in probed.hosts if r.host.name in group.hosts}
    return names.pop() if len(names) == 1 else None


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


def hosts_or_lab(hosts: list[str] | None, python: str) -> Reach:
    """The hosts named, by ssh; else the lab that is up.

    Raises:
        InputError: Neither.
    """
    from spanwise.journey.reach import LabReach
    from spanwise.lab import state as lab_state
    from spanwise.probe.reach import SshReach, ssh_hosts

    if hosts:
        return SshReach(ssh_hosts(hosts, python))
    lab = lab_state.read()
    if lab is None:
        raise InputError(
            "there is nothing to probe",
            where="probe",
            remedy="name a Ray cluster (--ray ADDRESS), hosts that ssh reaches (--hosts a,b), or bring up a lab: spanwise lab up",
        )
    return LabReach(lab)
