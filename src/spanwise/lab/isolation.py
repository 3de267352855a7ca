"""Which kind of emulated hosts this machine allows, tried in order: user namespace, root, loopback addresses.

Everything a namespace lab starts lives below one `unshare` process: a PID namespace whose first process dies takes every
process of the lab with it, and with the last process go the network and mount namespaces. Removing a lab is killing one process.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from spanwise.errors import InputError, LabError, UnsupportedPlatformError
from spanwise.lab import confine
from spanwise.lab.wiring import Isolation

TOOLS = ("unshare", "nsenter", "ip", "tc", "mount")
CANNOT_SHOW: dict[Isolation, tuple[str, ...]] = {
    "userns": (),
    "root": (),
    "loopback": (
        "link rates: all traffic stays on the loopback interface",
        "a host's own /dev/shm, hostname and process table: they are the machine's",
        "a link or a host going down",
    ),
}
_NAMESPACES = (
    "--net",
    "--mount",
    "--pid",
    "--uts",
    "--ipc",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "private",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one kind of isolation is not to be had here."""

    isolation: Isolation
    reason: str


def require_linux() -> None:
    """Refuse on other systems.

    Raises:
        UnsupportedPlatformError: Not Linux.
    """
    if platform.system() != "Linux":
        raise UnsupportedPlatformError(
            f"the lab emulates hosts with Linux namespaces; this is {platform.system()}",
            where="lab",
            remedy="use a Linux machine or a Linux VM (WSL 2, Lima, Multipass); decide, plan, render and lint work here",
        )


def outer_command(isolation: Isolation) -> list[str]:
    """Prefix that runs a command as the first process of the lab's own namespaces."""
    if isolation == "loopback":
        return []
    user = ["--user", "--map-root-user"] if isolation == "userns" else []
    return ["unshare", *user, *_NAMESPACES, "--"]


def host_command() -> list[str]:
    """Prefix that runs a command as the first process of one emulated host (inside the lab's namespaces)."""
    return ["unshare", *_NAMESPACES, "--"]


def confined_command(isolation: Isolation) -> list[str]:
    """Prefix that gives up every right before it runs a command (on a host, in its namespaces)."""
    return [sys.executable, "-I", confine.__file__, isolation]


# What a lab must be able to do, tried for real in a throw-away namespace: a bridge, a shaped link, a private /dev/shm, and a
# host's namespaces nested inside.
_REHEARSAL = (
    "ip link add br0 type bridge && ip link add a0 type veth peer name b0"
    " && tc qdisc add dev a0 root tbf rate 1gbit burst 256kb latency 50ms"
    " && mount -t tmpfs -o size=1m tmpfs /dev/shm && unshare --net --mount --pid --uts --ipc --fork --mount-proc true"
)


def _rehearse(isolation: Isolation) -> str | None:
    try:
        done = subprocess.run(
            [*outer_command(isolation), "sh", "-c", _REHEARSAL], capture_output=True, text=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return "the rehearsal did not end within 20 s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]


def refusal(isolation: Isolation) -> Refusal | None:
    """Why ``isolation`` cannot be had on this machine; None when it can."""
    if isolation == "loopback":
        return None
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        return Refusal(
            isolation=isolation, reason=f"missing commands: {', '.join(missing)} (packages util-linux, iproute2)"
        )
    if isolation == "root" and os.geteuid() != 0:
        return Refusal(isolation=isolation, reason="not root")
    reason = _rehearse(isolation)
    return Refusal(isolation=isolation, reason=reason) if reason else None


_NO_CONFINEMENT: dict[Isolation, str] = {
    "userns": "root in a user namespace is still root to the machine's files; as root the lab takes the kind root, as a user userns",
    "loopback": "its hosts share the machine's processes, network and files",
}


def choose(wanted: Isolation | None, *, confined: bool = False) -> tuple[Isolation, list[Refusal]]:
    """The best isolation this machine allows, with the refusals met on the way.

    Args:
        wanted: Only this kind, or None for the best.
        confined: Only a kind in which foreign code can be kept without rights.

    Raises:
        InputError: The wanted kind is not to be had here.
        LabError: None is; without ``confined`` only on a machine without /proc.
    """
    if wanted is not None:
        if no := _refusal(wanted, confined=confined):
            raise InputError(
                f"isolation {wanted!r} is not possible here{' for foreign code' if confined else ''}: {no.reason}",
                where="--isolation",
                remedy="leave the option away to get the best kind that this machine allows",
            )
        return wanted, []
    refused: list[Refusal] = []
    for isolation in ("userns", "root", "loopback"):
        no = _refusal(isolation, confined=confined)
        if no is None:
            return isolation, refused
        refused.append(no)
    reasons = "; ".join(f"{no.isolation}: {no.reason}" for no in refused)
    raise LabError(
        f"no kind of isolation {'that keeps foreign code without rights ' if confined else ''}is possible here",
        where="lab",
        remedy=reasons,
    )


def _refusal(isolation: Isolation, *, confined: bool) -> Refusal | None:
    if confined and (isolation == "loopback" or (isolation == "userns" and os.geteuid() == 0)):
        return Refusal(isolation=isolation, reason=_NO_CONFINEMENT[isolation])
    return refusal(isolation)
