"""One running demo for all tests of a module that only need something served; engine starts cost about a minute and a half.

Module scope keeps the promise of at most one lab with two gangs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine
from tests.leftovers import left, snapshot

pytest.importorskip("vllm", reason="needs the engine: make env")

# Generous: a hang limit for a loaded machine, not a promise.
DEMO_HANG_S = 840


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The demo, left running by --keep."""

    spanwise: CommandLine
    report: dict[str, Any]
    progress: str

    @property
    def endpoint(self) -> str:
        return str(self.report["endpoint"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`spanwise demo --keep --json`: a pipeline over two hosts beside one rank; nothing is left afterwards."""
    before = snapshot()
    spanwise = CommandLine(Path(tmp_path_factory.mktemp("engine")) / "state")
    try:
        outcome = spanwise("demo", "--keep", "--json", timeout_s=DEMO_HANG_S)
        assert outcome.code == 0, outcome.err
        yield Running(spanwise=spanwise, report=outcome.document, progress=outcome.err)
    finally:
        stopped = spanwise("down")
    assert stopped.code == 0, stopped.err
    assert left(before) == {}
