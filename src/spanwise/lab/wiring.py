"""Names, addresses and ports of a lab. Standard library only: the keeper and the hosts import it and stay small."""

from __future__ import annotations

from typing import Literal

Isolation = Literal["userns", "root", "loopback"]

# The lab's own addresses live in its own network namespace: they cannot collide with the machine's.
SUBNET = "10.77.0"
BRIDGE_ADDRESS = f"{SUBNET}.254"
MAX_HOSTS = 16
MAX_GPUS = 64
# Logical: placement follows GPUs, labels and custom resources, never a core count that the hosts share.
LOGICAL_CPUS = 8.0
# More than the largest receive window of a Linux socket (net.ipv4.tcp_rmem: 6 MiB).
QUEUE_BYTES = 16 << 20
# An Ethernet frame of 1500 bytes, with what tc counts on top.
PACKET_BYTES = 1_600
RAY_PORT = 6379
SERVE_PORT = 8000
HOST_LABEL = "spanwise.io/host"
DOMAIN_LABEL = "spanwise.io/domain"
# The lab's own name of a host, also where a manifest decides what the host is called.
LAB_LABEL = "spanwise.io/lab-host"


def host_name(index: int) -> str:
    """Name of the host number ``index`` (from 0)."""
    return f"host-{index + 1}"


def host_address(index: int, isolation: Isolation) -> str:
    """Address of the host number ``index`` (from 0); in the loopback fallback one of 127.0.0.0/8."""
    return f"127.0.0.{index + 2}" if isolation == "loopback" else f"{SUBNET}.{index + 1}"


def domain_of(index: int, hosts: int, domains: int) -> str:
    """Failure domain of a host: hosts are dealt to the domains in order, evenly."""
    return f"domain-{index * domains // hosts + 1}"


def port_of(host: str) -> str:
    """Name of the bridge's end of a host's link (an interface's name has at most 15 characters)."""
    return f"port-{host}"[:15]


def shaping(rate_bit_per_s: float | None) -> list[str]:
    """Arguments of `tc … tbf` for one end of a link; empty when the rate is not limited.

    What fits the bucket passes at once, as if the link were infinitely fast. So the bucket is small, 100 us of the rate, and at least one
    packet, or two where a packet takes less than 400 us (the kernel's timers are late by some 10 us, and what a bucket of one cannot save
    is lost): with a bucket of 10 ms all small messages of a tensor-parallel step at 100 Mbit/s passed unshaped. The kernel splits larger
    offloaded segments to fit (tc-tbf(8)). The queue holds what a socket may have under way, so that nothing is dropped: a burst of
    losses costs TCP 200 ms and says nothing about the link.
    """
    if rate_bit_per_s is None:
        return []
    packets = 2 if rate_bit_per_s > PACKET_BYTES * 8 / 400e-6 else 1
    burst = max(int(rate_bit_per_s / 8 * 100e-6), packets * PACKET_BYTES)
    return ["rate", f"{int(rate_bit_per_s)}bit", "burst", f"{burst}b", "limit", f"{QUEUE_BYTES + burst}b"]
