"""Run a command as an ordinary user where the tests run as root, without changing anything of the machine."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

USER = 4242


def command(*words: str) -> list[str]:
    """``words`` as USER. Python's own directory is shown to that user in a mount namespace of the command's own, where it lies in one
    that others may not enter (root's home).
    """
    python = Path(sys.base_prefix).resolve()
    closed = next((parent for parent in reversed(python.parents) if not parent.stat().st_mode & 0o001), None)
    script = f"exec setpriv --reuid={USER} --regid={USER} --clear-groups -- {shlex.join(words)}"
    if closed is not None:
        base, top = shlex.quote(str(python)), shlex.quote(str(closed))
        script = (
            f"set -e; mount --bind {base} /mnt; mount -t tmpfs -o mode=755 tmpfs {top};"
            f" mkdir -p {base}; mount --bind /mnt {base}; umount /mnt; {script}"
        )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def possible() -> bool:
    """True where the tests run as root."""
    return os.geteuid() == 0
