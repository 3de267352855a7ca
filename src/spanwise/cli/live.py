"""Progress for people: a spinner with the running step on a terminal, plain timed lines in a pipe. Always standard error."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from spanwise.cli import frame

Progress = Callable[[str], None]


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Yields a function that takes one line per step."""
    started = time.monotonic()
    if not frame.interactive():
        yield lambda text: frame.note(f"[{time.monotonic() - started:6.1f} s] {text}")
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    with console.status("starting", spinner="dots") as status:

        def say(text: str) -> None:
            plain = escape(frame.printable(text))  # a path or an address may look like markup
            console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {plain}", soft_wrap=True)
            status.update(f"{plain} …")

        yield say
