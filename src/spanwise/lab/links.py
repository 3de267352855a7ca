"""The links of a lab while it runs: what they carried, and another rate for one end."""

from __future__ import annotations

import json
import subprocess

from spanwise.errors import LabError
from spanwise.lab.processes import descendants
from spanwise.lab.spec import LabState
from spanwise.lab.wiring import port_of, shaping


def _network(state: LabState, target: int, *command: str) -> str:
    """Run a command in the network of one process of the lab.

    Raises:
        LabError: It failed.
    """
    user = ["--user", "--preserve-credentials"] if state.isolation == "userns" else []
    entered = ["nsenter", f"--target={target}", *user, "--net", "--", *command]
    done = subprocess.run(entered, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            f"cannot reach the lab's links: {done.stderr.strip()[:300]}",
            where="lab",
            remedy="is the lab still up? `spanwise lab status`",
        )
    return done.stdout


def _bridge_process(state: LabState) -> int:
    """The process whose network namespace holds the bridge."""
    return next(iter(descendants(state.keeper_pid)), 0)


def link_bytes(state: LabState) -> dict[str, dict[str, int]]:
    """Bytes that each host has sent and received over its link, read from the bridge's side.

    Returns:
        Host name to ``{"sent": bytes, "received": bytes}``; empty in the loopback fallback, which has no links.

    Raises:
        LabError: The lab's network could not be read.
    """
    if state.isolation == "loopback":
        return {}
    listed = json.loads(_network(state, _bridge_process(state), "ip", "-s", "-j", "link"))
    by_port = {entry["ifname"]: entry for entry in listed}
    found = {}
    for host in state.hosts:
        entry = by_port.get(port_of(host.name))
        if entry is not None:
            # What the bridge receives on a host's port is what that host sent.
            statistics = entry["stats64"]
            found[host.name] = {"sent": statistics["rx"]["bytes"], "received": statistics["tx"]["bytes"]}
    return found


def shape(state: LabState, target: int, device: str, rate_bit_per_s: float | None) -> None:
    """Give one end of a link, ``device`` in the network of process ``target``, another rate; None takes the limit away.

    Raises:
        LabError: It failed.
    """
    # "noqueue" is what a virtual link starts with; deleting a root that is not there would fail.
    words = ["tbf", *shaping(rate_bit_per_s)] if rate_bit_per_s is not None else ["noqueue"]
    _network(state, target, "tc", "qdisc", "replace", "dev", device, "root", *words)


def ends(state: LabState) -> list[tuple[str, int, str]]:
    """Both ends of every link: the host's name, a process whose network holds that end, and the end's device."""
    bridge = _bridge_process(state)
    near = [(host.name, bridge, port_of(host.name)) for host in state.hosts]
    return near + [(host.name, host.init_pid, "eth0") for host in state.hosts]
