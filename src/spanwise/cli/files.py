"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from spanwise.errors import InputError


def write_file(path: Path, text: str, *, executable: bool = False) -> Path:
    """Write ``text`` to ``path`` through a temporary file beside it: a reader sees the old file or the new.

    Folders on the way are made.

    Raises:
        InputError: The place cannot be written.
    """
    if str(path) == "-":
        raise InputError("'-' is no file", where="-o", remedy="leave -o away and use --json to print instead")
    try:
        if path.is_dir():
            raise InputError("this is a directory", where=str(path), remedy="name a file in it")
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: there is nothing to replace
            with contextlib.suppress(BrokenPipeError):  # a reader that goes away is no error, as on standard output
                path.write_text(text, encoding="utf-8")
            return path
        # Guard: only now through a symbolic link, not in its place: what /dev/stdout of a pipe resolves to is no path ("pipe:[1234]").
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod((0o777 if executable else 0o666) & ~mask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be written: {reason}", where=str(path), remedy="name another place with -o") from None
    return path


def folder_to_make(path: Path) -> Path | None:
    """The outermost folder that :func:`write_file` would make on the way to ``path``; None where all are there."""
    try:
        absent = [folder for folder in path.resolve().parents if not folder.exists()]
    except (OSError, ValueError, RuntimeError):  # what cannot be a path is refused where it is written
        return None
    return absent[-1] if absent else None
