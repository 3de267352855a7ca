"""The tree of errors: drawn as it is, an exit code per class, three parts per message."""

from __future__ import annotations

import inspect
import re

import pytest

from spanwise import errors

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.SpanwiseError)]


def test_the_drawing_shows_every_class_and_no_other() -> None:
    drawn = re.findall(r"(?:[├└]── |^    )(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(item.__name__ for item in CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_exit_codes_follow_the_contract(kind: type[errors.SpanwiseError]) -> None:
    roots = {errors.InputError: 2, errors.CheckFailed: 1, errors.Interrupted: 130}
    expected = next((code for root, code in roots.items() if issubclass(kind, root)), 3)
    assert kind.exit_code == expected
    assert kind.__doc__


def test_a_message_says_what_where_and_what_next() -> None:
    error = errors.LayoutError("TP=2 does not divide 9 heads", where="plan", remedy="use 1 or 3")
    assert str(error) == "plan: TP=2 does not divide 9 heads\n  -> use 1 or 3"
    assert error.as_json()["exit_code"] == 2
