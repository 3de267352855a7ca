"""Memory that a lab's processes hold, without counting shared pages twice."""

from __future__ import annotations

import threading
from pathlib import Path

from spanwise.lab.processes import descendants


def held_bytes(root: int) -> int:
    """Proportional set size of ``root`` and all its descendants (proc(5), smaps_rollup: Pss), plus their shared memory pages."""
    total = 0
    for pid in [root, *descendants(root)]:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
        except (OSError, ValueError, IndexError):
            continue  # it ended while we looked, or belongs to another user
    return total


class PeakMemory:
    """Samples `held_bytes` in the background; ``peak_bytes`` is the largest seen.

    Args:
        root: The process whose family is watched.
        every_s: Time between samples: a compromise, reading a large process's map costs milliseconds.
    """

    def __init__(self, root: int, every_s: float = 2.0) -> None:
        self.peak_bytes = 0
        self._root, self._every_s = root, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_bytes = max(self.peak_bytes, held_bytes(self._root))

    def __enter__(self) -> PeakMemory:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(5)
