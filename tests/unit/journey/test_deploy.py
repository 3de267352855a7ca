"""The other end of the driver's pipe: events are told when they come, and a lab that went away is named."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from spanwise.errors import ClusterError, LabError
from spanwise.journey import deploy

LINES = """
import json, sys, time
for event in {events!r}:
    print(json.dumps(event), flush=True)
    time.sleep(0.2)
sys.exit({code})
"""


def driver(monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], code: int = 0) -> None:
    """Stands in for the process on the cluster: only its pipe is of interest here."""
    command = [sys.executable, "-c", LINES.format(events=events, code=code)]
    monkeypatch.setattr(
        deploy,
        "_start",
        lambda _target, errors_to: subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_to,
            text=True,
            start_new_session=True,
        ),
    )


def test_an_event_is_told_before_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    driver(monkeypatch, [{"event": "submitted"}, {"event": "waiting", "after_s": 20}, {"event": "ready", "gangs": []}])
    told: list[tuple[str, float]] = []
    answer = deploy.drive(
        deploy.Target(ray_address="x"), {}, lambda event: told.append((event["event"], time.monotonic()))
    )
    ended = time.monotonic()
    assert answer["event"] == "ready"
    assert [name for name, _ in told] == ["submitted", "waiting"]
    # Both came at least one pause of the sender before the end: neither was held back for its successor.
    assert ended - told[1][1] >= 0.2
    assert told[1][1] - told[0][1] >= 0.1


def test_a_driver_that_dies_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, [{"event": "submitted"}], code=7)
    with pytest.raises(ClusterError, match="status 7"):
        deploy.drive(deploy.Target(ray_address="x"), {}, lambda _: None)


def test_a_lab_that_was_taken_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, [{"event": "submitted"}], code=9)
    monkeypatch.setattr(deploy, "_lab_is_gone", lambda _: True)
    with pytest.raises(LabError, match="taken down meanwhile"):
        deploy.drive(deploy.Target(lab=object()), {}, lambda _: None)  # type: ignore[arg-type]
