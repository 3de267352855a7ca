"""One Fact: a value with its unit, source, date and kind. Nothing that a verdict uses is without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["catalogue", "measured", "assumption", "stated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A single known thing.

    Attributes:
        name: ``<subject>.<quantity>``, for example ``H100-80GB-SXM.memory_bandwidth``.
        value: In ``unit``.
        unit: SI spelling, for example ``B``, ``B/s``, ``s``, ``1/s``.
        source: Name and URL or document.
        date: ISO date the source was read or the measurement taken.
        kind: ``catalogue`` (published), ``measured`` (on this hardware), ``assumption`` (nobody published it),
            ``stated`` (the intent says so).
        low: Lower end of the range the true value should lie in; None where the source gives none.
        high: Upper end of that range.
    """

    name: str
    value: float
    unit: str
    source: str
    date: str
    kind: Kind
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The contract's form; the range only where there is one."""
        document: dict[str, Any] = {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "date": self.date,
            "kind": self.kind,
        }
        if self.low is not None and self.high is not None:
            document |= {"low": self.low, "high": self.high}
        return document
