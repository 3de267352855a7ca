"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from spanwise.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def write_file(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` through a temporary file beside it: a reader sees the old file or the new.

    Folders on the way are made.

    Raises:
        InputError: The place cannot be written.
    """
    if str(path) == "-":
        raise InputError("'-' is no file", where="-o", remedy="leave -o away and use --json to print instead")
    with _saying_where(path):
        if (
            path.exists() and not path.is_file() and not path.is_dir()
        ):  # /dev/stdout, a pipe: there is nothing to replace
            with contextlib.suppress(BrokenPipeError):  # a reader that goes away is no error, as on standard output
                path.write_text(text, encoding="utf-8")
            return path
    return write_files([(path, text, False)])[0]


def write_files(files: Sequence[tuple[Path, str, bool]]) -> list[Path]:
    """Write all ``files`` (place, text, whether it may be executed) or none: what cannot be written shows before one is replaced.

    Folders on the way are made, and go again where nothing is written.

    Raises:
        InputError: One of the places cannot be written.
    """
    staged: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for path, text, executable in files:
            with _saying_where(path):
                staged.append(_stage(path, text, executable=executable, made=made))
        for temporary, target in staged:
            with _saying_where(target):
                temporary.replace(target)
    except BaseException:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # it is in use by now
                folder.rmdir()
        raise
    return [target for _, target in staged]


@contextlib.contextmanager
def _saying_where(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be written: {reason}", where=str(path), remedy="name another place with -o") from None


def _stage(path: Path, text: str, *, executable: bool, made: list[Path]) -> tuple[Path, Path]:
    """``text`` in a temporary file, and the place that it is for; folders that had to be made are added to ``made``."""
    if path.is_dir():
        raise InputError("this is a directory", where=str(path), remedy="name a file in it")
    if path.exists() and not path.is_file():
        raise InputError("is not a regular file", where=str(path), remedy="name another place with -o")
    # Guard: only now through a symbolic link, not in its place: what /dev/stdout of a pipe resolves to is no path ("pipe:[1234]").
    path = path.resolve()
    absent = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(absent):
        folder.mkdir(exist_ok=True)
        made.append(folder)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod((0o777 if executable else 0o666) & ~mask)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), path


def folder(word: str) -> Path:
    """The folder that ``-o`` names.

    Raises:
        InputError: An empty word (a variable that is not set), or ``-``: several files cannot go to standard output.
    """
    if not word:
        raise InputError("an empty path is no folder", where="-o", remedy="name a folder; `.` is the one you are in")
    if word == "-":
        raise InputError("several files cannot go to standard output", where="-o", remedy="name a folder")
    return Path(word)


def folder_to_make(path: Path) -> Path | None:
    """The outermost folder that :func:`write_file` would make on the way to ``path``; None where all are there."""
    try:
        absent = [folder for folder in path.resolve().parents if not folder.exists()]
    except (OSError, ValueError, RuntimeError):  # what cannot be a path is refused where it is written
        return None
    return absent[-1] if absent else None
