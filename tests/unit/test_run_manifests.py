"""`make bench-manifests`: what is run, what counts as answered, and what is carried over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import run_manifests as bench  # noqa: E402 - a tool beside the package

SERVE = ROOT / "tests" / "golden" / "article" / "ray" / "serve.yaml"


def test_every_golden_file_that_serves_something_is_run_and_fits_a_lab() -> None:
    found = bench.golden_files(ROOT / "tests" / "golden")
    every = {path for name in ("rayservice.yaml", "serve.yaml") for path in (ROOT / "tests" / "golden").rglob(name)}
    assert every <= set(found)
    scripts = [path for path in (ROOT / "tests" / "golden").rglob("*.sh") if path not in found]
    assert scripts
    assert all("ray start --address=" in path.read_text() for path in scripts), "they only join another host"
    assert all(bench.needed_bytes(path) > 0 for path in found), "none that lab run would refuse"


MODEL: dict[str, Any] = {"name": "m", "answered": True, "completion_tokens": 3, "error": None}


@pytest.mark.parametrize(
    ("code", "out", "outcome"),
    [
        (0, {"models": [MODEL]}, "answered"),
        (0, {"models": []}, "failed"),
        (0, {"models": [{**MODEL, "completion_tokens": 0}]}, "failed"),
        (0, {"models": [MODEL, {**MODEL, "answered": False}]}, "failed"),
        (1, {"models": [{**MODEL, "answered": False, "error": "no answer"}]}, "silent"),
        (2, {"error": "refused"}, "failed"),
        (3, {}, "failed"),
        (None, {}, "failed"),
    ],
)
def test_only_an_answer_of_every_model_counts(
    code: int | None, out: dict[str, Any], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "command", lambda *_: (code, json.dumps(out), "last words"))
    monkeypatch.setattr(bench, "free_bytes", lambda: 10**12)
    found = bench.run(SERVE, 1.0, 0.0)
    assert found["outcome"] == outcome
    assert (found["error"] is None) == (outcome == "answered")
    assert found["sha256"] == bench.sha256(SERVE)


def test_what_the_machine_cannot_hold_is_not_run_and_never_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "command", lambda *_: pytest.fail("started"))
    monkeypatch.setattr(bench, "free_bytes", lambda: 2**30)
    found = bench.run(SERVE, 1.0, 0.0)
    assert (found["outcome"], found["exit_code"]) == ("not_run", None)
    assert "GiB" in found["error"]


def test_only_answered_runs_of_the_newest_results_are_carried_over(tmp_path: Path) -> None:
    assert bench.answered_before(tmp_path) == {}
    runs = [
        {"file": "a", "outcome": "answered"},
        {"file": "b", "outcome": "silent"},
        {"file": "c", "outcome": "not_run"},
    ]
    bench.save(tmp_path / "20260101T000000Z-x.json", {"runs": [{"file": "old", "outcome": "answered"}]})
    bench.save(tmp_path / "20260102T000000Z-x.json", {"runs": runs})
    assert set(bench.answered_before(tmp_path)) == {"a"}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json"]
