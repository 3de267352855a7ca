"""The first process of the lab: makes the bridge and the hosts, relays the door to loopback, and is the lab's life.

Its standard input is a leash held by the command that started it. Until that command says ``commit`` the end of the
leash (Ctrl-C, a crash, SIGKILL) ends the lab; afterwards the lab lives until the keeper is killed. It answers on its
standard output with one JSON line per step. Standard library only: it stays for the lab's life.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from spanwise.lab.isolation import host_command
from spanwise.lab.processes import descendants
from spanwise.lab.wiring import port_of

BRIDGE = "br0"
STEP_TIMEOUT_S = 60


class StepFailed(Exception):  # noqa: N818 - private to this process; reported as text
    """One step of bringing the lab up did not succeed."""


def report(**fields: Any) -> None:
    """One JSON line to the command that started us; silent when it has gone."""
    try:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        pass


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Host:
    """One emulated host, seen from the keeper."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [*host_command(), sys.executable, "-m", "spanwise.lab.host_init", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def expect(self, word: str) -> None:
        """Wait until the host says ``word``.

        Raises:
            StepFailed: It said something else, or died.
        """
        answer: list[str] = []
        assert self.process.stdout is not None
        stdout: IO[str] = self.process.stdout
        reader = threading.Thread(target=lambda: answer.append(stdout.readline().strip()), daemon=True)
        reader.start()
        reader.join(STEP_TIMEOUT_S)
        said = answer[0] if answer else f"nothing within {STEP_TIMEOUT_S} s"
        if said != word:
            raise StepFailed(f"{self.spec['name']}: {said.removeprefix('failed ') or 'died'}")

    def tell(self, word: str) -> None:
        """One line to the host."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    @property
    def init_pid(self) -> int:
        """Pid of the host's first process in the keeper's PID namespace."""
        return descendants(self.process.pid)[0]


def bring_up(plan: dict[str, Any]) -> list[Host]:
    """Bridge, hosts, links, then Ray: the head first, the workers together."""
    _run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm")  # noqa: S108 - private to this namespace
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{plan['gateway']}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    hosts = [Host(spec) for spec in plan["hosts"]]
    for host in hosts:
        host.expect("namespaces")
        port = port_of(host.spec["name"])
        _run("ip", "link", "add", port, "type", "veth", "peer", "name", "link0", "netns", str(host.init_pid))
        _run("ip", "link", "set", port, "master", BRIDGE, "up")
        if host.spec["tbf"]:
            # The host shapes what it sends; this end shapes what it receives.
            _run("tc", "qdisc", "add", "dev", port, "root", "tbf", *map(str, host.spec["tbf"]))
        host.tell("go")
    for host in hosts:
        host.expect("linked")
    report(step="hosts", text=f"{len(hosts)} hosts linked")
    if plan["ray"]:
        hosts[0].tell("ray")
        hosts[0].expect("up")
        report(step="ray", text="Ray head up")
        for host in hosts[1:]:
            host.tell("ray")
    for host in hosts[1 if plan["ray"] else 0 :]:
        host.expect("up")
    return hosts


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    finally:
        writer.close()


async def relay(listener: socket.socket, host: str, port: int) -> None:
    """Forward loopback connections of the machine to the door inside the lab.

    The listening socket was bound before this process entered its own network namespace, so it accepts on the machine's
    loopback; connections are made from inside. No address of the lab is reachable from the machine in any other way.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    server = await asyncio.start_server(serve, sock=listener)
    async with server:
        await server.serve_forever()


def _exit_now() -> None:
    os._exit(1)  # the first process of a PID namespace takes all others with it


def hold_leash(state_file: str, token: str, leave: Callable[[], None] = _exit_now) -> None:
    """End the lab, its own state file included, when the leash ends before ``commit``."""
    for line in sys.stdin:
        if line.strip() == "commit":
            return
    path = Path(state_file)
    if path.is_file() and token in path.read_text(errors="replace"):
        path.unlink(missing_ok=True)
    leave()


def main() -> None:
    """Bring the lab of the JSON argument up and keep it."""
    plan = json.loads(sys.argv[1])
    threading.Thread(target=hold_leash, args=(plan["state_file"], plan["token"]), daemon=True).start()
    listener = socket.socket(fileno=plan["listener_fd"])
    listener.setblocking(False)
    try:
        hosts = bring_up(plan)
    except (StepFailed, OSError) as error:
        report(step="failed", text=str(error))
        sys.exit(1)
    report(step="up", text="all hosts have joined Ray" if plan["ray"] else "all hosts are up", hosts=len(hosts))
    asyncio.run(relay(listener, plan["hosts"][0]["address"], plan["serve_port"]))


if __name__ == "__main__":
    main()
