"""The links of a lab while it runs: what they carried, and another rate for all of them."""

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
    done = subprocess.run(
        ["nsenter", f"--target={target}", *user, "--net", "--", *command], capture_output=True, text=True, check=False
    )
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


def set_rate(state: LabState, rate_bit_per_s: float | None) -> LabState:
    """Give every link of a running lab another rate, in both directions; None takes the limit away.

    Returns:
        The state as it is now; writing it is the caller's.

    Raises:
        LabError: The loopback fallback, which has no links; or the lab's network could not be reached.
    """
    if state.isolation == "loopback":
        raise LabError(
            "this lab has no links: its hosts are addresses of one machine (isolation loopback)",
            where="lab rate",
            remedy="a lab in namespaces has links: spanwise lab up --isolation userns",
        )
    bridge = _bridge_process(state)
    words = shaping(rate_bit_per_s)
    ends = [(bridge, port_of(host.name)) for host in state.hosts] + [(host.init_pid, "eth0") for host in state.hosts]
    for target, device in ends:
        if words:
            _network(state, target, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *words)
        else:
            # "noqueue" is what a virtual link starts with; deleting a root that is not there would fail.
            _network(state, target, "tc", "qdisc", "replace", "dev", device, "root", "noqueue")
    spec = state.spec.model_copy(
        update={
            "rate_bit_per_s": rate_bit_per_s,
            "link": "unlimited" if rate_bit_per_s is None else f"rate {rate_bit_per_s / 1e6:g}mbit",
            "scale": 1.0,
        }
    )
    return state.model_copy(update={"spec": spec})
