"""Hosts of the lab as the probe reaches them: by entering their namespaces, so that it works where Ray does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

from spanwise.lab import enter
from spanwise.lab.spec import LabState
from spanwise.probe.reach import Answer, Host, ProcessJob


@dataclass(slots=True)
class LabJob:
    """A command on an emulated host."""

    inner: ProcessJob

    def result(self, patience_s: float) -> Answer:
        """See :class:`spanwise.probe.reach.Job`."""
        try:
            return self.inner.result(patience_s)
        finally:
            self.end()

    def end(self) -> None:
        """`nsenter` forks to enter a PID namespace: its children are ended too."""
        if self.inner.process.poll() is None:
            enter.end(self.inner.process, patience_s=0.5)


@dataclass(frozen=True, slots=True)
class LabReach:
    """The hosts of a lab that is up."""

    state: LabState
    # Beside each host's own environment, by host name; "" is all hosts. For tests that plant faults.
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    # Words in front of a command, by host name: `prlimit --nofile=256`.
    prefix: dict[str, list[str]] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """In the lab's order."""
        return tuple(Host(name=host.name, address=host.address, python=sys.executable) for host in self.state.hosts)

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> LabJob:
        """See :class:`spanwise.probe.reach.Reach`."""
        extra = {**self.environment.get("", {}), **self.environment.get(host.name, {}), **(environment or {})}
        process = enter.start(
            self.state,
            self.state.host(host.name),
            [*self.prefix.get(host.name, []), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=extra,
        )
        return LabJob(ProcessJob(process))
