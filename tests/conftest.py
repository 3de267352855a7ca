"""Fixtures for all rooms, and the peak memory of the whole run (printed at its end)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine


class _PeakMemory:
    """Samples what this run holds: its own processes' proportional set size, shared pages counted once."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        from spanwise.journey.memory import held_bytes

        while not self._stop.wait(2.0):
            self.peak = max(self.peak, held_bytes(os.getpid()))

    def start(self) -> None:
        if os.path.exists("/proc/self/smaps_rollup"):
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()


_MEMORY = _PeakMemory()


def pytest_sessionstart(session: pytest.Session) -> None:
    _MEMORY.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _MEMORY.stop()
    terminalreporter.write_line(
        f"peak memory of this run and all it started: {_MEMORY.peak / 2**30:.2f} GiB (limit 18 GiB)"
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _MEMORY.peak > 18 * 2**30 and exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture
def spanwise(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line with a state directory of its own; a lab left up by a failing test is taken down."""
    command = CommandLine(tmp_path / "state")
    yield command
    if (command.state_dir / "lab.json").exists():
        command("lab", "down")
