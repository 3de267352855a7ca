"""Which transport carried which channel: read out of NCCL's own log (NCCL_DEBUG=INFO).

The lines that matter look alike from NCCL 2.5 to 2.28 (src/transport/net.cc, p2p.cc, shm.cc; examples in its public issues)::

    host:pid:tid [0] NCCL INFO Channel 01/0 : 3[3] -> 0[0] [receive] via NET/IB/2/GDRDMA
    host:pid:tid [0] NCCL INFO Channel 00 : 0[1b000] -> 1[1c000] via P2P/IPC
    host:pid:tid [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/RoCE [RO]; OOB eth0:10.0.0.1<0>
    host:pid:tid [0] NCCL INFO NET/Plugin: Loaded net plugin Libfabric (v9)
    host:pid:tid [0] NCCL INFO Using network AWS Libfabric

Names of plugins vary, so a network is known by what it is not: not Socket. An unknown word is kept as it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from spanwise.probe.finding import Finding

Kind = Literal["rdma", "socket", "p2p", "shm", "other"]

_CHANNEL = re.compile(
    r"NCCL INFO (?:Channel|Ring) (?P<channel>\d+)(?:/\d+)? : (?P<sender>\d+)\[[^\]]*\] -> (?P<receiver>\d+)\[[^\]]*\]"
    r"(?: \[(?P<end>send|receive)\])? via (?P<via>.+?)(?: comm 0x[0-9a-f]+.*)?$"
)
_USING = re.compile(r"NCCL INFO (?:\[\w+\] )?Using network (?P<name>.+?)\s*$")
_IB = re.compile(r"NCCL INFO NET/IB : Using (?P<devices>\[0\].*?)(?:;|$)")
_NO_IB = re.compile(r"NCCL INFO NET/IB : No device found")
_SOCKET = re.compile(r"NCCL INFO NET/Socket : Using (?P<devices>\[0\].*)$")
_PLUGIN = re.compile(
    r"NCCL INFO NET/Plugin ?: (?P<what>Loaded net plugin .+|No plugin found.*|Could not find: .+|Plugin load .+returned.*)$"
)
_SETTINGS = (
    "NCCL_IB_DISABLE|NCCL_P2P_DISABLE|NCCL_SHM_DISABLE|NCCL_NET|NCCL_NET_GDR_LEVEL|NCCL_IB_HCA|NCCL_SOCKET_IFNAME"
)
_DISABLED = re.compile(rf"NCCL INFO (?P<name>{_SETTINGS}) set by environment to (?P<value>.+?)\.?$")
_WARN = re.compile(r"NCCL WARN (?P<what>.+)$")
_VERSION = re.compile(r"NCCL version (?P<version>\d+\.\d+[.\d]*)")
_GDR_OFF = re.compile(r"NCCL INFO NET/\S+ : GPU Direct RDMA Disabled for HCA")
_MOST_LINES = 2_000_000
_MOST_WARNINGS = 20


@dataclass(slots=True, kw_only=True)
class Transports:
    """What a log says.

    Attributes:
        version: NCCL's.
        network: What it says it uses between hosts (``IB``, ``Socket``, ``AWS Libfabric``, ...).
        devices: Devices and interfaces as it lists them.
        plugin: What became of the network plugin.
        channels: How many channel ends went by each transport, as NCCL names it without device numbers.
        kinds: The same by kind.
        direct: Ends between hosts that wrote into GPU memory directly (GPUDirect RDMA).
        settings: Variables that it says it read.
        warnings: Its warnings.
        reasons: Why RDMA is not used, where it says so.
    """

    version: str | None = None
    network: str | None = None
    devices: list[str] = field(default_factory=list)
    plugin: str | None = None
    channels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    direct: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As one JSON object."""
        names = ("version", "network", "devices", "plugin", "direct", "settings", "warnings", "reasons")
        return {name: getattr(self, name) for name in names} | {
            "channels": dict(self.channels),
            "kinds": dict(self.kinds),
        }


def kind_of(via: str) -> Kind:
    """What kind a transport's name is; any network that is not Socket is taken for RDMA (IB, IBext, Libfabric, gIB, FasTrak)."""
    first = via.split("/", 1)[0].strip()
    if first == "NET":
        name = via.split("/")[1] if "/" in via else ""
        return "socket" if name.lower() == "socket" else "rdma"
    if first in ("P2P", "NVLS", "COLLNET", "CollNet"):
        return "p2p"
    if first == "SHM" or via.startswith("direct shared memory"):
        return "shm"
    return "other"


def read_log(text: str) -> Transports:
    """What NCCL's log says of its transports; an empty result where it is no such log."""
    found = Transports()
    for number, line in enumerate(text.splitlines()):
        if number > _MOST_LINES:
            break
        if "NCCL" in line:
            _read_line(line.rstrip(), found)
    return found


def _read_line(line: str, found: Transports) -> None:
    if match := _CHANNEL.search(line):
        via = match["via"].strip()
        # Device numbers differ from rank to rank and say nothing about the kind.
        found.channels[re.sub(r"/\d+(\(\d+\))?", "", via)] += 1
        found.kinds[kind_of(via)] += 1
        found.direct += "GDRDMA" in via
    elif match := _USING.search(line):
        found.network = match["name"]
    elif match := _IB.search(line) or _SOCKET.search(line):
        if match["devices"] not in found.devices:
            found.devices.append(match["devices"].strip())
    elif match := _PLUGIN.search(line):
        found.plugin = match["what"]
    elif match := _DISABLED.search(line):
        found.settings[match["name"]] = match["value"]
    elif match := _WARN.search(line):
        if len(found.warnings) < _MOST_WARNINGS and match["what"] not in found.warnings:
            found.warnings.append(match["what"])
    elif match := _VERSION.search(line):
        found.version = match["version"]
    for pattern, reason in (
        (_NO_IB, "NCCL found no InfiniBand or RoCE device"),
        (_GDR_OFF, "GPUDirect RDMA is off for a device"),
    ):
        if pattern.search(line) and reason not in found.reasons:
            found.reasons.append(reason)


def check_transport(found: Transports, *, rdma: bool, hosts: str = "the group") -> list[Finding]:
    """A plan that asked for RDMA and got sockets is a failure, with the reason as far as the log tells it."""
    if not rdma:
        return []
    if not found.channels and found.network is None:
        return [
            Finding(
                code="transport_other",
                severity="error",
                host=hosts,
                value="unknown",
                message="the log names no transport: nothing proves RDMA",
                remedy="run it with NCCL_DEBUG=INFO and give the whole log",
            )
        ]
    if not found.kinds["socket"] and (found.kinds["rdma"] or (found.network or "Socket") != "Socket"):
        return []
    reasons = list(found.reasons)
    if found.settings.get("NCCL_IB_DISABLE") == "1":
        reasons.append("NCCL_IB_DISABLE=1 is set")
    if (name := found.settings.get("NCCL_NET")) and name.lower() == "socket":
        reasons.append("NCCL_NET=Socket is set")
    if found.plugin and found.plugin.startswith(("No plugin found", "Could not find")):
        reasons.append("no network plugin was found (EFA, TCPXO and SHARP need one)")
    why = "; ".join(reasons) or "the log gives no reason"
    return [
        Finding(
            code="transport_other",
            severity="error",
            host=hosts,
            value=f"{found.kinds['socket']} of {sum(found.channels.values())} channel ends by sockets",
            message=f"the plan asks for RDMA and NCCL uses {found.network or 'sockets'}: {why}",
            remedy="mend that, then probe again; until then plan with the measured facts, not with the fabric's name",
        )
    ]
