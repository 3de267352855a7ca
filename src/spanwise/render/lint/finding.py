"""A finding: a stable code, where it is, what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
RANK: dict[str, int] = {"info": 0, "warning": 1, "error": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that lint has to say.

    Attributes:
        code: Stable name of the rule, for suppressions and dashboards.
        severity: ``error``: it will be refused or cannot work; ``warning``: it works, with a cost or a risk that is
            named; ``info``: a protection or a figure that is missing.
        file: As the user named it; ``-`` is standard input.
        line: Line in that file, from 1.
        path: Where in the document, as ``spec.rayClusterConfig``; empty for a command line.
        message: What is wrong, with the value.
        fix: What to do, as an instruction.
    """

    code: str
    severity: Severity
    file: str
    line: int
    path: str
    message: str
    fix: str

    def as_json(self) -> dict[str, Any]:
        """The finding as one JSON object."""
        return asdict(self)

    def at_least(self, severity: Severity) -> bool:
        """True where this finding is as bad as ``severity`` or worse."""
        return RANK[self.severity] >= RANK[severity]


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings without repetition, by file (as given), line, and severity; stable."""
    files = list(dict.fromkeys(finding.file for finding in findings))
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda item: (files.index(item.file), item.line, -RANK[item.severity], item.code)))
