"""The probe itself: ask every host, try every pair, measure links. Bounded in time and traffic; nothing stays on the hosts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

from spanwise.errors import ProbeError
from spanwise.probe.curve import summary
from spanwise.probe.effort import Effort
from spanwise.probe.reach import Host, Job, Reach, answer_of, last_json, script
from spanwise.probe.report import Expected, HostReport, Probed

Say = Callable[[str], None]

# Ports that ranks use: Ray's workers (ray start --min-worker-port, default 10002-19999), then the ephemeral range of gloo, NCCL and vLLM.
PORT_RANGES = ((10002, 19999), (32768, 60999))
# Of each range this many are tried, spread evenly: a firewall rule closes ranges, not single ports.
PORTS_PER_RANGE = 3
_HOST_S = 25.0
_REACH_S = 25.0
_SMALL_DATAGRAM = 64
# IPv4 and UDP headers of a datagram that fills the MTU.
_HEADERS = 28
_PYTHON_START_S = 20.0


def ask_hosts(reach: Reach, paths: tuple[str, ...] = ()) -> list[HostReport]:
    """Every host's own word, all at once."""
    started: list[tuple[Host, float, Job | ProbeError]] = []
    for host in reach.hosts:
        before = time.time()
        try:
            started.append((host, before, reach.start(host, script("on_host", {"paths": list(paths)}, host.python))))
        except ProbeError as error:
            started.append((host, before, error))
    reports = []
    until = time.monotonic() + _HOST_S
    for host, before, job in started:
        if isinstance(job, ProbeError):
            reports.append(HostReport(host=host, facts=None, error=job.what))
            continue
        answer = job.result(until - time.monotonic())
        try:
            facts = answer_of(host, answer, "asked for its facts")
        except ProbeError as error:
            reports.append(HostReport(host=host, facts=None, error=error.what))
            continue
        # Its own clock was read when it wrote: between the start of the question and the end of the answer.
        reports.append(HostReport(host=host, facts=facts, asked_at=(before, before + answer.seconds)))
    return reports


def located(reports: list[HostReport], expected: Expected) -> dict[str, Host]:
    """Hosts with the address at which the others reach them; those without one are left out."""
    found = {}
    for report in reports:
        address = report.host.address or (report.interface(expected.interface) or {}).get("address")
        if report.facts is not None and address:
            python = report.host.python or str(report.facts.get("python") or "")
            found[report.host.name] = replace(report.host, address=address, python=python)
    return found


def sample_ports(ranges: Iterable[tuple[int, int]] = PORT_RANGES, each: int = PORTS_PER_RANGE) -> list[int]:
    """Ports spread over the ranges; not the ends, which are taken more often."""
    return [first + (last - first) * (2 * index + 1) // (2 * each) for first, last in ranges for index in range(each)]


class Wire:
    """Listeners on all hosts, for the time of a probe."""

    def __init__(self, reach: Reach, hosts: dict[str, Host], life_s: float) -> None:
        self.reach = reach
        self.hosts = hosts
        self.token = secrets.token_hex(16)
        self.ports = sample_ports()
        self.udp_port = 40_000 + secrets.randbelow(5_000)
        self.jobs = {
            name: self._job(
                name, do="listen", address=host.address, ports=self.ports, udp_port=self.udp_port, life_s=life_s
            )
            for name, host in hosts.items()
        }

    def _job(self, name: str, **asked: Any) -> Job:
        host = self.hosts[name]
        return self.reach.start(host, script("on_wire", {"token": self.token, **asked}, host.python))

    def try_all(self, probed: Probed, mtus: dict[str, int]) -> None:
        """Every host tries every other, all at once."""
        jobs = {}
        for name, host in self.hosts.items():
            peers = [
                {"name": other.name, "address": other.address, "ports": self.ports, "udp_port": self.udp_port}
                for other in self.hosts.values()
                if other.name != name
            ]
            full = mtus.get(name, 1500) - _HEADERS
            probed.full_datagram[name] = full
            jobs[name] = self._job(
                name, do="reach", me=name, address=host.address, peers=peers, sizes=[_SMALL_DATAGRAM, full]
            )
        until = time.monotonic() + _REACH_S
        for name, job in jobs.items():
            answer = job.result(until - time.monotonic())
            probed.reached[name] = answer_of(self.hosts[name], answer, "tried the other hosts")

    def measure(self, one: str, other: str, effort: Effort) -> dict[str, Any]:
        """One pair: round trips, and both directions.

        Raises:
            ProbeError: The one could not measure.
        """
        peer = {"address": self.hosts[other].address, "port": self.ports[0]}
        job = self._job(
            one,
            do="measure",
            address=self.hosts[one].address,
            peer=peer,
            ping_s=effort.ping_s,
            most_pings=effort.most_pings,
            stream_s=effort.stream_s,
            most_bytes=effort.most_bytes,
        )
        answer = answer_of(
            self.hosts[one], job.result(_PYTHON_START_S + 20 * effort.stream_s), f"measured the link to {other}"
        )
        if "error" in answer:
            return {
                "from": one,
                "to": other,
                "error": answer["error"],
                "there_bytes_per_s": None,
                "back_bytes_per_s": None,
            }
        return {
            "from": one,
            "to": other,
            "round_trip": summary(answer["round_trips_s"]),
            "message_bytes": answer["message_bytes"],
            "there_bytes_per_s": _rate(answer["there"]),
            "back_bytes_per_s": _rate(answer["back"]),
            "bytes": answer["there"]["total_bytes"] + answer["back"]["total_bytes"],
        }

    def close(self, probed: Probed) -> None:
        """End every listener, and keep what they heard."""
        for name, host in self.hosts.items():
            # Each host ends its own: where nothing goes between hosts, their own address still answers.
            peers = [{"name": name, "address": host.address, "ports": self.ports}]
            self._job(name, do="end", address=host.address, peers=peers).result(_PYTHON_START_S)
        for name, job in self.jobs.items():
            answer = job.result(5.0)
            said = last_json(answer.text)
            if said is not None:
                probed.heard[name] = said["datagrams"]
                probed.busy[name] = said["busy"]
        self.jobs = {}

    def abandon(self) -> None:
        """End every listener without a word; harmless after `close`."""
        for job in self.jobs.values():
            job.end()


def _rate(window: dict[str, Any]) -> float | None:
    return window["bytes"] / window["seconds"] if window["seconds"] > 0 and window["bytes"] > 0 else None


def preflight(reach: Reach, expected: Expected, say: Say, paths: tuple[str, ...] = ()) -> tuple[Probed, Wire | None]:
    """Facts of all hosts and what passes between them. The listeners still run: measure with them, then `close` them.

    Raises:
        ProbeError: A host that answered at first no longer does.
    """
    say(f"asking {len(reach.hosts)} hosts")
    probed = Probed(hosts=ask_hosts(reach, paths))
    hosts = located(probed.hosts, expected)
    if len(hosts) < 2:
        return probed, None
    say(f"trying {len(hosts) * (len(hosts) - 1)} directions between hosts")
    mtus = {
        r.host.name: entry["mtu"] for r in probed.hosts if (entry := r.interface(expected.interface)) and entry["mtu"]
    }
    wire = Wire(reach, hosts, life_s=600.0)
    try:
        wire.try_all(probed, mtus)
    except BaseException:
        wire.abandon()
        raise
    return probed, wire


def pairs_of(names: list[str], effort: Effort) -> list[tuple[str, str]]:
    """The pairs that are measured."""
    if effort.pairs == "ring" and len(names) > 2:
        return [(names[index], names[(index + 1) % len(names)]) for index in range(len(names))]
    return list(combinations(names, 2))


def measure_links(probed: Probed, wire: Wire, effort: Effort, say: Say) -> None:
    """Every pair that can be reached, one after the other: links may share a switch."""
    open_pairs = [
        (a, b)
        for a, b in pairs_of(list(wire.hosts), effort)
        if "error" not in probed.reached[a].get(b, {}).get("ports", {}).get(str(wire.ports[0]), {"error": "untried"})
    ]
    for index, (one, other) in enumerate(open_pairs):
        say(f"link {one} - {other} ({index + 1} of {len(open_pairs)})")
        probed.pairs.append(wire.measure(one, other, effort))
