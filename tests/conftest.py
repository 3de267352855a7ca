"""Fixtures for all rooms, and the peak memory of the whole run (printed at its end)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.leftovers import mark_this_run


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


class _PeakMemory:
    """How far the machine's available memory fell below what it was at the start.

    Labs outlive the commands that start them, so a sum over this process's descendants would miss them.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        start = _available_bytes()
        while not self._stop.wait(1.0):
            self.peak = max(self.peak, start - _available_bytes())

    def start(self) -> None:
        if Path("/proc/meminfo").exists():
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()


# The project's promise for all tests together (docs/verified.md).
LIMIT_GIB = 18

_MEMORY = _PeakMemory()


def pytest_sessionstart(session: pytest.Session) -> None:
    mark_this_run()
    _MEMORY.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _MEMORY.stop()
    terminalreporter.write_line(
        f"peak memory of this run and all it started: {_MEMORY.peak / 2**30:.2f} GiB (limit {LIMIT_GIB} GiB)"
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _MEMORY.peak > LIMIT_GIB * 2**30 and exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture
def spanwise(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line with a state directory of its own; a lab left up by a failing test is taken down."""
    command = CommandLine(tmp_path / "state")
    yield command
    if (command.state_dir / "lab.json").exists():
        command("lab", "down")
