"""What the driver says about deployments, in words for people."""

from __future__ import annotations

import pytest

from spanwise.serve.driver import state_word
from spanwise.serve.follow import reason_of


@pytest.mark.parametrize(
    ("state", "word"), [("UPDATING", "starting"), ("HEALTHY", "healthy"), ("DEPLOY_FAILED", "deploy_failed")]
)
def test_a_deployment_that_is_not_ready_yet_is_starting(state: str, word: str) -> None:
    assert state_word(state) == word


def test_the_reason_is_the_last_error_of_the_message() -> None:
    assert reason_of("Traceback\n  File x\nValueError: no room\n  at y") == "ValueError: no room"
    assert reason_of(None) == "no reason given"
