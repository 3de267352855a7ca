"""Why an engine died: the error lines of its processes, read on the hosts before the lab goes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

from spanwise.lab import enter
from spanwise.lab.spec import LabState

READ_TIMEOUT_S = 20
_LOGS = "ray/session_latest/logs"
# vLLM and Ray prefix their lines: "(EngineCore pid=1) ERROR 11-24 … [core.py:1] ValueError: …".
_PREFIX = re.compile(r"^(?:\([^)]*\)\s*)*(?:(?:ERROR|WARNING|INFO)\s+\S+\s+\S+\s+(?:\[[^\]]*\]\s*)?)?")
_EXCEPTION = re.compile(r"^[A-Za-z_.]*(?:Error|Exception|Exit|Killed)\b.*: .+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Lines that only pass on what another process said.
_ECHOES = (
    "Engine core initialization failed",
    "RayTaskError",
    "ActorDiedError",
    "WorkerCrashedError",
    "Worker proc failed",
)


def raw(state: LabState, host_name: str, last_lines: int = 400) -> str:
    """The last lines of every engine and Serve log of one host, each under a line ``==> file <==``."""
    host = state.host(host_name)
    directory = enter.host_environment(state, host)["TMPDIR"]
    files = "worker-*.out worker-*.err serve/*.log"
    script = (
        f"cd {directory}/{_LOGS} 2>/dev/null && for f in {files}; do [ -s $f ] && tail -vn {last_lines} $f; done; true"
    )
    process = enter.start(
        state,
        host,
        ["sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    try:
        text: str = process.communicate(timeout=READ_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        enter.end(process)
        return ""
    # A log may hold anything; what reaches a terminal are characters and line ends.
    return "".join(c for c in _COLOUR.sub("", text) if c.isprintable() or c in "\n\t")


def exceptions(lines: Iterable[str]) -> list[str]:
    """Distinct exception lines, first come first, without those that only pass on another's."""
    found: dict[str, None] = {}
    for line in lines:
        bare = _PREFIX.sub("", line.strip())
        if _EXCEPTION.match(bare) and not any(echo in bare for echo in _ECHOES):
            found.setdefault(bare[:500])
    return list(found)


def root_causes(state: LabState, most: int = 3) -> list[str]:
    """What the lab's engines died of, host by host, at most ``most`` lines."""
    causes: list[str] = []
    for host in state.hosts:
        causes += [f"{host.name}: {line}" for line in exceptions(raw(state, host.name).splitlines())]
        if state.isolation == "loopback":
            break  # one session directory for all
    return causes[:most]
