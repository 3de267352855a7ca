"""Run a command on an emulated host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from spanwise.errors import InputError, LabError
from spanwise.lab.isolation import confined_command
from spanwise.lab.processes import descendants, start_ticks
from spanwise.lab.ray_node import HOST_DIR, node_environment
from spanwise.lab.spec import HostState, LabState


def host_environment(state: LabState, host: HostState) -> dict[str, str]:
    """Environment of a command on ``host``: what Ray and the engine get there, plus Ray's address."""
    loopback = state.isolation == "loopback"
    directory = f"{HOST_DIR}-{host.name}" if loopback else HOST_DIR
    environment = node_environment(
        name=host.name,
        address=host.address,
        interface="lo" if loopback else "eth0",
        directory=directory,
        confined=state.spec.confined is not None,
    )
    return environment | {"RAY_ADDRESS": state.ray_address, "TERM": os.environ.get("TERM", "dumb")}


def host_command(state: LabState, host: HostState, command: list[str]) -> list[str]:
    """``command`` as it must be started from the machine to run on ``host``; without rights where foreign code may run there."""
    if state.spec.confined is not None:
        command = [*confined_command(state.isolation), *command]
    if state.isolation == "loopback":
        return command
    user = ["--user", "--preserve-credentials"] if state.isolation == "userns" else []
    return [
        "nsenter", f"--target={host.init_pid}", *user, "--net", "--mount", "--pid", "--uts", "--ipc", "--wd=/", "--", *command,
    ]  # fmt: skip


def check_command(state: LabState, host: HostState, name: str) -> None:
    """Refuse a command that does not exist on ``host``, before `nsenter` says so in its own words.

    Raises:
        InputError: There is none; exit 127, as shells say it.
    """
    root = Path("/") if state.isolation == "loopback" else Path(f"/proc/{host.init_pid}/root")
    try:
        if not host.alive or not (root / "proc").is_dir():
            return  # the start says it
    except OSError:  # nobody may look into the host from here
        return
    here = os.getcwd() if state.isolation == "loopback" and not name.startswith("/") else "/"  # noqa: PTH109
    folders = [here] if "/" in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    # An absolute link leads out of the host's root from here: what is there by name is left to the start.
    if name and any(os.path.lexists(f"{root}/{folder}/{name}") for folder in folders):
        return
    error = InputError(
        f"{host.name} has no command {name[:200]!r}",
        where="lab exec",
        remedy="check its name, and PATH; a command of a shell needs one: sh -c '...'",
    )
    error.exit_code = 127
    raise error


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
