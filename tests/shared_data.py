"""Where the reference data lies that tests may read and that the project does not ship; absent on most machines."""

from __future__ import annotations

import os
from pathlib import Path


def shared_dir() -> Path | None:
    """The folder ``shared`` beside the checkout, or the one SPANWISE_SHARED names; None when there is none."""
    named = os.environ.get("SPANWISE_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if (folder / "data").is_dir() else None
