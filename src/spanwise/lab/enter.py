"""Run a command on an emulated host, and read what its link carried."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import Any

from spanwise.errors import LabError
from spanwise.lab.processes import descendants, start_ticks
from spanwise.lab.ray_node import HOST_DIR, node_environment
from spanwise.lab.spec import HostState, LabState


def host_environment(state: LabState, host: HostState) -> dict[str, str]:
    """Environment of a command on ``host``: what Ray and the engine get there, plus Ray's address."""
    loopback = state.isolation == "loopback"
    directory = f"{HOST_DIR}-{host.name}" if loopback else HOST_DIR
    environment = node_environment(
        name=host.name, address=host.address, interface="lo" if loopback else "eth0", directory=directory
    )
    return environment | {"RAY_ADDRESS": state.ray_address, "TERM": os.environ.get("TERM", "dumb")}


def host_command(state: LabState, host: HostState, command: list[str]) -> list[str]:
    """``command`` as it must be started from the machine to run on ``host``."""
    if state.isolation == "loopback":
        return command
    user = ["--user", "--preserve-credentials"] if state.isolation == "userns" else []
    return [
        "nsenter", f"--target={host.init_pid}", *user, "--net", "--mount", "--pid", "--uts", "--ipc", "--wd=/", "--", *command,
    ]  # fmt: skip


def start(state: LabState, host: HostState, command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start ``command`` on ``host``; options are those of `subprocess.Popen`.

    Raises:
        LabError: The host is gone.
    """
    if not host.alive:
        raise LabError(
            f"{host.name} is gone: its first process ended",
            where="lab",
            remedy="take the lab down and up again: `spanwise lab down`",
        )
    extra = options.pop("env", {})
    return subprocess.Popen(host_command(state, host, command), env=host_environment(state, host) | extra, **options)


def end(process: subprocess.Popen[Any], patience_s: float = 2.0) -> None:
    """End what `start` started. `nsenter` forks to enter a PID namespace and passes no signal on: its children are told too."""
    family = [(pid, start_ticks(pid)) for pid in [*descendants(process.pid), process.pid]]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, started in family:
            if started is not None and start_ticks(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while any(start_ticks(pid) == started for pid, started in family if started is not None):
            process.poll()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def link_bytes(state: LabState) -> dict[str, dict[str, int]]:
    """Bytes that each host has sent and received over its link, read from the bridge's side.

    Returns:
        Host name to ``{"sent": bytes, "received": bytes}``; empty in the loopback fallback, which has no links.

    Raises:
        LabError: The lab's network could not be read.
    """
    if state.isolation == "loopback":
        return {}
    keeper = descendants(state.keeper_pid)[:1]
    user = ["--user", "--preserve-credentials"] if state.isolation == "userns" else []
    command = ["nsenter", f"--target={keeper[0] if keeper else 0}", *user, "--net", "--", "ip", "-s", "-j", "link"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            f"cannot read the links: {done.stderr.strip()}",
            where="lab",
            remedy="is the lab still up? `spanwise lab status`",
        )
    by_port = {entry["ifname"]: entry for entry in json.loads(done.stdout)}
    found = {}
    for host in state.hosts:
        entry = by_port.get(f"port-{host.name}"[:15])
        if entry is not None:
            # What the bridge receives on a host's port is what that host sent.
            statistics = entry["stats64"]
            found[host.name] = {"sent": statistics["rx"]["bytes"], "received": statistics["tx"]["bytes"]}
    return found
