"""The first process of one emulated host: private mounts and name, its end of the link, Ray, then reaping.

Speaks lines with the keeper: says ``namespaces``, waits for ``go``, says ``up`` or ``failed <reason>``.
Only the standard library is imported: this process stays for the lab's life, once per host.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from spanwise.lab import sandbox
from spanwise.lab.isolation import confined_command
from spanwise.lab.ray_node import HOST_DIR, node_environment, ray_start_command


def say(line: str) -> None:
    """One line to the keeper."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def private_world(spec: dict[str, object]) -> None:
    """Own name, /dev/shm, directory for Ray and temporary files, and /etc/hosts.

    Guard: /etc/hosts must resolve this host's name to its link address. With the machine's own file the name resolves to
    loopback, and gloo then announces 127.0.0.1 to the other hosts ("Gloo connectFullMesh failed").
    """
    socket.sethostname(str(spec["name"]))
    names = "127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in dict(spec["peers"]).items())  # type: ignore[call-overload]
    if spec["confined"]:
        sandbox.enter({**dict(spec["confined"]), "shm_bytes": spec["shm_bytes"]}, hosts=names, host_dir=HOST_DIR)  # type: ignore[call-overload]
        return
    _run("mount", "-t", "tmpfs", "-o", f"size={spec['shm_bytes']},mode=1777", "tmpfs", "/dev/shm")  # noqa: S108 - private to this namespace
    Path(HOST_DIR).mkdir()
    _run("mount", "-t", "tmpfs", "-o", "size=2g,mode=0700", "tmpfs", HOST_DIR)
    hosts = Path(HOST_DIR) / "hosts"
    hosts.write_text(names)
    _run("mount", "--bind", str(hosts), "/etc/hosts")


def own_link(spec: dict[str, object]) -> None:
    """Name, address, route and rate of this host's end of its link (the keeper moved it here as ``link0``)."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "set", "link0", "name", "eth0")
    _run("ip", "address", "add", f"{spec['address']}/24", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    # Nothing is routed beyond the bridge; the route only lets "which is my address?" probes (UDP connect) find eth0.
    _run("ip", "route", "add", "default", "via", str(spec["gateway"]))
    if spec["tbf"]:
        _run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *[str(word) for word in spec["tbf"]])  # type: ignore[attr-defined]


def start_ray(spec: dict[str, object]) -> None:
    """`ray start` for this host; its output goes to a file on the host."""
    environment = node_environment(
        name=str(spec["name"]),
        address=str(spec["address"]),
        interface="eth0",
        directory=HOST_DIR,
        confined=bool(spec["confined"]),
    )
    command = ray_start_command(
        address=str(spec["address"]),
        head_address=str(spec["head_address"]),
        gpus=int(str(spec["gpus"])),
        cpus=float(str(spec["cpus"])),
        resources=dict(spec["resources"]),  # type: ignore[call-overload]
        labels=dict(spec["labels"]),  # type: ignore[call-overload]
        temp_dir=f"{HOST_DIR}/ray",
        block=False,
    )
    if spec["confined"]:
        command = [*confined_command(dict(spec["confined"])["kind"]), *command]  # type: ignore[call-overload]
    log = Path(HOST_DIR) / "ray-start.log"
    with log.open("w") as out:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
            cwd="/",
        )
    if done.returncode:
        tail = " | ".join(line.strip() for line in log.read_text().splitlines()[-6:] if line.strip())
        raise RuntimeError(f"ray start exited {done.returncode}: {tail}")


def reap_forever() -> None:
    """What a first process owes its namespace: collect orphans, until the keeper's death ends us all."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigwait({signal.SIGCHLD})


def main() -> None:
    """Become the host that the JSON argument describes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    spec = json.loads(sys.argv[1])
    try:
        private_world(spec)
        say("namespaces")
        if sys.stdin.readline().strip() != "go":
            return
        own_link(spec)
        say("linked")
        if spec["ray"]:
            if sys.stdin.readline().strip() != "ray":
                return
            start_ray(spec)
        say("up")
    except (OSError, RuntimeError) as error:
        say(f"failed {error}")
        return
    reap_forever()


if __name__ == "__main__":
    main()
