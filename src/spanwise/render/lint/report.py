"""Where findings are collected while a document is walked: knows the file, and turns paths into lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spanwise.render.lint.documents import Document, Path, dotted
from spanwise.render.lint.finding import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user said beside the file.

    Attributes:
        gpus_per_node: GPUs of one host, where a bare command or Serve config does not show it; None when unknown.
        kinds_beside: Kinds of the objects in the files that were given together with this one.
    """

    gpus_per_node: int | None = None
    kinds_beside: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Report:
    """Findings of one document. ``base`` is the path of an embedded document, ``line_offset`` the lines above it.

    ``kinds`` are those of all objects in the same file and the files beside it.
    """

    file: str
    document: Document
    options: Options = field(default_factory=Options)
    base: Path = ()
    line_offset: int = 0
    fixed_line: int | None = None
    findings: list[Finding] = field(default_factory=list)
    kinds: frozenset[str] = frozenset()

    def add(self, code: str, severity: Severity, path: Path, message: str, fix: str) -> None:
        """Record one finding at ``path`` (inside this document)."""
        line = self.fixed_line if self.fixed_line is not None else self.document.line(path) + self.line_offset
        self.findings.append(
            Finding(
                code=code,
                severity=severity,
                file=self.file,
                line=line,
                path=dotted((*self.base, *path)),
                message=message,
                fix=fix,
            )
        )

    def embedded(self, document: Document, path: Path, style: str | None) -> Report:
        """A report for a document that stands as text at ``path``; findings go into the same list.

        A literal block (``|``) keeps its lines, so findings get their own; other styles get the line of the text.
        """
        start = self.document.line(path) + self.line_offset
        return Report(
            file=self.file,
            document=document,
            options=self.options,
            base=(*self.base, *path),
            line_offset=start,
            fixed_line=None if style == "|" else start,
            findings=self.findings,
            kinds=self.kinds,
        )


def mapping(value: Any) -> dict[str, Any]:
    """``value`` where it is a mapping, else an empty one: the schema check has said so already."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """``value`` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def whole(value: Any) -> int | None:
    """``value`` as a whole number where it is one (also as text, as Kubernetes quantities often are)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None


def duplicates(report: Report) -> None:
    """Keys given twice in one mapping of the report's document."""
    for path, first in report.document.duplicates:
        report.add(
            "key_repeated",
            "error",
            path,
            f"the key {str(path[-1])[:60]!r} is given twice in one mapping "
            f"(first in line {first + report.line_offset}); YAML readers keep one of them silently",
            "remove one",
        )
