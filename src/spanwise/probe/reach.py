"""How the probe's scripts get to hosts: a Reach starts a command there and hands back what it wrote.

This machine stands here, ssh in `ssh_reach`, a Ray cluster in `ray_reach`; hosts of the lab come from the journey.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Protocol

from spanwise.errors import ProbeError

# What a host may write at most; more is not an answer of our scripts.
_MOST_TEXT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host of a probe.

    Attributes:
        name: As plans name it.
        address: Of the interface that gangs use; empty where it is not known yet (the host tells).
        python: The Python that has the engine, where it was named.
    """

    name: str
    address: str = ""
    python: str = ""


class Job(Protocol):
    """A command that runs on a host."""

    def result(self, patience_s: float) -> Answer:
        """Wait for its end; it is ended when patience is over."""

    def end(self) -> None:
        """End it now; harmless when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a command.

    Attributes:
        code: Exit status; None where it did not end in time.
        text: Standard output.
        errors: The end of standard error.
        seconds: From start to answer.
    """

    code: int | None
    text: str
    errors: str
    seconds: float


class Reach(Protocol):
    """Hosts, and a way to run commands on them."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host that is asked, in a fixed order."""

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> Job:
        """Start ``command`` on ``host``, with these variables beside its own.

        Raises:
            SpanwiseError: The host cannot be reached.
        """


@dataclass(slots=True)
class ProcessJob:
    """A job that is a process of this machine (of a namespace, or an ssh client).

    Attributes:
        process: The process.
        leash: A file descriptor that is closed with it: the other end of its standard input; None where that is closed.
        started: When.
    """

    process: subprocess.Popen[bytes]
    leash: int | None = None
    started: float = field(default_factory=time.monotonic)

    def result(self, patience_s: float) -> Answer:
        """See :class:`Job`."""
        try:
            out, errors = self.process.communicate(timeout=max(0.1, patience_s))
            code: int | None = self.process.returncode
        except subprocess.TimeoutExpired:
            self.end()
            out, errors = self.process.communicate()
            code = None
        self._let_go()
        return Answer(
            code=code,
            text=out[:_MOST_TEXT].decode(errors="replace"),
            errors=errors[-2000:].decode(errors="replace"),
            seconds=time.monotonic() - self.started,
        )

    def end(self) -> None:
        """See :class:`Job`. The whole session goes: an interpreter may have children."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self._let_go()

    def _let_go(self) -> None:
        leash, self.leash = self.leash, None
        if leash is not None:
            os.close(leash)


def start_process(
    command: list[str],
    environment: dict[str, str] | None = None,
    *,
    stdin: int = subprocess.DEVNULL,
    leash: int | None = None,
) -> ProcessJob:
    """A process in a session of its own.

    Args:
        command: Its words.
        environment: Variables beside this process's own.
        stdin: Its standard input; closed unless one is given.
        leash: A file descriptor to close when it ends; the job's from now on.

    Raises:
        ProbeError: It cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if environment is None else os.environ | environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ProbeError(
            f"{command[0]} cannot be started: {error.strerror or error}", where="probe", remedy="is it installed?"
        ) from None
    return ProcessJob(process, leash)


@dataclass(frozen=True, slots=True)
class LocalReach:
    """This machine alone: its facts, no link."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """One host."""
        import socket

        return (Host(name=socket.gethostname(), python=sys.executable),)

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> ProcessJob:
        """See :class:`Reach`."""
        return start_process(command, environment)


def script(name: str, asked: dict[str, Any], python: str) -> list[str]:
    """The command that runs one of our scripts with its question.

    Args:
        name: ``on_host``, ``on_wire`` or ``on_group``.
        asked: Its question, as JSON.
        python: The interpreter on that host; empty: ``python3``.
    """
    source = resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    return [python or "python3", "-c", source, json.dumps(asked)]


def last_json(text: str) -> Any:
    """The document in the last line that begins one; None where there is none. NCCL's log may stand around it."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def answer_of(host: Host, answer: Answer, what: str) -> Any:
    """The JSON that a script wrote.

    Raises:
        ProbeError: It wrote none: it failed, or did not end in time.
    """
    document = last_json(answer.text)
    if document is not None:
        return document
    said = [line.strip() for line in answer.errors.splitlines() if line.strip()]
    reason = (
        "did not answer in time" if answer.code is None else said[-1][:300] if said else f"ended with {answer.code}"
    )
    raise ProbeError(
        f"{what}: {reason}",
        where=host.name,
        remedy="can commands be run there, and is its Python the right one (--python)?",
    )
