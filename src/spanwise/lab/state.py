"""The lab's state file: read, written atomically, told apart from one whose keeper is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from spanwise.errors import InputError, LabError
from spanwise.lab.processes import command_line, start_ticks
from spanwise.lab.spec import LabState, state_dir
from spanwise.reading import NotAFile, bytes_of

_MAX_BYTES = 1 << 20  # sixteen hosts have some five thousand


def state_path() -> Path:
    """The one file."""
    return state_dir() / "lab.json"


def write(state: LabState) -> None:
    """Write the state file atomically, readable by its owner only."""
    path = state_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".lab-", delete=False) as out:
        try:
            out.write(state.model_dump_json(by_alias=True, indent=2))
            out.flush()
            Path(out.name).replace(path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise


def remove() -> None:
    """Remove the state file; the directory too where it is empty and ours."""
    state_path().unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: somebody else keeps things there
        state_path().parent.rmdir()


def read() -> LabState | None:
    """The lab that is up, or None.

    A file whose keeper is gone (killed, or the machine was restarted) is removed: with the keeper every namespace,
    process and mount of that lab went too.

    Raises:
        LabError: The file is not a lab state.
    """
    path = state_path()
    try:
        text = bytes_of(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except NotAFile:
        raise InputError(
            "is not a regular file", where=str(path), remedy="remove it if no lab is up, then try again"
        ) from None
    except OSError as error:
        raise LabError(
            f"cannot read the lab's state: {error.strerror}",
            where=str(path),
            remedy="SPANWISE_STATE_DIR names another place; it must be a directory of yours",
        ) from error
    try:
        if len(text) > _MAX_BYTES:
            raise ValueError("larger than any lab's state")
        state = LabState.model_validate_json(text)
    except ValueError as error:  # pydantic's own is one
        raise LabError(
            "this is not a lab state file",
            where=str(path),
            remedy="remove it if no lab is up",
        ) from error
    if _keeper_lives(state):
        return state
    with contextlib.suppress(InputError), lock(wait_s=0):
        # Somebody may have brought a new lab up since we read: only the file that we judged goes.
        if path.is_file() and bytes_of(path, _MAX_BYTES) == text:
            remove()
    return None


def _keeper_lives(state: LabState) -> bool:
    """True when the pid is the process we knew: same start, and a keeper by its command line."""
    same = start_ticks(state.keeper_pid) == state.keeper_started
    return same and any(word.startswith("spanwise.lab.keeper") for word in command_line(state.keeper_pid))


@contextlib.contextmanager
def lock(*, wait_s: float) -> Iterator[None]:
    """Hold the right to bring a lab up or down in this state directory; the kernel gives it back when the holder dies.

    The lock is on the directory itself, so that it leaves no file; a directory that was removed meanwhile is opened anew.

    Raises:
        InputError: Another command holds it for longer than ``wait_s``.
    """
    directory = state_path().parent
    deadline = time.monotonic() + wait_s
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == directory.stat().st_ino:
                    break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise InputError(
                    "another command is bringing a lab up or down here, or changing it",
                    where=str(directory),
                    remedy="wait for it or end it, then try again; SPANWISE_STATE_DIR names another place",
                ) from None
            time.sleep(0.1)
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)
