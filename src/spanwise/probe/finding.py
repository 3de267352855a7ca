"""One thing that keeps a gang from forming, or from running well: code, host, interface, value, remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]

# code -> what it means; every finding has one of these.
CODES: dict[str, str] = {
    "host_silent": "a host that was named does not answer",
    "host_not_in_cluster": "a host of the plan has not joined the cluster",
    "hostname_loopback": "the host's own name resolves to loopback: gloo announces it to the others and the gang never forms",
    "hostname_unresolved": "the host's own name does not resolve: gloo cannot find its address",
    "hostname_elsewhere": "the host's own name resolves to an address of another machine",
    "hostname_repeated": "two hosts have one name",
    "address_repeated": "two hosts have one address",
    "interface_missing": "the interface that joins the hosts is not there",
    "interface_down": "the interface that joins the hosts is down",
    "interface_without_address": "the interface that joins the hosts has no IPv4 address",
    "own_address_other": "the engine would announce an address of another interface",
    "mtu_differs": "the hosts' interfaces have different MTUs",
    "path_mtu": "full-size packets are lost on the way",
    "port_blocked": "ports that ranks use cannot be reached",
    "unreachable": "two hosts cannot reach each other",
    "one_way": "packets arrive in one direction only",
    "shm_small": "/dev/shm is too small for a gang's message queues",
    "disk_full": "no room where Ray and the engine write",
    "open_files_low": "too few files may be open",
    "locked_memory_limited": "RDMA needs locked memory, and it is limited",
    "clock_skewed": "the host's clock is off",
    "version_differs": "the hosts have different versions of what must agree",
    "version_missing": "a package that the engine needs is not installed",
    "environment_differs": "network variables differ between hosts",
    "proxy_set": "a proxy is set for everything, the cluster's own traffic too",
    "gpu_missing": "fewer GPUs than planned",
    "gpu_differs": "the hosts have different GPUs",
    "rdma_missing": "RDMA was asked for and there is no device",
    "rdma_port_down": "a port of an RDMA device is not active",
    "rdma_gid_missing": "a RoCE port has no RoCE v2 address",
    "link_slow": "a link is much slower than the others, or than its fabric",
    "link_asymmetric": "a link is much slower in one direction",
    "transport_other": "the collectives do not use the transport that was asked for",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, where, and what to do.

    Attributes:
        code: One of ``CODES``.
        severity: ``error``: a gang cannot form or dies; ``warning``: it runs worse than it could.
        host: Its name; two names with an arrow for a direction between hosts.
        interface: Network interface it concerns; empty where it concerns none.
        value: What was seen.
        message: One sentence.
        remedy: What to do.
    """

    code: str
    severity: Severity
    host: str
    value: str
    message: str
    remedy: str
    interface: str = ""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code

    def as_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return {
            name: getattr(self, name)
            for name in ("code", "severity", "host", "interface", "value", "message", "remedy")
        }
