"""What the machine under the lab has to give."""

from __future__ import annotations

from pathlib import Path


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be used without pushing anything out (proc(5), MemAvailable); 0 where nothing is known."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
