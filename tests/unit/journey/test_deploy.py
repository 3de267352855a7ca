"""The other end of the driver's pipe: events are told when they come, and a lab that went away is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spanwise.errors import ClusterError, Interrupted, LabError
from spanwise.journey import deploy
from spanwise.journey.events import Told
from spanwise.journey.up import links_words
from tests.unit.plans import LOCAL, TWO_HOSTS

# Says the next event only once the one before was heard; one that is held back for its successor ends in exit 5.
LINES = """
import json, pathlib, sys, time
for number, event in enumerate({events!r}):
    print(json.dumps(event), flush=True)
    for _ in range(600 if number in {awaited!r} else 0):
        if pathlib.Path({folder!r}, str(number)).exists():
            break
        time.sleep(0.05)
    else:
        if number in {awaited!r}:
            sys.exit(5)
sys.exit({code})
"""


def driver(
    monkeypatch: pytest.MonkeyPatch,
    events: list[dict[str, Any]],
    code: int = 0,
    *,
    folder: str = "",
    awaited: tuple[int, ...] = (),
) -> None:
    """Stands in for the process on the cluster: only its pipe is of interest here."""
    script = LINES.format(events=events, code=code, folder=folder, awaited=awaited)
    monkeypatch.setattr(
        deploy,
        "_start",
        lambda _target, errors_to: subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_to,
            text=True,
            start_new_session=True,
        ),
    )


def test_an_event_is_told_before_the_next_one_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events = [{"event": "submitted"}, {"event": "waiting", "after_s": 20}, {"event": "ready", "gangs": []}]
    driver(monkeypatch, events, folder=str(tmp_path), awaited=(0, 1))
    told: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        (tmp_path / str(len(told))).touch()
        told.append(event["event"])

    assert deploy.drive(deploy.Target(ray_address="x"), {}, hear)["event"] == "ready"
    assert told == ["submitted", "waiting"], "the answer is not told, all others are"


def test_a_driver_that_dies_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, [{"event": "submitted"}], code=7)
    with pytest.raises(ClusterError, match="status 7"):
        deploy.drive(deploy.Target(ray_address="x"), {}, lambda _: None)


@pytest.mark.parametrize(
    "last",
    [
        {"event": "submitted"},
        {"event": "failed", "kind": "ClusterError", "what": "Ray stopped answering"},
        {"event": "failed", "kind": "EngineError", "what": "a replica died"},
    ],
)
def test_a_lab_that_was_taken_down_is_named(monkeypatch: pytest.MonkeyPatch, last: dict[str, Any]) -> None:
    driver(monkeypatch, [last], code=9)
    monkeypatch.setattr(deploy, "_lab_is_gone", lambda _: True)
    with pytest.raises(LabError, match="taken down meanwhile") as error:
        deploy.drive(deploy.Target(lab=object()), {}, lambda _: None)  # type: ignore[arg-type]
    assert "bring it up" in error.value.remedy


@pytest.mark.parametrize(
    ("event", "clean_up", "says", "removes"),
    [
        ("connected", True, "nothing was changed", False),
        ("submitting", True, "the gangs that were starting were removed, the Ray cluster is still up", True),
        ("submitting", False, None, False),
    ],
)
def test_an_interrupt_says_what_became_of_the_gangs(
    monkeypatch: pytest.MonkeyPatch, event: str, clean_up: bool, says: str | None, removes: bool
) -> None:
    asked = []

    def interrupted(_target: Any, request: dict[str, Any], on_event: Any) -> dict[str, Any]:
        asked.append(request["do"])
        if request["do"] == "remove":
            return {"event": "removed", "removed": True}
        on_event({"event": event, "hosts": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "drive", interrupted)
    with pytest.raises(Interrupted if says else KeyboardInterrupt) as stopped:
        deploy.deploy(deploy.Target(ray_address="x"), [], lambda _: None, clean_up=clean_up)
    if says:
        assert says in str(stopped.value)
        assert stopped.value.exit_code == 130  # type: ignore[union-attr]
    assert asked == (["deploy", "remove"] if removes else ["deploy"])


def test_events_in_words() -> None:
    lines: list[str] = []
    told = Told(lines.append, logs="`spanwise lab logs HOST`")
    told({"event": "replacing", "gangs": {"b-0": "starting", "a-0": "plan 12ab"}})
    told({"event": "waiting", "after_s": 90})
    told({"event": "waiting", "after_s": 110})
    told({"event": "joined"})
    assert lines[0] == "replacing what is there: a-0 (plan 12ab), b-0 (starting)"
    assert "slow is fine" in lines[1]
    assert "spanwise lab logs HOST" in lines[1]
    assert lines[2:] == ["engines are still starting after 110 s"], "the hint comes once, however late the first line"


def test_links_that_are_not_limited_are_said() -> None:
    assert "ethernet-10g" in links_words([TWO_HOSTS])
    assert "spanwise lab up --link" in links_words([TWO_HOSTS])
    assert (
        links_words([LOCAL.model_copy(update={"expected": LOCAL.expected.model_copy(update={"fabric": "none"})})]) == ""
    )
