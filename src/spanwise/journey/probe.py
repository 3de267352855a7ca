"""`spanwise probe`: from the hosts of a lab, an ssh list or a Ray cluster to findings, curves and a facts file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.errors import FactsError, InputError, ProbeError
from spanwise.facts.book import FactBook
from spanwise.journey.ground import Ground
from spanwise.journey.probe_groups import groups_of, measure_groups
from spanwise.probe.checks_host import check_host
from spanwise.probe.checks_pairs import check_between, check_pairs
from spanwise.probe.document import facts_document
from spanwise.probe.effort import Effort
from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected, Probed
from spanwise.probe.run import Say, located, measure_links, preflight

if TYPE_CHECKING:
    from spanwise.plan.types import Plan
    from spanwise.probe.reach import Reach

_RDMA_PREFIXES = ("roce-", "ib-", "efa-", "tcpxo-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is probed, beside the hosts.

    Attributes:
        effort: How much is measured.
        plan: The plan whose groups are measured and whose needs are checked; None: one group of all hosts.
        interface: Name of the interface that joins the hosts; None: the plan's, or as the hosts say.
        fabric: Name that the facts get; None: the plan's fabric, or ``probed``.
        measure: False for the preflight alone; no setting is tried then.
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
    ground = Ground(
        reach=reach,
        hosts=hosts,
        effort=request.effort,
        groups=tuple(groups_of(request.plan, list(hosts))),
        expected=expected,
        probed=probed,
        findings=tuple(before_groups),
        say=say,
    )
    tried: list[dict[str, Any]] = []
    if request.measure and wire is not None:
        findings, tried = measure_groups(ground, request.setting)
    findings = before_groups + [finding for finding in findings if finding not in before_groups]
    how = {
        "interface": expected.interface,
        "effort": request.effort.pairs,
        "preflight_s": round(preflight_s, 1),
        "seconds": round(time.monotonic() - started, 1),
        "plan": request.plan.hash if request.plan else None,
    }
    document = facts_document(probed, findings, expected, fabric=fabric_of(request), how=how)
    return document if request.setting is None else document | {"tried": tried}


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


def hosts_or_lab(hosts: list[str] | None, python: str) -> Reach:
    """The hosts named, by ssh; else the lab that is up.

    Raises:
        InputError: Neither.
    """
    from spanwise.journey.reach import LabReach
    from spanwise.lab import state as lab_state
    from spanwise.probe.ssh_reach import ssh_reach

    if hosts:
        return ssh_reach(hosts, python)
    lab = lab_state.read()
    if lab is None:
        raise InputError(
            "there is nothing to probe",
            where="probe",
            remedy="name a Ray cluster (--ray ADDRESS), hosts that ssh reaches (--hosts a,b), or bring up a lab: spanwise lab up",
        )
    return LabReach(lab)
