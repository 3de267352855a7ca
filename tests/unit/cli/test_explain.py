"""``spanwise decide --explain``: the sentence, the page's formula and example, and what to do with a code that is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spanwise.cli import explain
from spanwise.decide.codes import MEANINGS
from tests.unit.cli.command import refused, spanwise

if TYPE_CHECKING:
    from pathlib import Path


def test_the_pages_formula_and_example_are_shown() -> None:
    code, out, err = spanwise("decide", "--explain", "weights_do_not_fit")
    assert (code, err) == (0, "")
    assert out.startswith(MEANINGS["weights_do_not_fit"] + "\n")
    assert "\n    usable  =  memory x gpu_memory_utilization" in out
    assert "spanwise decide examples/llama-3-70b-one-gpu.yaml" in out
    assert "0.9 x 79.1 = 71.19 GiB" in out
    assert "```" not in out
    assert out.splitlines()[-1].endswith("docs/verdicts/weights_do_not_fit.md")


def test_json_holds_the_same() -> None:
    document = json.loads(spanwise("decide", "--explain", "slower", "--json")[1])
    assert document["meaning"] == MEANINGS["slower"]
    assert "TPOT of every larger layout" in document["formula"]
    assert "PP=2" in document["example"]
    assert document["page"] == "docs/verdicts/slower.md"


@pytest.mark.parametrize("code", MEANINGS)
def test_every_code_has_both_parts(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain.explain(code, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["formula"]
    assert document["example"]


def test_without_the_pages_the_sentence_remains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain, "_CHECKOUT", tmp_path)
    explain.explain("slower", as_json=False)
    said, *_, where = capsys.readouterr().out.splitlines()
    assert said == MEANINGS["slower"]
    assert "docs/verdicts/slower.md" in where


@pytest.mark.parametrize(
    ("code", "near"),
    [("weights_do_not_fot", "weights_do_not_fit"), ("memory", "gpu.memory_gib"), ("x" * 500, None), ("foo", None)],
)
def test_a_code_that_is_none_names_few_and_the_overview(code: str, near: str | None) -> None:
    said = refused("decide", "--explain", code)
    assert "docs/verdicts.md" in said
    assert len(said) < 300
    assert near is None or f"did you mean {near}" in said
