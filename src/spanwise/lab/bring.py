"""Bring a lab up and take it down, from the machine's side."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from spanwise.errors import ClusterError, InputError, LabError
from spanwise.lab import isolation as kinds
from spanwise.lab import state as state_file
from spanwise.lab import wiring
from spanwise.lab.processes import command_line, descendants, start_ticks
from spanwise.lab.ray_node import confined_environment
from spanwise.lab.spec import MIN_SHM_BYTES, HostState, LabSpec, LabState

UP_TIMEOUT_S = 120
DOWN_TIMEOUT_S = 20
LOCK_WAIT_S = 3
# Variables by whose names nothing on an emulated host should ever be able to read them.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY$", re.IGNORECASE)
Progress = Callable[[str], None]


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} on 127.0.0.1 cannot be used: {error.strerror}",
            where="--port",
            remedy="choose another port, or leave --port away to get a free one",
        ) from error
    listener.listen(64)
    return listener


def _keeper_plan(spec: LabSpec, isolation: wiring.Isolation, listener: socket.socket) -> dict[str, Any]:
    head = wiring.host_address(0, isolation)
    peers = {wiring.host_name(i): wiring.host_address(i, isolation) for i in range(spec.hosts)}
    hosts = []
    for index, (name, address) in enumerate(peers.items()):
        domain = wiring.domain_of(index, spec.hosts, spec.domains)
        shape = spec.shape(index)
        hosts.append(
            {
                "name": name,
                "address": address,
                "head_address": head,
                "gateway": wiring.BRIDGE_ADDRESS,
                "gpus": shape.gpus,
                "cpus": shape.cpus,
                "resources": shape.resources,
                "group": shape.group,
                "domain": domain,
                "labels": labels(spec, index, name, domain),
                "shm_bytes": spec.shm_bytes,
                "peers": peers,
                "tbf": wiring.shaping(spec.rate_bit_per_s),
                "ray": spec.ray,
                "confined": spec.confined and {"kind": isolation, **spec.confined.model_dump()},
            }
        )
    return {
        "hosts": hosts,
        "gateway": wiring.BRIDGE_ADDRESS,
        "ray": spec.ray,
        "serve_port": wiring.SERVE_PORT,
        "listener_fd": listener.fileno(),
        "state_file": str(state_file.state_path()),
        "token": uuid.uuid4().hex,
    }


def labels(spec: LabSpec, index: int, name: str, domain: str) -> dict[str, str]:
    """Ray labels of a host: the lab's names, or those that a manifest gives its group (KubeRay gives no others)."""
    own = spec.shapes[index].labels if spec.shapes else {wiring.HOST_LABEL: name}
    return {wiring.DOMAIN_LABEL: domain, **own, wiring.LAB_LABEL: name}


def _pass_on(stdout: IO[str], lines: queue.Queue[str]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put("")


def _await_up(process: subprocess.Popen[str], progress: Progress) -> None:
    """Follow the keeper's steps until the lab is up.

    Raises:
        LabError: A step failed, the keeper died, or it took too long.
    """
    deadline = time.monotonic() + UP_TIMEOUT_S
    assert process.stdout is not None
    stdout: IO[str] = process.stdout
    lines: queue.Queue[str] = queue.Queue()
    # A thread, not select(): two steps may arrive in one read, and the second would wait in the buffer unseen.
    threading.Thread(target=_pass_on, args=(stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if not line:
            raise LabError(
                "the lab's first process ended before the lab was up", where="lab up", remedy="run again with --debug"
            )
        step = json.loads(line)
        if step["step"] == "failed":
            kind = ClusterError if "ray start" in step["text"] else LabError
            raise kind(
                step["text"], where="lab up", remedy="nothing of the lab is left; mend the cause and run it again"
            )
        progress(step["text"])
        if step["step"] == "up":
            return
    raise LabError(
        f"the lab was not up within {UP_TIMEOUT_S} s",
        where="lab up",
        remedy="nothing of it is left; is the machine overloaded?",
    )


def _host_pids(keeper_pid: int) -> dict[str, int]:
    """Pid of each host's first process as the machine sees it (loopback hosts have none)."""
    found: dict[str, int] = {}
    for pid in descendants(keeper_pid):
        words = command_line(pid)
        if "spanwise.lab.host_init" in words and words[0] != "unshare":
            found.setdefault(json.loads(words[-1])["name"], pid)
    return found


class Leash:
    """The live end of a lab that was just brought up: let go of it and the lab goes, commit and it stays."""

    def __init__(self, process: subprocess.Popen[str], state: LabState) -> None:
        self._process = process
        self.state = state
        self.committed = False

    def commit(self) -> None:
        """The lab outlives this process."""
        assert self._process.stdin is not None
        self._process.stdin.write("commit\n")
        self._process.stdin.flush()
        self.committed = True


def check_free(spec: LabSpec) -> None:
    """Refuse what cannot work, before anything is started.

    Raises:
        InputError: A lab is already up, or a host's /dev/shm would be too small.
    """
    existing = state_file.read()
    if existing is not None:
        raise InputError(
            f"a lab of {len(existing.hosts)} hosts is already up, with Ray at {existing.ray_address}",
            where="lab up",
            remedy="use it (`spanwise lab status`), or take it down first with `spanwise lab down`",
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if spec.shm_bytes > memory:
        raise InputError(
            f"{spec.shm_bytes // 2**20} MiB of /dev/shm per host is more than this machine's {memory // 2**20} MiB of memory",
            where="--shm-size",
            remedy="2G is plenty for small models",
        )
    if spec.shm_bytes < MIN_SHM_BYTES:
        raise InputError(
            f"{spec.shm_bytes // 2**20} MiB of /dev/shm per host is too little for an engine: its ranks die with a bus error",
            where="--shm-size",
            remedy=f"give each host at least {MIN_SHM_BYTES // 2**20}M",
        )


def up(spec: LabSpec, *, port: int = 0, wanted: wiring.Isolation | None = None, progress: Progress) -> Leash:
    """Bring a lab up; it lives as long as this process does unless the leash is committed.

    Args:
        spec: Hosts, GPUs, link.
        port: Loopback port of the door; 0 takes a free one.
        wanted: Only this kind of isolation; None for the best.
        progress: Called with one line per step.

    Raises:
        InputError: A lab is already up, the port is in use, the isolation is not possible.
        LabError: A step failed; nothing is left.
        ClusterError: Ray did not start; nothing is left.
    """
    kinds.require_linux()
    state_directory_is_writable()
    with state_file.lock(wait_s=0):
        return _up(spec, port=port, wanted=wanted, progress=progress)


def _up(spec: LabSpec, *, port: int, wanted: wiring.Isolation | None, progress: Progress) -> Leash:
    """`up`, with the right to do so held from the first look to the written state."""
    check_free(spec)
    isolation, refused = kinds.choose(wanted, confined=spec.confined is not None)
    for no in refused:
        progress(f"isolation {no.isolation} is not possible here: {no.reason}")
    listener = _listener(port)
    module = "spanwise.lab.keeper_loopback" if isolation == "loopback" else "spanwise.lab.keeper"
    plan = _keeper_plan(spec, isolation, listener)
    process = subprocess.Popen(
        [*kinds.outer_command(isolation), sys.executable, "-m", module, json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        pass_fds=[listener.fileno()],
        env=confined_environment()
        if spec.confined
        else {name: value for name, value in os.environ.items() if not _SECRET.search(name)},
        start_new_session=True,  # Ctrl-C goes to the command, which then lets go of the leash
        cwd="/",
    )
    try:
        _await_up(process, progress)
        pids = _host_pids(process.pid)
        state = LabState(
            spec=spec,
            isolation=isolation,
            token=plan["token"],
            keeper_pid=process.pid,
            keeper_started=start_ticks(process.pid) or 0,
            hosts=tuple(
                HostState(
                    name=h["name"],
                    address=h["address"],
                    domain=h["domain"],
                    gpus=h["gpus"],
                    group=h["group"],
                    init_pid=pids.get(h["name"], process.pid),
                    init_started=start_ticks(pids.get(h["name"], process.pid)) or 0,
                )
                for h in plan["hosts"]
            ),
            ray_address=f"{plan['hosts'][0]['address']}:{wiring.RAY_PORT}",
            endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            cannot_show=kinds.CANNOT_SHOW[isolation],
        )
        state_file.write(state)
    except BaseException:
        _end(process.pid, isolation)
        process.wait(DOWN_TIMEOUT_S)
        state_file.remove()
        raise
    finally:
        listener.close()
    return Leash(process, state)


def _end(keeper_pid: int, isolation: wiring.Isolation) -> None:
    """End the keeper and everything below it; returns when all of it is gone.

    `unshare` holds SIGTERM back while its child runs; killing it outright takes the child (``--kill-child``), and with that
    first process the kernel takes the whole PID namespace. The loopback keeper has no namespace and must end its Ray nodes itself.

    Raises:
        LabError: Something survived.
    """
    family = [(pid, start_ticks(pid)) for pid in [keeper_pid, *descendants(keeper_pid)]]
    with contextlib.suppress(ProcessLookupError):
        os.kill(keeper_pid, signal.SIGTERM if isolation == "loopback" else signal.SIGKILL)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while left := [pid for pid, started in family if started is not None and start_ticks(pid) == started]:
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {left} of the lab did not end",
                where="lab down",
                remedy="end them by hand: kill -9 " + " ".join(map(str, left)),
            )
        if time.monotonic() > deadline - DOWN_TIMEOUT_S / 2:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(keeper_pid, os.WNOHANG)  # our own child would stay a zombie otherwise
        time.sleep(0.05)


def down() -> LabState | None:
    """Take the lab down: every process, namespace, mount and file of it.

    Returns:
        The lab that was up, or None.
    """
    if not state_file.state_path().parent.is_dir():
        return None
    # A lab on its way up or down is waited for a little; then the user decides.
    with state_file.lock(wait_s=LOCK_WAIT_S):
        state = state_file.read()
        if state is not None:
            _end(state.keeper_pid, state.isolation)
        if state is not None or not any(state_file.state_path().parent.iterdir()):
            state_file.remove()
    return state


def state_directory_is_writable() -> None:
    """Refuse early when the state file could not be written at the end.

    Raises:
        InputError: The directory cannot be written.
    """
    directory: Path = state_file.state_path().parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".lab-"):
            pass  # some file systems take a directory and no file
    except OSError as error:
        raise InputError(
            f"cannot write the lab's state: {error.strerror}",
            where=str(directory),
            remedy="set SPANWISE_STATE_DIR to a directory you may write",
        ) from error
