"""Read a file that somebody named: bounded, and never waiting for what nobody writes. Every room may use it.

``-`` is standard input. Pipes that a shell made (``/dev/stdin``, process substitution) are read to their end. Another FIFO is read only
where it has something to give: opened as a plain file, it would block for ever.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

from spanwise.errors import InputError

# What a shell's own pipes and a terminal's standard input resolve to.
_OWN_PIPES = ("/proc/", "/dev/fd/", "/dev/pts/", "/dev/tty")
_SILENCE_S = 2.0
_CHUNK = 1 << 20


class NotAFile(OSError):  # noqa: N818 - it is one of the reasons that an operating system could give
    """What stands at that path is no regular file, and has nothing to give."""

    def __init__(self) -> None:
        super().__init__(0, "is not a regular file")


def shown(path: str | Path) -> str:
    """The path as messages name it."""
    return "standard input" if str(path) == "-" else str(path)


def read_file(
    path: str | Path,
    *,
    most_bytes: int,
    what: str = "a file",
    remedy: str = "check the path",
    error: type[InputError] = InputError,
) -> bytes:
    """The bytes of the file at ``path``; ``what`` says in messages what it should have been.

    Raises:
        InputError: An empty path, a directory, missing, unreadable, larger than ``most_bytes``, or nothing that can be
            read to an end; of the class ``error``.
    """
    where = shown(path)
    if not str(path):
        raise error(f"an empty path is not {what}", where="''", remedy="name a file, or leave the option away")
    try:
        if str(path) != "-" and os.path.isdir(path):  # noqa: PTH112 - says no where a name is impossible
            raise error(f"this is a directory, not {what}", where=where, remedy="name the file in it")
        data = bytes_of(path, most_bytes)
    except NotAFile:
        raise error("is not a regular file", where=where, remedy=f"give the path of {what}") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error(f"cannot be read: {reason}", where=where, remedy=remedy) from None
    if len(data) > most_bytes:
        raise error(f"is larger than {most_bytes >> 20} MiB", where=where, remedy=f"is this {what}?")
    return data


def bytes_of(path: str | Path, most_bytes: int) -> bytes:
    """At most one byte more than ``most_bytes``.

    Raises:
        OSError: As the system says it; :class:`NotAFile` for a FIFO, device or socket that gives nothing.
    """
    if str(path) == "-":
        if sys.stdin is None:
            raise OSError(0, "standard input is closed")
        return sys.stdin.buffer.read(most_bytes + 1) or b""
    # Without O_NONBLOCK opening a FIFO waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return _all(descriptor, most_bytes, None)
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise NotAFile
        own = os.path.realpath(path).startswith(_OWN_PIPES)
        data = _all(descriptor, most_bytes, None if own else _SILENCE_S)
        if not data and not own:
            raise NotAFile
        return data
    finally:
        os.close(descriptor)


def _all(descriptor: int, most_bytes: int, silence_s: float | None) -> bytes:
    """Everything up to the end; gives up where nothing comes for ``silence_s`` (None: waits as long as it takes)."""
    data = bytearray()
    while len(data) <= most_bytes:
        try:
            piece = os.read(descriptor, min(_CHUNK, most_bytes + 1 - len(data)))
        except BlockingIOError:
            if not select.select([descriptor], [], [], silence_s)[0]:
                raise NotAFile from None
            continue
        if not piece:
            break
        data += piece
    return bytes(data)
