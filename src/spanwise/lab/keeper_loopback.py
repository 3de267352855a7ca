"""The keeper of the fallback without namespaces: several Ray nodes on 127.0.0.x, ended with this process.

What it cannot show is said by `isolation.CANNOT_SHOW`. Ray nodes are children of this process (``ray start --block``), asked
by the kernel to end when it dies, and ended by it on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from spanwise.lab.keeper import StepFailed, hold_leash, relay, report
from spanwise.lab.processes import descendants, start_ticks
from spanwise.lab.ray_node import HOST_DIR, OBJECT_STORE_BYTES, node_environment, ray_start_command
from spanwise.lab.wiring import RAY_PORT

NODE_TIMEOUT_S = 60
# Ray's object stores and vLLM's message queues of every host share the machine's own /dev/shm here.
SHM_PER_HOST_BYTES = OBJECT_STORE_BYTES + 128 * 2**20
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_machine(hosts: int) -> None:
    """Refuse a machine where a Ray cluster already uses the port, or whose /dev/shm is too small."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an ended cluster linger a minute
    try:
        probe.bind(("127.0.0.2", RAY_PORT))
    except OSError as error:
        raise StepFailed(
            f"ray start: Ray is already running on this machine (port {RAY_PORT}: {error.strerror}); stop it with `ray stop`"
        ) from error
    finally:
        probe.close()
    free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - the machine's own, in this fallback
    if free < hosts * SHM_PER_HOST_BYTES:
        raise StepFailed(
            f"/dev/shm has {free // 2**20} MiB free, {hosts} hosts need {hosts * SHM_PER_HOST_BYTES // 2**20} MiB;"  # noqa: S108
            " free some, or use fewer hosts"
        )


def _directory(name: str) -> Path:
    return Path(f"{HOST_DIR}-{name}")


def _start(host: dict[str, Any]) -> subprocess.Popen[bytes]:
    directory = _directory(host["name"])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    environment = node_environment(name=host["name"], address=host["address"], interface="lo", directory=str(directory))
    command = ray_start_command(
        address=host["address"],
        head_address=host["head_address"],
        gpus=host["gpus"],
        cpus=host["cpus"],
        resources=host["resources"],
        labels=host["labels"],
        # Worker nodes take the head's session directory: on one machine Ray allows only one.
        temp_dir=str(_directory("host-1") / "ray"),
        block=True,
    )
    with (directory / "ray-start.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, no locks
        )


def _await_node(host: dict[str, Any], process: subprocess.Popen[bytes]) -> None:
    log = _directory(host["name"]) / "ray-start.log"
    deadline = time.monotonic() + NODE_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        if "Ray runtime started" in text:
            return
        if process.poll() is not None:
            raise StepFailed(
                f"ray start on {host['name']} exited {process.returncode}: {' | '.join(text.split(chr(10))[-4:])}"
            )
        time.sleep(0.1)
    raise StepFailed(f"ray start on {host['name']} was not ready within {NODE_TIMEOUT_S} s")


def _reap() -> None:
    """Collect ended children and adopted orphans: nobody else would, and they would stay in the process table."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(hosts: list[dict[str, Any]]) -> None:
    """End every Ray process below this one, then remove the hosts' directories."""
    family = [(pid, start_ticks(pid)) for pid in descendants(os.getpid())]
    for number, wait_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + wait_s
        for pid, started in family:
            if started is not None and start_ticks(pid) == started:
                os.kill(pid, number)
        while (
            any(started is not None and start_ticks(pid) == started for pid, started in family)
            and time.monotonic() < deadline
        ):
            _reap()
            time.sleep(0.05)
    _reap()
    for host in hosts:
        shutil.rmtree(_directory(host["name"]), ignore_errors=True)


def main() -> None:
    """Bring the Ray nodes of the JSON argument up and keep them."""
    plan = json.loads(sys.argv[1])
    hosts: list[dict[str, Any]] = plan["hosts"]
    # Orphans of the Ray nodes come to us instead of the machine's init, so that `end` finds them.
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER

    def leave(*_: object) -> None:
        end(hosts)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(
        target=hold_leash,
        args=(plan["state_file"], plan["token"]),
        kwargs={"leave": lambda: os.kill(os.getpid(), signal.SIGTERM)},
        daemon=True,
    ).start()
    listener = socket.socket(fileno=plan["listener_fd"])
    listener.setblocking(False)
    try:
        _check_machine(len(hosts))
        nodes = [(hosts[0], _start(hosts[0]))] if plan["ray"] else []
        for host, process in nodes:
            _await_node(host, process)
            report(step="ray", text="Ray head up")
        workers = [(host, _start(host)) for host in hosts[1:]] if plan["ray"] else []
        for host, process in workers:
            _await_node(host, process)
    except (StepFailed, OSError) as error:
        report(step="failed", text=str(error))
        end(hosts)
        sys.exit(1)
    report(step="up", text="all hosts have joined Ray (loopback fallback)", hosts=len(hosts))
    asyncio.run(relay(listener, hosts[0]["address"], plan["serve_port"]))


if __name__ == "__main__":
    main()
