"""Where reading a manifest stands: paths become lines, differences become remarks, refusals become errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spanwise.errors import ManifestError
from spanwise.render.lint.documents import Document, Path, dotted


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One difference between a manifest and what is run of it.

    Attributes:
        kind: ``changed``, ``left_out`` or ``not_run``.
        where: Path in the manifest.
        what: What stands there; never the value of an environment variable.
        reason: Why.
        now: What is used instead; empty where nothing is.
    """

    kind: Literal["changed", "left_out", "not_run"]
    where: str
    what: str
    reason: str
    now: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Code that a manifest names and that will be run, because the user allowed it."""

    where: str
    what: str


@dataclass(slots=True)
class Reading:
    """Where reading stands: turns paths into lines, collects remarks, raises refusals.

    ``code`` is a list where the manifest's own code may be run: what will be is collected there. None: it is refused.
    """

    file: str
    document: Document
    base: Path = ()
    line_offset: int = 0
    remarks: list[Remark] = field(default_factory=list)
    lenient: bool = False
    code: list[Code] | None = None

    def where(self, path: Path) -> str:
        """File, line and path, for messages."""
        return f"{self.file}:{self.document.line(path) + self.line_offset}: {dotted((*self.base, *path))}"

    def refuse(self, path: Path, what: str, remedy: str) -> ManifestError:
        """The error to raise."""
        return ManifestError(what, where=self.where(path), remedy=remedy)

    def forbid(self, path: Path, what: str, remedy: str) -> None:
        """Refuse code that is not known; only note it where nothing will be run.

        Raises:
            ManifestError: Not lenient.
        """
        if not self.lenient:
            raise self.refuse(path, what, remedy)
        self.remark("not_run", path, str(path[-1])[:80], what)

    def runs(self, path: Path, what: str) -> None:
        """List code that will be run; only for a reading that collects it."""
        if self.code is not None:
            self.code.append(Code(where=dotted((*self.base, *path))[:200], what=what))

    def remark(self, kind: Literal["changed", "left_out", "not_run"], path: Path, what: str, reason: str) -> None:
        """Note one difference."""
        self.remarks.append(Remark(kind=kind, where=dotted((*self.base, *path))[:200], what=what[:200], reason=reason))
