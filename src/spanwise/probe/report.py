"""What a probe has learnt so far, host by host and pair by pair. Filled by `run`, judged by `checks`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spanwise.probe.reach import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the gang needs, as far as a plan or an option says so.

    Attributes:
        interface: Name of the interface that joins the hosts; None: the one that holds the host's address, or the default route's.
        gpus_per_host: GPUs that nvidia-smi must show; None where none are expected (CPU hosts).
        rdma: True where the fabric is an RDMA one.
        fabric_bytes_per_s: Line rate by the catalogue; None where it is unknown.
        missing: Hosts that the plan names and nobody can be asked about.
        engine: Packages that must be installed on every host.
    """

    interface: str | None = None
    gpus_per_host: int | None = None
    rdma: bool = False
    fabric_bytes_per_s: float | None = None
    missing: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """One host's own word.

    Attributes:
        host: Whom it is about.
        facts: What `on_host` wrote; None where it wrote nothing.
        error: Why, then.
        asked_at: Clock of this machine before it was asked, and after it answered (seconds since the epoch).
    """

    host: Host
    facts: dict[str, Any] | None
    error: str = ""
    asked_at: tuple[float, float] = (0.0, 0.0)

    def part(self, name: str) -> Any:
        """One part of its word; None where it could not be read."""
        value = None if self.facts is None else self.facts.get(name)
        return None if isinstance(value, dict) and set(value) == {"error"} else value

    def interface(self, wanted: str | None) -> dict[str, Any] | None:
        """The interface that joins it to the others: the one named, that of its address, or that of the default route."""
        listed = self.part("interfaces") or []
        if wanted:
            return next((entry for entry in listed if entry["name"] == wanted), None)
        if self.host.address:
            return next(
                (entry for entry in listed if self.host.address in (entry["address"], *entry["addresses_v6"])), None
            )
        default = next((route["interface"] for route in self.part("routes") or [] if route["prefix"] == 0), None)
        usable = [entry for entry in listed if not entry["loopback"] and entry["address"]]
        return next((entry for entry in usable if entry["name"] == default), usable[0] if usable else None)


@dataclass(slots=True, kw_only=True)
class Probed:
    """Everything that was seen.

    Attributes:
        hosts: In the order asked.
        reached: ``reached[a][b]``: what `on_wire reach` on a said of b.
        heard: ``heard[b][a]``: sizes of the datagrams from a that arrived at b, bytes.
        busy: ``busy[b]``: ports that b's listener could not take.
        pairs: Per measured pair: hosts, round trips, rates.
        groups: Curves of groups.
        full_datagram: ``full_datagram[a]``: payload of a datagram that fills a's MTU, bytes.
    """

    hosts: list[HostReport]
    reached: dict[str, dict[str, Any]] = field(default_factory=dict)
    heard: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    busy: dict[str, dict[str, str]] = field(default_factory=dict)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    full_datagram: dict[str, int] = field(default_factory=dict)
