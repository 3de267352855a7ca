"""The lab's state file: read, written atomically, told apart from one whose keeper is gone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from spanwise.errors import LabError
from spanwise.lab.processes import start_ticks
from spanwise.lab.spec import LabState, state_dir


def state_path() -> Path:
    """The one file."""
    return state_dir() / "lab.json"


def write(state: LabState) -> None:
    """Write the state file atomically, readable by its owner only."""
    path = state_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".lab-", delete=False) as out:
        out.write(state.model_dump_json(by_alias=True, indent=2))
    os.replace(out.name, path)  # noqa: PTH105 - the temp file has no Path object


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
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabError(f"cannot read the lab's state: {error.strerror}", where=str(path)) from error
    try:
        state = LabState.model_validate_json(text)
    except ValidationError as error:
        raise LabError(
            "this is not a lab state file",
            where=str(path),
            remedy="remove it if no lab is up",
        ) from error
    if start_ticks(state.keeper_pid) != state.keeper_started:
        remove()
        return None
    return state
