"""What a lab could leave behind on the machine: processes, mounts, network namespaces, links, files.

Another lab may run on the same machine, so only what this run of the tests started counts. Its processes are known by a folder at the end
of their PATH, which is not there and which the lab hands on to everything. A process that has overwritten its environment with a title
(Ray's workers, vLLM's) is judged by its parent; whoever has lost that one too counts as ours.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from pathlib import Path

MARK = f"/spanwise-tests-{uuid.uuid4().hex}"
_OURS = ("spanwise.lab.", "gcs_server", "raylet", "ray::", "VLLM::", "spanwise.serve.driver")


def mark_this_run() -> None:
    """From here on, what this process starts is known as its own."""
    if MARK not in os.environ.get("PATH", ""):
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{MARK}"


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
    except OSError:  # gone, or somebody else's
        return ""


def _parent(pid: int) -> int:
    stat = _read(pid, "stat")
    return int(stat[stat.rindex(")") + 2 :].split()[1]) if ")" in stat else 0


def is_ours(pid: int) -> bool:
    """True where this run started the process, or where nobody can tell any more who did."""
    while pid > 1:
        if pid == os.getpid():
            return True
        environment = "\0" + _read(pid, "environ")
        if "\0PATH=" in environment:  # PYTHONPATH may outlive it under a title
            return MARK in environment
        pid = _parent(pid)
    return True


def _processes(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        words, comm = _read(pid, "cmdline").replace("\0", " "), _read(pid, "comm")
        if any(mark in words or mark in comm for mark in _OURS) and is_ours(pid):
            found.add(f"pid {pid}: {words[:120] or comm}")
    return found


def _network_namespaces(pids: list[int]) -> set[str]:
    """Those of processes that are ours, whatever they are called; our own is the machine's."""
    found = {os.readlink("/proc/self/ns/net")}
    for pid in pids:
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")
        except OSError:
            continue
        if namespace not in found and is_ours(pid):
            found.add(namespace)
    return found


def _used_by_others(path: str) -> bool:
    """True where a process that is not ours works with the file: another lab's, then."""
    for pid in _pids():
        if is_ours(pid):
            continue
        if any(path in _read(pid, what) for what in ("cmdline", "environ", "maps")):
            return True
        try:
            if any(os.readlink(entry.path).startswith(path) for entry in os.scandir(f"/proc/{pid}/fd")):
                return True
        except OSError:
            continue
    return False


def snapshot() -> dict[str, set[str]]:
    """Everything that this run could have added to the machine, as it is now; of files, everybody's."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    pids = _pids()
    return {
        "processes": _processes(pids),
        # A lab has its mounts and links in namespaces of its own: one that is seen here is astray, whoever made it.
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "network namespaces": _network_namespaces(pids),
        "links": {line.split()[0] for line in links},
        "shared memory": {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")},
        "temporary files": {f"/tmp/{name}" for name in os.listdir("/tmp") if "ray" in name or "spanwise" in name},
    }


def left(before: dict[str, set[str]], patience_s: float = 10.0) -> dict[str, set[str]]:
    """What is there now and was not before; waits for the kernel to finish what is on its way out."""
    deadline = time.monotonic() + patience_s
    while True:
        now = snapshot()
        more = {kind: now[kind] - before[kind] for kind in now}
        for kind in ("shared memory", "temporary files"):
            more[kind] = {path for path in more[kind] if not _used_by_others(path)}
        more = {kind: what for kind, what in more.items() if what}
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.2)
