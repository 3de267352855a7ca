"""Progress for people: a spinner with the running step on a terminal, plain timed lines in a pipe. Always standard error."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from spanwise.cli import frame

# In a pipe, news of a running step comes at most this often; steps that begin or end are always said.
QUIET_S = 20.0
Clock = Callable[[], float]


class Live(Protocol):
    """Takes one line per step, and news of the running step."""

    def __call__(self, text: str) -> None:
        """A step began or ended."""

    def tick(self, text: str) -> None:
        """How far the running step is."""


class Plain:
    """Timed lines, for pipes and files."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._started = self._said = clock()

    def __call__(self, text: str) -> None:
        """One line."""
        self._said = self._clock()
        frame.note(f"[{self._said - self._started:6.1f} s] {text}")

    def tick(self, text: str) -> None:
        """One line, where nothing was said for a while."""
        if self._clock() - self._said >= QUIET_S:
            self(text)


class Spinner:
    """Lines above a spinner that shows the running step."""

    def __init__(self, console: Any, status: Any) -> None:
        self._console, self._status = console, status
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        """One line, and the spinner's words."""
        self._console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/dim]  {_plain(text)}", soft_wrap=True)
        self.tick(text)

    def tick(self, text: str) -> None:
        """The spinner's words only."""
        self._status.update(f"{_plain(text)} …")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(frame.printable(text))  # a path or an address may look like markup


@contextlib.contextmanager
def progress() -> Iterator[Live]:
    """Yields what takes one line per step."""
    if not frame.interactive():
        yield Plain()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("starting", spinner="dots") as status:
        yield Spinner(console, status)
