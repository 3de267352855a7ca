"""docs/lint.md lists every code that lint has, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "lint.md"
# What makes a finding; its code is the first constant argument that looks like one.
MAKERS = {"add", "refuse", "_miss", "_at_least", "_refused", "Mismatch", "Departure", "Finding"}
CODE = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")


SEVERITIES = {"error", "warning", "info"}
# Makers whose severity stands in themselves.
FIXED = {"refuse": "error", "_miss": "info", "_at_least": "error", "_refused": "error", "Mismatch": "error"}


def in_source() -> dict[str, set[str]]:
    """Severities by code."""
    found: dict[str, set[str]] = {}
    for module in sorted((ROOT / "src" / "spanwise" / "render" / "lint").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in MAKERS:
                words = [word.value for word in node.keywords if word.arg in ("code", "severity")]
                texts = [
                    item.value
                    for given in (*node.args, *words)
                    for item in ((given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,))
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                ]
                for code in [text for text in texts if CODE.fullmatch(text)][:1]:
                    fixed = {FIXED[called]} if called in FIXED else set()
                    found.setdefault(code, set()).update(fixed or SEVERITIES & set(texts))
    return found


def test_every_code_has_its_line() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    listed = [code for row in rows for code in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])]
    assert len(listed) == len(set(listed))
    source = in_source()
    assert set(listed) == set(source)
    assert len(listed) > 90
    for row in rows:
        said = set(re.findall(r"[a-z]+", row.split("|")[2]))
        assert said <= SEVERITIES
        for code in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1]):
            assert said == source[code], code
