"""Progress in a pipe: every step is said, news of a running one only when nothing was said for a while."""

from __future__ import annotations

import pytest

from spanwise.cli.live import QUIET_S, Plain


def test_news_come_seldom_and_steps_always(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    say = Plain(clock=lambda: now)
    say("asking")
    for number in range(1, 61):  # a prompt per second, for a minute
        now = float(number)
        say.tick(f"{number} of 60")
    say("asked")
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["asking", "20 of 60", "40 of 60", "60 of 60", "asked"]


def test_a_step_counts_as_news(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    say = Plain(clock=lambda: now)
    now = QUIET_S - 1
    say("a step")
    now = QUIET_S + 1
    say.tick("news")
    assert "news" not in capsys.readouterr().err
