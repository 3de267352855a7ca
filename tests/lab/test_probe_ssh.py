"""`spanwise probe --hosts` over real ssh: sshd on emulated hosts, with throw-away keys and a configuration of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spanwise.lab import enter
from spanwise.lab.processes import descendants
from spanwise.lab.spec import LabState
from tests.commands import SPANWISE, Outcome
from tests.lab.bare import bare_lab

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(SSHD is None or not shutil.which("ssh"), reason="sshd is not installed (openssh-server)"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="sshd changes users: it needs root"),
]

_SSHD_CONFIG = """
Port 22
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
_SSH_CONFIG = """
Host *
  User root
  IdentityFile {dir}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {dir}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


@dataclass(frozen=True)
class Hosts:
    """Emulated hosts that ssh reaches from the first of them."""

    lab: LabState
    folder: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run on the first host, as a user there would; the real ssh with the test's own configuration."""
        return enter.start(
            self.lab,
            self.lab.host("host-1"),
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
        )

    def probe(self, *words: str) -> Outcome:
        process = self.start(SPANWISE, "probe", *words)
        out, err = process.communicate(timeout=150)
        return Outcome(code=process.returncode, out=out, err=err)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(_SSHD_CONFIG.format(dir=folder))
    (folder / "ssh_config").write_text(_SSH_CONFIG.format(dir=folder))
    key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"{name} {key}" for name in ("host-1", "host-2")))
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    with bare_lab(tmp_path_factory.mktemp("state"), hosts=2, rate_bit_per_s=100e6, wanted="root") as state:
        servers = []
        try:
            for host in state.hosts:
                # /run is the host's own from here on: sshd wants a directory there, and the machine keeps its own.
                command = f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec {SSHD} -D -e -f {folder}/sshd_config"
                log = (folder / f"{host.name}.log").open("w")
                servers.append(
                    enter.start(state, host, ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
            found = Hosts(state, folder)
            wait_for_sshd(found)
            yield found
        finally:
            for server in servers:
                enter.end(server)


def wait_for_sshd(hosts: Hosts) -> None:
    deadline = time.monotonic() + 20
    for name in ("host-1", "host-2"):
        while True:
            process = hosts.start("ssh", name, "true")
            _, err = process.communicate(timeout=30)
            if process.returncode == 0:
                break
            if time.monotonic() > deadline:
                log = (hosts.folder / f"{name}.log").read_text()
                pytest.fail(f"ssh does not reach {name}: {err}\n{log}")
            time.sleep(0.3)


def commands(hosts: Hosts, name: str) -> list[str]:
    """Our scripts that run on a host."""
    listed = enter.start(
        hosts.lab, hosts.lab.host(name), ["ps", "-e", "-o", "args="], stdout=subprocess.PIPE, text=True
    )
    out, _ = listed.communicate(timeout=20)
    return [line for line in out.splitlines() if "import" in line or " -c " in line or "ssh" in line.split()[0]]


def words(document: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


def test_a_probe_over_ssh_finds_and_measures(hosts: Hosts) -> None:
    outcome = hosts.probe("--hosts", "root@host-1,host-2", "--python", sys.executable, "--quick", "--json")
    assert outcome.code == 0, outcome.err + outcome.out
    document = outcome.document
    assert words(document) == set(), document["findings"]
    assert [(host["name"], host["interface"]) for host in document["hosts"]] == [("host-1", "eth0"), ("host-2", "eth0")]
    assert {group["operation"] for group in document["groups"]} == {"all_reduce", "send_recv"}
    (pair,) = document["pairs"]
    assert 60e6 < pair["there_bytes_per_s"] * 8 < 110e6
    assert {fact["name"] for fact in document["facts"]} == {"probed.bandwidth", "probed.hop", "probed.efficiency"}


def test_a_variable_is_tried_over_ssh(hosts: Hosts) -> None:
    """The variable reaches the ranks: with an interface that is not there, their group does not form."""
    setting = "GLOO_SOCKET_IFNAME=none0"
    outcome = hosts.probe("--hosts", "host-1,host-2", "--python", sys.executable, "--quick", "--json", "--try", setting)
    assert outcome.code == 0, outcome.err + outcome.out
    assert all("none0" in row["failed"] for row in outcome.document["tried"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_whoever_asked(hosts: Hosts, number: int) -> None:
    """Ctrl-C, and a kill that leaves no time to clean up: listeners live for ten minutes by themselves."""
    before = commands(hosts, "host-2")
    process = hosts.start(SPANWISE, "probe", "--hosts", "host-1,host-2", "--python", sys.executable)
    assert process.stderr is not None
    for line in process.stderr:
        if "link host-1" in line:
            break
    assert len(commands(hosts, "host-2")) > len(before)
    # `nsenter` passes no signal on; the command is its child.
    for child in descendants(process.pid):
        if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[1:2] == [SPANWISE.encode()]:
            os.kill(child, number)
    process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while len(commands(hosts, "host-2")) > len(before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert commands(hosts, "host-2") == before


@pytest.mark.parametrize(
    ("name", "said"),
    [("host-9", "resolve"), ("nobody@host-2", "Permission denied"), ("10.77.0.2", "verification failed")],
)
def test_a_host_that_ssh_does_not_reach_is_named_with_the_reason(hosts: Hosts, name: str, said: str) -> None:
    """An unknown name, a user without a key there, a host whose key nobody vouched for."""
    outcome = hosts.probe("--hosts", f"host-1,{name}", "--python", sys.executable, "--check-only", "--json")
    assert outcome.code == 1, outcome.err
    (finding,) = (finding for finding in outcome.document["findings"] if finding["code"] == "host_silent")
    assert finding["host"] == name.rpartition("@")[2]
    assert said in finding["message"]


def test_a_python_that_is_not_there_is_said(hosts: Hosts) -> None:
    outcome = hosts.probe("--hosts", "host-1,host-2", "--python", "/none/python", "--check-only")
    assert outcome.code == 3
    assert "/none/python" in outcome.err
    assert "--python" in outcome.err


@pytest.mark.parametrize("name", ["-oProxyCommand=touch {mark}", "host-2;touch {mark}"])
def test_a_name_that_could_be_a_command_is_refused(hosts: Hosts, tmp_path: Path, name: str) -> None:
    """All forms: tests/unit/probe/test_ssh_names.py."""
    mark = tmp_path / "mark"
    outcome = hosts.probe("--hosts", f"host-1,{name.format(mark=mark)}", "--python", sys.executable, "--check-only")
    assert outcome.code == 2
    assert "is no host" in outcome.err
    assert not mark.exists()
