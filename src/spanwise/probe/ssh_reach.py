"""Hosts that ssh reaches: who may be named, and how a command gets there and never outlives the one who asked."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from importlib import resources

from spanwise.errors import InputError
from spanwise.probe.reach import Host, ProcessJob, start_process

_SSH = (
    "ssh",
    # No terminal and no forwarding, whatever the user's configuration says: several connections to a host are open at once.
    "-T",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
)
# Names that ssh, a shell in somebody's ProxyCommand (%h, %r) and a login shell take for nothing but a name. No leading dash: an option.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|[0-9A-Fa-f:]{2,45}(?:%[A-Za-z0-9._-]{1,15})?")
# All that a login shell sees, of whatever kind it is: no quote, no newline and no dollar sign inside. The rest goes by standard input.
_BOOT = "import json,sys; exec(json.loads(sys.stdin.buffer.readline()))"


@dataclass(frozen=True, slots=True)
class SshReach:
    """Hosts by ssh, with the user's own keys and configuration (port, jump host, user); nothing is left on them.

    Attributes:
        hosts: By the names that plans have for them.
        users: Of those that were named with one, by host.
    """

    hosts: tuple[Host, ...]
    users: dict[str, str] = field(default_factory=dict)

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> ProcessJob:
        """See :class:`spanwise.probe.reach.Reach`. The command's first word is a Python: it starts what holds the leash, too."""
        source = resources.files(__package__).joinpath("on_leash.py").read_text(encoding="utf-8")
        order = json.dumps({"command": command, "environment": environment or {}})
        user = self.users.get(host.name)
        target = f"{user}@{host.name}" if user else host.name
        read_end, write_end = os.pipe()
        try:
            job = start_process(
                [*_SSH, "--", target, shlex.join([command[0], "-c", _BOOT])], stdin=read_end, leash=write_end
            )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        # Where ssh has ended already, its exit status and last words say why.
        with contextlib.suppress(BrokenPipeError):
            payload = f"{json.dumps(source)}\n{order}\n".encode()
            while payload:
                payload = payload[os.write(write_end, payload) :]
        return job


def ssh_reach(names: list[str], python: str) -> SshReach:
    """Hosts of ``name`` or ``user@name``, or ``name=address`` where the gang's interface has another address.

    Raises:
        InputError: A name that is none, or given twice.
    """
    hosts, users = [], {}
    for word in names:
        target, equals, address = word.partition("=")
        user, at, name = target.rpartition("@")
        if not _NAME.fullmatch(name) or (at and not _USER.fullmatch(user)) or (equals and not _is_address(address)):
            raise InputError(
                f"{word[:80]!r} is no host",
                where="--hosts",
                remedy="write node-1,node-2 or user@node-1=10.0.0.1,...; ports and jump hosts belong into ~/.ssh/config",
            )
        hosts.append(Host(name=name, address=address, python=python))
        if user:
            users[name] = user
    if len({host.name for host in hosts}) < len(hosts):
        raise InputError("a host is named twice", where="--hosts", remedy="name each host once")
    if not python or python.startswith("-") or not python.isprintable():
        raise InputError(f"{python[:80]!r} is no Python", where="--python", remedy="name its path on the hosts")
    return SshReach(tuple(hosts), users)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
