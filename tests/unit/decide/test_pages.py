"""Every code has a page; its command prints what the page shows, and its arithmetic leads there.

SPANWISE_UPDATE_GOLDEN=1 takes the shown lines from the command again (a line is known by what stands before its first figure): read the
diff, and do the arithmetic again where it fails.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from spanwise.cli.main import app
from spanwise.decide.codes import ALTERNATIVES, CAVEATS, FLIPS, MEANINGS, REASONS
from spanwise.facts.catalogue import engines, fabrics, gpus, model_config
from spanwise.intent.load import parse_intent
from tests.unit.decide.pages import DIRECTORY, PAGES, REPOSITORY, Page, check, figure, figures, inputs, read, squeezed

SOURCE = REPOSITORY / "src" / "spanwise" / "decide"
_FIGURE = re.compile(r"\d+(?:\.\d+)?")
OVERVIEW = (REPOSITORY / "docs" / "verdicts.md").read_text("utf-8")


def codes_in_source() -> set[str]:
    """Every literal that is given as a code: ``code=``, ``code = ``, a flip's ``what``, a caveat's first word."""
    found: set[str] = set()
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            given: list[ast.expr] = []
            if isinstance(node, ast.keyword) and node.arg in ("code", "what"):
                given.append(node.value)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name) and target.id == "code":
                        given.append(node.value)
                    elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = zip(target.elts, node.value.elts, strict=True)
                        given += [value for name, value in pairs if isinstance(name, ast.Name) and name.id == "code"]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"_caveat": 0, "_load": 1}.get(node.func.id)
                given += [] if place is None else [node.args[place]]
            for value in given:
                found |= literals(value)
    return found


def literals(value: ast.expr) -> set[str]:
    """The strings that an expression may be."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return {value.value}
    if isinstance(value, ast.IfExp):
        return literals(value.body) | literals(value.orelse)
    return set()


def test_the_registry_is_what_the_source_emits() -> None:
    assert codes_in_source() == set(MEANINGS)


def test_every_code_has_its_meaning_once() -> None:
    assert [*REASONS, *ALTERNATIVES, *FLIPS, *CAVEATS] == list(MEANINGS)


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.name for path in PAGES} == {f"{code}.md" for code in MEANINGS}


def test_the_overview_links_to_every_page() -> None:
    assert set(re.findall(r"\]\(verdicts/([\w.]+)\.md\)", OVERVIEW)) == set(MEANINGS)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(words: list[str], intent: str | None) -> list[str]:
        (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
        if intent is not None:
            (tmp_path / "intent.yaml").write_text(intent, "utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(sys, "argv", words)
        app(words[1:], standalone_mode=False)
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_shows_what_its_command_prints(path: Path, command) -> None:
    page = read(path)
    assert page.command[:2] == ["spanwise", "decide"]
    printed = command(page.command, page.intent)
    if os.environ.get("SPANWISE_UPDATE_GOLDEN"):
        path.write_text(refreshed(page.text, page.shown, printed), "utf-8")
        page = read(path)
    lines = {squeezed(line) for line in printed}
    for line in page.shown:
        assert squeezed(line) in lines, (
            f"{path.name} shows a line that `{' '.join(page.command)}` does not print:\n{line}"
        )
    said = re.compile(rf"(?<![\w.]){re.escape(page.code)}(?![\w.])")
    assert any(said.search(line) for line in page.shown), "the lines shown do not hold the code"


# What was measured, for lines that say so.
ACCURACY = figures((REPOSITORY / "docs" / "accuracy.md").read_text("utf-8"))
# Counts, bytes and bits, and what turns one unit into another.
UNITS = {0.0, 1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 100.0, 1000.0, 1e6, 1e9}


def known(page: Page, printed: list[str]) -> tuple[set[float], set[float]]:
    """Figures that a page's arithmetic may start from: as they are written, and to five digits."""
    text = "\n".join(page.shown)
    asked = page.intent or (REPOSITORY / page.command[2]).read_text("utf-8")
    written = UNITS | figures(text) | figures(asked) | figures(" ".join(page.command))
    # The formula's own constants, and what the sources say.
    written |= figures(page.text.split("## Formula")[1].split("## Example")[0])
    intent = parse_intent(asked)
    written |= {float(value) for value in model_config(intent.model).values() if isinstance(value, int | float)}
    facts = figures("\n".join(printed[next(place for place, line in enumerate(printed) if line.startswith("facts")) :]))
    for held in (*gpus().values(), *fabrics().values(), *engines().values()):
        facts |= {fact.value for fact in held[0]}
        facts |= {value for fact in held[0] for value in (fact.low, fact.high) if value is not None}
    return written, {float(f"{value:.5g}") for value in facts}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_pages_arithmetic_starts_from_what_the_command_prints(path: Path, command) -> None:
    """Every figure by hand is shown above, asked for, a fact or a constant of the formula, or calculated before: none can drift."""
    page = read(path)
    written, facts = known(page, command(page.command, page.intent))
    for line in page.arithmetic:
        measured = ACCURACY if "# accuracy.md: " in line else set()
        for value in inputs(line):
            assert value in written | measured or float(f"{value:.5g}") in facts, (
                f"{path.name}: where does {value:g} come from?\n{line}"
            )
        written.add(figure(check(line)))


def test_an_input_that_the_example_does_not_print_is_found(command) -> None:
    page = read(DIRECTORY / "fabric.latency_us.md")
    written, facts = known(page, command(page.command, page.intent))
    assert not inputs("13.2 - 6.6 = 6.6 ms  # to be gained per token") <= written | facts


def refreshed(text: str, shown: list[str], printed: list[str]) -> str:
    def label(line: str) -> str:
        return re.split(r"\d", squeezed(line))[0]

    for line in shown:
        same = [other for other in printed if label(other) == label(line)]
        if len(same) == 1:
            text = text.replace(line, same[0])
    return text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_pages_arithmetic_leads_to_a_figure_that_it_shows(path: Path) -> None:
    page = read(path)
    leads_to: set[str] = set()
    for line in page.arithmetic:
        result = check(line)
        sum_, relation = line.split("  #")[0], re.search(r" ([<>]=?) ", line)
        assert re.search(r"[^\d.,\s=]", sum_.split(" = ")[0]), f"nothing is calculated: {line}"
        # Two figures compared are what a code stands on: either may be the one that the command prints.
        leads_to |= set(_FIGURE.findall(sum_.replace(",", ""))) if relation else {result.replace(",", "")}
    figures = set(_FIGURE.findall(" ".join(page.shown)))
    assert leads_to & figures, (leads_to, figures)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_its_parts(path: Path) -> None:
    page = read(path)
    assert page.title == f"# `{page.code}`"
    assert page.meaning == MEANINGS[page.code]
    assert re.findall(r"^## (.*)$", page.text, re.MULTILINE) == ["Formula", "Source", "Example", "What to do"]
    assert all(part.strip() for part in page.text.split("\n## ")[1:])


def test_explain_says_the_meaning_and_a_page_that_exists(command) -> None:
    said, *_, where = command(["spanwise", "decide", "--explain", "slower"], None)
    assert said == MEANINGS["slower"]
    assert (REPOSITORY / where.split(": ")[1]).parent == DIRECTORY
    assert (REPOSITORY / where.split(": ")[1]).is_file()


@pytest.mark.parametrize(
    "line", ["2 x 3 = 7 ms  # wrong", "1.25 + 1.25 = 2.4 s  # rounding is half a digit", "4 > 5  # no"]
)
def test_wrong_arithmetic_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        check(line)
