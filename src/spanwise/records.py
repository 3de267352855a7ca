"""Records: every automatic act leaves one (time, reason, before, after, plan hash, policy)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One automatic act.

    Args:
        time_s: Unix time.
        act: What was done, as a verb phrase (``start gang``, ``refuse plan``).
        reason: Why, in one sentence with its numbers.
        subject: What it was done to (gang id, host, model).
        before: State before, as JSON-able values.
        after: State after, as JSON-able values.
        plan_hash: The plan in force, or None when there was none.
        policy: Which rule acted.
    """

    time_s: float
    act: str
    reason: str
    subject: str
    before: dict[str, Any]
    after: dict[str, Any]
    plan_hash: str | None
    policy: str

    def as_json(self) -> dict[str, Any]:
        """The record as one JSON object."""
        return asdict(self)
