from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.command import refused, spanwise
from tests.unit.plans import ARTICLE, TWO_HOSTS, document

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(document(ARTICLE)))
    b.write_text(json.dumps(document(TWO_HOSTS)))
    return a, b


def test_table(files: tuple[Path, Path]) -> None:
    code, shown, err = spanwise("diff", *files)
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert lines["layout.pipeline_parallel_size"] == ["1", "2"]
    assert lines["expected.hosts[1]"] == ["-", "host-2"]
    assert len({line.index(word) for line, word in zip(shown.splitlines()[:2], ("/", ARTICLE.hash), strict=True)}) == 1


def test_json_and_no_difference(files: tuple[Path, Path]) -> None:
    code, shown, _ = spanwise("diff", *files, "--json")
    assert code == 0
    answer = json.loads(shown)
    assert (answer["schema"], answer["of"]) == ("spanwise.diff/1", "spanwise.plan/1")
    assert {"path": "layout.pipeline_parallel_size", "change": "changed", "a": 1, "b": 2} in answer["differences"]
    assert spanwise("diff", files[0], files[0])[1] == "no difference\n"


def test_bad_input(files: tuple[Path, Path], tmp_path: Path) -> None:
    verdict = tmp_path / "v.json"
    verdict.write_text('{"schema": "spanwise.verdict/1"}')
    assert "A is a spanwise.plan/1 and B a spanwise.verdict/1" in refused("diff", files[0], verdict)
    assert "absent.json" in refused("diff", files[0], "absent.json", "--json")
    assert "directory" in refused("diff", files[0], tmp_path)
