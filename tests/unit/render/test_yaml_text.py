from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.render.lint.documents import read_documents
from spanwise.render.yaml_text import yaml_text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=80))
def test_text_stays_text(text: str) -> None:
    assert yaml.safe_load(yaml_text({"key": text})) == {"key": text}
    if text.isprintable():
        (document,) = read_documents(yaml_text({"key": text}), "test")
        assert document.value == {"key": text}


@pytest.mark.parametrize(
    "word",
    [
        "y",
        "N",
        "1",
        "-1",
        "1e3",
        "9e12345678901234",
        "12e5",
        "1_000",
        ".5",
        "5.",
        "0x1f",
        "0o17",
        "0b1",
        "1.5e-3",
        "true",
        "No",
        "off",
        "null",
        "~",
        "2026-01-01",
        "1:30",
        "=",
        "<<",
    ],
)
def test_words_that_some_reader_takes_for_something_else_are_quoted(word: str) -> None:
    assert yaml_text({"key": word}) == f"key: '{word}'\n"


@pytest.mark.parametrize("word", ["0.1.0", "2.60.0", "host-1", "e5", "4Gi", "abc", "nvidia.com/gpu", "yes-no", "1e3x"])
def test_plain_words_stay_plain(word: str) -> None:
    assert yaml_text({"key": word}) == f"key: {word}\n"
