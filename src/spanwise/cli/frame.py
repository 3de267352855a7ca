"""What every command shares: one JSON document or a table on standard output, everything else on standard error.

Heavy imports stay inside functions: a command's start-up is part of its answer (`decide` promises half a second).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from spanwise.errors import SpanwiseError

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, progress on standard error.")
]

_state = {"debug": False, "json": False}


def set_debug(on: bool) -> None:
    """Remember that the user wants tracebacks."""
    _state["debug"] = on


def wants_json(on: bool) -> None:
    """Remember that errors should be printed as JSON too."""
    _state["json"] = on


def print_json(document: Any) -> None:
    """Print ``document`` as the one JSON document of this command."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def note(text: str) -> None:
    """One line for people, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def interactive() -> bool:
    """True where live progress makes sense: standard error is a terminal that can redraw."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def fail(error: SpanwiseError) -> NoReturn:
    """Show ``error`` the way the contract says, and leave with its exit code."""
    if _state["json"]:
        print_json(error.as_json())
    note(f"spanwise: {error}")
    sys.exit(error.exit_code)


def guarded(body: Callable[[], None]) -> None:
    """Run a whole command line; no traceback reaches a user without ``--debug``.

    Exit codes: the error's own, 130 after Ctrl-C, 3 for anything that we did not foresee (a defect of ours, said so).
    """
    # SIGTERM must clean up exactly as Ctrl-C does: both unwind the stack through the same `finally` blocks.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        body()
    except SpanwiseError as error:
        if _state["debug"]:
            raise
        fail(error)
    except KeyboardInterrupt:
        note("spanwise: interrupted; what this command started is cleaned up")
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) went away: not an error. Point stdout at nothing so that the flush at exit is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _state["debug"]:
            raise
        note(
            f"spanwise: a defect in spanwise: {type(error).__name__}: {error}\n"
            "  -> run again with --debug and report what it prints"
        )
        sys.exit(3)
