"""The pages under docs/verdicts, read as what they promise: a command, lines that it prints, arithmetic that leads to a figure."""

from __future__ import annotations

import ast
import math
import operator
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DIRECTORY = REPOSITORY / "docs" / "verdicts"
PAGES = sorted(DIRECTORY.glob("*.md"))

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NUMBER = r"-?[\d,]+(?:\.\d+)?"
_LINE = re.compile(
    rf"(?P<left>.+?) (?P<relation>=|<=|>=|<|>) (?P<right>{_NUMBER})(?: (?P<unit>[^#]*?))?\s*# (?P<words>.+)"
)
_IN_TEXT = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w]*[a-df-zA-Z_])")
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_RELATIONS = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_FUNCTIONS = {"min": min, "max": max, "ceil": math.ceil, "floor": math.floor, "sqrt": math.sqrt, "ln": math.log}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page, in its parts."""

    code: str
    title: str
    meaning: str
    text: str
    intent: str | None
    command: list[str]
    shown: list[str]
    arithmetic: list[str]


def read(path: Path) -> Page:
    """The page at ``path``; an assertion names what is missing."""
    text = path.read_text("utf-8")
    blocks: dict[str, list[str]] = {}
    for language, body in _BLOCK.findall(text):
        blocks.setdefault(language, []).append(body)
    for language in ("sh", "text", "calc"):
        assert len(blocks.get(language, [])) == 1, f"{path.name} has not exactly one block of {language}"
    paragraphs = text.split("\n\n")
    return Page(
        code=path.name.removesuffix(".md"),
        title=paragraphs[0],
        meaning=" ".join(paragraphs[1].split()),
        text=text,
        intent=blocks["yaml"][0] if "yaml" in blocks else None,
        command=shlex.split(blocks["sh"][0]),
        shown=[line for line in blocks["text"][0].splitlines() if line.strip()],
        arithmetic=[line for line in blocks["calc"][0].splitlines() if line.strip()],
    )


def squeezed(line: str) -> str:
    """A line with its columns closed up."""
    return " ".join(line.split())


def figure(text: str) -> float:
    """A number as pages write it."""
    return float(text.replace(",", ""))


def figures(text: str) -> set[float]:
    """Every number in a text, as pages, commands and YAML write them; not those inside a word."""
    return {figure(found) for found in _IN_TEXT.findall(text)}


def inputs(line: str) -> set[float]:
    """What a line of arithmetic is given: all figures of its left side, and both sides of a comparison."""
    found = _LINE.fullmatch(line)
    assert found, line
    given = found["left"] if found["relation"] == "=" else f"{found['left']} {found['right']}"
    # 2^30 and its like are units, not figures.
    return figures(re.sub(r"(?:2|10)\^\d+", " ", given))


def check(line: str) -> str:
    """Do one line of arithmetic, ``expression = result unit  # words``; the result as written. ``x`` is times, ``^`` a power."""
    found = _LINE.fullmatch(line)
    assert found, f"not of the form `expression = result unit  # words`: {line}"
    left, right = evaluate(found["left"]), found["right"]
    if found["relation"] == "=":
        decimals = len(right.partition(".")[2])
        assert abs(left - figure(right)) <= 0.5000001 * 10**-decimals, f"{line}\n  is {left!r}"
    else:
        assert _RELATIONS[found["relation"]](left, figure(right)), f"{line}\n  left side is {left!r}"
    return right


def evaluate(expression: str) -> float:
    """Arithmetic with numbers only."""
    python = re.sub(r"(?<=[\d)]) x (?=[\d(a-z-])", " * ", expression).replace("^", "**")
    python = re.sub(r"(?<=\d),(?=\d{3})", "", python)
    return _value(ast.parse(python.strip(), mode="eval").body)


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp):
        return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return float(_FUNCTIONS[node.func.id](*map(_value, node.args)))
    raise AssertionError(f"not arithmetic: {ast.unparse(node)}")
