"""What a lab could leave behind on the machine: processes, mounts, network namespaces, links, files."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

_OURS = ("spanwise.lab.", "gcs_server", "raylet", "ray::", "VLLM::", "spanwise.serve.driver")


def _processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            comm = (entry / "comm").read_text()
        except OSError:
            continue
        if any(mark in words or mark in comm for mark in _OURS):
            found.add(f"pid {entry.name}: {words[:120] or comm}")
    return found


def _network_namespaces() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(os.readlink(entry / "ns" / "net"))
            except OSError:
                continue
    return found


def snapshot() -> dict[str, set[str]]:
    """Everything a lab could add to the machine, as it is now."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        "processes": _processes(),
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "network namespaces": _network_namespaces(),
        "links": {line.split()[0] for line in links},
        "shared memory": set(os.listdir("/dev/shm")),
        "temporary files": {name for name in os.listdir("/tmp") if "ray" in name or "spanwise" in name},
    }


def left(before: dict[str, set[str]], patience_s: float = 10.0) -> dict[str, set[str]]:
    """What is there now and was not before; waits for the kernel to finish what is on its way out."""
    deadline = time.monotonic() + patience_s
    while True:
        now = snapshot()
        more = {kind: now[kind] - before[kind] for kind in now if now[kind] - before[kind]}
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.2)
