"""What the driver's events say to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]


class Told:
    """Turns events into progress lines, and remembers what must be known when the driver goes silent."""

    def __init__(self, progress: Progress, *, logs: str) -> None:
        """Ready to be told.

        Args:
            progress: Takes one line per step.
            logs: Where somebody can see what a starting engine does.
        """
        self._progress = progress
        self._patience = f"; slow is fine, one to three minutes are usual on two cores; {logs} shows what they do"
        self.submitting = False
        """True once something may be on the cluster that this request put there."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Tell one event that is not the answer."""
        self.submitting |= event["event"] in ("submitting", "submitted")
        words = self._words(event)
        if words:
            self._progress(words)

    def _words(self, event: dict[str, Any]) -> str:
        match event["event"]:
            case "joining" | "joined" | "submitting":
                return ""
            case "connected":
                hosts = event["hosts"]
                return f"connected to Ray: {hosts} host{'' if hosts == 1 else 's'}"
            case "preparing":
                return "describing the gangs to Ray Serve, which imports vLLM: seconds, or a minute on a busy machine"
            case "submitted":
                return "gangs submitted to Ray Serve; engines start (the slow part is importing vLLM)"
            case "waiting":
                patience, self._patience = self._patience, ""  # said once, with the first such line
                return f"engines are still starting after {event['after_s']} s{patience}"
            case "serving":
                return "already served, nothing to do"
            case "replacing":
                there = ", ".join(f"{gang} ({what})" for gang, what in sorted(event["gangs"].items()))
                return f"replacing what is there: {there}"
            case "deployment":
                return f"{event['name']} is {'starting' if event['state'] == 'UPDATING' else event['state'].lower()}"
            case _:
                return str(event["event"])
