"""Run the real command line in a process of its own: exit code, standard output, standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def spanwise(*arguments: str | Path, stdin: str | bytes = b"", cwd: Path | None = None) -> tuple[int, str, str]:
    """``spanwise ARGUMENTS``; the hub is never asked."""
    done = subprocess.run(
        [sys.executable, "-c", "from spanwise.cli.main import run; run()", *map(str, arguments)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"},
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(*arguments: str | Path, stdin: str | bytes = b"", code: int = 2) -> str:
    """Standard error of a command that must leave with ``code``, say one thing, and show no traceback."""
    returned, out, err = spanwise(*arguments, stdin=stdin)
    assert returned == code, (returned, out, err)
    assert "Traceback" not in err
    assert out == "" or out.startswith("{")
    assert "a defect in spanwise" not in err
    return err
