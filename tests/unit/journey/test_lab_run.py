"""What `lab run` decides before anything is started, and how it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spanwise.cli.lab_run import differences, document, summary
from spanwise.errors import LayoutError, ManifestError
from spanwise.journey import lab_run
from spanwise.journey.client import Reply
from spanwise.journey.lab_run import Asked, Options, Report, load, prepare
from spanwise.lab.spec import HostState, LabSpec, LabState
from spanwise.plan.types import Setting
from spanwise.render import render
from tests.unit.plans import CASES, make_plan


@pytest.fixture(autouse=True)
def _plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_run, "free_bytes", lambda: 10**12)


def prepared(*plans: Any, **options: Any) -> Any:
    return prepare(render(plans, "kuberay")[0].text.encode(), "m.yaml", Options(**options))


def test_a_layout_that_the_manifests_own_model_forbids_is_not_hidden_by_the_small_one() -> None:
    with pytest.raises(LayoutError, match="3"):
        prepared(make_plan(tensor=3))
    lengths = Setting(name="VLLM_PP_LAYER_PARTITION", value="50,40", reason="r", source="s")
    with pytest.raises(LayoutError, match="add up to 90"):
        prepared(make_plan(stages=2, hosts=2, environment=(lengths,)))
    assert prepared(make_plan(model="org/nobody-knows-it", tensor=3)).ranks == 3


def test_free_memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_run, "free_bytes", lambda: 2**30)
    with pytest.raises(LayoutError, match="this machine has 1 GiB free"):
        prepared(*CASES["article"])
    assert prepared(*CASES["article"], max_ranks=4).ranks == 4


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "none"), "\0"):
        with pytest.raises(ManifestError, match="cannot be read"):
            load(path)


def report(*, silent: bool) -> Report:
    rehearsal = prepared(*CASES["two-models"])
    lab = LabState(
        spec=LabSpec(hosts=4, gpus_per_host=4, link="unlimited", shapes=rehearsal.hosts, made_by="run"),
        isolation="userns",
        keeper_pid=1,
        token="t",
        keeper_started=1,
        hosts=tuple(
            HostState(name=f"host-{n}", address=f"10.77.0.{n}", domain="domain-1", gpus=1, init_pid=1, init_started=1)
            for n in range(1, 5)
        ),
        ray_address="10.77.0.1:6379",
        endpoint="http://127.0.0.1:1",
        created="now",
    )
    first, second = rehearsal.models
    answer = Reply(answer="Paris.", finish_reason="stop", completion_tokens=2, took_s=0.5)
    asked = (
        Asked(model=first, stands_in=first.shape.name, replicas=[["host-2", "host-3"]], reply=answer),
        Asked(model=second, stands_in=second.shape.name, replicas=[], error="no answer")
        if silent
        else Asked(model=second, stands_in=second.shape.name, replicas=[["host-4"], ["host-4"]], reply=answer),
    )
    return Report(
        rehearsal=rehearsal, lab=lab, asked=asked, phases_s={"lab up": 1.0}, peak_memory_bytes=2**30, kept=False
    )


def test_a_silent_model_shows_in_every_form() -> None:
    found = report(silent=True)
    assert not found.all_answered
    assert document(found)["all_answered"] is False
    assert [model["answered"] for model in document(found)["models"]] == [True, False]
    assert "SILENT" in summary(found)
    assert report(silent=False).all_answered
    assert "SILENT" not in summary(report(silent=False))


def test_the_same_difference_is_said_once() -> None:
    found = report(silent=False)
    lines = differences(found.rehearsal.remarks)
    assert len(lines) < len(found.rehearsal.remarks)
    assert [line for line in lines if "gpu_memory_utilization: 0.9 -> 0.1" in line and "[2 times]" in line]
    assert len(document(found)["differences"]) == len(found.rehearsal.remarks)
