"""Shorthands to ask lint."""

from __future__ import annotations

from spanwise.render.lint import Finding, Options, in_order, lint


def findings(text: str, gpus_per_node: int | None = None) -> tuple[Finding, ...]:
    """Findings on ``text``, in order."""
    return in_order(lint(text.encode(), "file", Options(gpus_per_node=gpus_per_node)))


def codes(text: str, gpus_per_node: int | None = None) -> dict[str, tuple[str, int]]:
    """Severity and line by code; infos left out."""
    return {item.code: (item.severity, item.line) for item in findings(text, gpus_per_node) if item.severity != "info"}
