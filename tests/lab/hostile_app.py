"""A Serve application that tries what it must not be able to do, and says what came of it. Also run as a plain program: then it can.

It imports nothing of the tests: a copy of it is the foreign code of tests/lab/test_allow_code.py.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _attempt(what: Callable[[], Any]) -> str:
    try:
        return f"did it: {what()}"
    except BaseException as error:  # noqa: BLE001 - whatever it was: it is what the test wants to know
        return f"could not: {type(error).__name__}"


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr)
    return done.stdout


def _connect(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=3) as found:
        return str(found.getpeername())


def attempts(home: str, port: int) -> dict[str, str]:
    """What was tried, and what came of it.

    Args:
        home: The caller's home directory.
        port: Where something listens on the machine's loopback.
    """
    # From here to the root of the machine's files, where the working directory is one of the machine's.
    relative = "../" * 12 + home.lstrip("/")
    return {
        "write into the home": _attempt(lambda: Path(home, "written-by-foreign-code").write_text("x")),
        "read a key": _attempt(lambda: Path(home, ".ssh", "id_ed25519").read_text()),
        "read a key by a relative path": _attempt(lambda: Path(relative, ".ssh", "id_ed25519").read_text()),
        "read a variable": _attempt(lambda: os.environ["FOREIGN_TEST_TOKEN"]),
        "read a parent's variables": _attempt(_of_others),
        "mount": _attempt(lambda: _run("mount", "-t", "tmpfs", "none", "/mnt" if Path("/mnt").is_dir() else "/tmp")),
        "be root": _attempt(lambda: os.setuid(0) or os.open("/etc/passwd", os.O_WRONLY)),
        "make a user namespace": _attempt(lambda: _run("unshare", "--user", "--map-root-user", "true")),
        "reach the machine": _attempt(lambda: _connect("127.0.0.1", port)),
        "change what is run next": _attempt(lambda: Path(__file__).with_name("planted.py").write_text("x")),
    }


def _of_others() -> str:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if "FOREIGN_TEST_TOKEN" in (entry / "environ").read_text():
                    return entry.name
            except OSError:
                continue
    raise PermissionError("nobody's")


def build(arguments: dict[str, str]) -> Any:
    """Entry point for the Serve config."""
    from ray import serve

    @serve.deployment
    class Hostile:
        async def __call__(self, request: Any) -> dict[str, Any]:
            found = attempts(arguments["home"], int(arguments["port"]))
            return {
                "ran_at": __file__,
                "uid": os.getuid(),
                "variable": os.environ.get("LD_DEBUG_OUTPUT"),
                "tried": found,
            }

    return Hostile.bind()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(attempts(sys.argv[1], int(sys.argv[2]))) + "\n")
