"""What every command shares: one JSON document or a table on standard output, everything else on standard error.

Heavy imports stay inside functions: a command's start-up is part of its answer (`decide` promises half a second).
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from spanwise.errors import InputError, OutsideError, SpanwiseError

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, progress on standard error.")
]

_state = {"debug": False, "json": False, "interrupted": False}


def set_debug(on: bool) -> None:
    """Remember that the user wants tracebacks."""
    _state["debug"] = on


def wants_json(on: bool) -> None:
    """Remember that errors should be printed as JSON too."""
    _state["json"] = on


def print_json(document: Any) -> None:
    """Print ``document`` as the one JSON document of this command."""
    _answer(json.dumps(document, indent=2, allow_nan=False) + "\n")


def printable(text: str) -> str:
    """``text`` as a terminal may show it: a name out of a stranger's file must not move the cursor or turn the line around."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def echo(text: str, *, nl: bool = True) -> None:
    """The answer for people, on standard output."""
    _answer(printable(text) + ("\n" if nl else ""))


def _answer(text: str) -> None:
    """Write to standard output at once; what its reader (head, less) no longer wants goes nowhere."""
    try:
        typer.echo(text, nl=False)
    except BrokenPipeError:  # Guard: typer would turn it into exit 1
        _let_go_of_stdout()


def note(text: str) -> None:
    """One line for people, on standard error; where nobody reads it any more, nothing fails for that."""
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # its reader (head) went away, its disk is full, it was closed
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def interactive() -> bool:
    """True where live progress makes sense: standard error is a terminal that can redraw."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def fail(error: SpanwiseError) -> int:
    """Show ``error`` the way the contract says; its exit code."""
    return _show(error.as_json(), f"spanwise: {error}", error.exit_code)


def _show(document: dict[str, object], text: str, code: int) -> int:
    if _state["json"] and sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # standard output itself may be what failed
            print_json(document)
            sys.stdout.flush()
    note(text)
    return code


def _let_go_of_stdout() -> None:
    """Point standard output at nothing, so that the flush at exit is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def guarded(body: Callable[[], int], arguments: list[str]) -> NoReturn:
    """Run a whole command line; no traceback reaches a user without ``--debug``.

    Exit codes: the body's or the error's own, 130 after Ctrl-C, 3 for anything that we did not foresee (a defect of ours, said so).

    Args:
        body: Parses and runs the command; returns its exit code.
        arguments: The command line, to know before it is parsed whether errors are wanted as JSON.
    """
    # SIGTERM must clean up exactly as Ctrl-C does: both unwind the stack through the same `finally` blocks.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a closed terminal
        signal.signal(signal.SIGHUP, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # nohup and background jobs stay as they are
        signal.signal(signal.SIGINT, _interrupt)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115,PTH123 - for the life of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding
    # What stands after `lab exec HOST` belongs to the inner command.
    wants_json("--json" in (arguments[: arguments.index("exec")] if "exec" in arguments else arguments))
    sys.exit(_guarded(body))


# What an operating system says of a path that somebody named.
_PATH_TROUBLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP}
    | {errno.ENAMETOOLONG, errno.EEXIST, errno.ENXIO}
)


def _refused(error: OSError) -> SpanwiseError:
    """What to say of an error that no room has mapped."""
    reason = error.strerror or str(error)
    if error.errno in _PATH_TROUBLE and error.filename:
        return InputError(
            f"cannot be used: {reason.lower()}",
            where=str(error.filename)[:200],
            remedy="check the path, and the variables that name places: SPANWISE_STATE_DIR, SPANWISE_CACHE_DIR, TMPDIR, HOME",
        )
    return OutsideError(f"the operating system refused: {reason}", remedy="is there room, memory and permission?")


def settle() -> None:
    """From here on the answer stands: what was started stays, and a late Ctrl-C no longer says that it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _interrupt(*_: object) -> NoReturn:
    _state["interrupted"] = True
    raise KeyboardInterrupt


def _guarded(body: Callable[[], int]) -> int:
    try:
        if sys.stdout is None:
            raise OutsideError(
                "standard output is closed: there is nowhere to answer", remedy="leave standard output open"
            )
        code = body()
        sys.stdout.flush()
        if _state["interrupted"]:  # typer turns the exception into a silent exit code
            raise KeyboardInterrupt
    except SpanwiseError as error:
        if _state["debug"]:
            raise
        return fail(error)
    except KeyboardInterrupt:
        text = "interrupted; what this command started is cleaned up"
        return _show(
            {"error": "Interrupted", "what": text, "where": "", "remedy": "", "exit_code": 130},
            f"spanwise: {text}",
            130,
        )
    except BrokenPipeError:
        _let_go_of_stdout()  # the reader (head, less) went away: not an error
        return 0
    except OSError as error:
        if _state["debug"]:
            raise
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # standard output itself is what failed
            _let_go_of_stdout()
            return fail(
                OutsideError(f"the operating system refused: {error}", remedy="is there room where the answer goes?")
            )
        return fail(_refused(error))
    except Exception as error:
        if _state["debug"]:
            raise
        what = f"a defect in spanwise: {type(error).__name__}: {error}"
        document: dict[str, object] = {
            "error": "Defect",
            "what": what,
            "where": "",
            "remedy": "report it",
            "exit_code": 3,
        }
        return _show(document, f"spanwise: {what}\n  -> run again with --debug and report what it prints", 3)
    return code
