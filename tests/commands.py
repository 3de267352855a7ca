"""Run the real command line as a user would, in its own state directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPANWISE = str(Path(sys.executable).with_name("spanwise"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


class CommandLine:
    """`spanwise` with a state directory of its own, so that no test touches a user's lab."""

    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self.environment = {**os.environ, "SPANWISE_STATE_DIR": str(state_dir), **environment}

    def popen(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SPANWISE, *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, timeout_s: float = 120, **environment: str) -> Outcome:
        process = self.popen(*words, **environment)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=30)
            raise AssertionError(f"spanwise {' '.join(words)} hung for {timeout_s} s:\n{out}\n{err}") from None
        return Outcome(code=process.returncode, out=out, err=err)
