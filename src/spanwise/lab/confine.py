"""Run a command without a right to anything: another user, no capabilities, no new privileges, a user namespace of its own.

Started as a file by a process that holds the rights of an emulated host: ``python -I confine.py KIND COMMAND ...``. Isolated mode and
the standard library only: what runs here runs before the rights are gone, so nothing that foreign code may write (a home, a user's
site-packages, the working directory) is looked at.

``--report`` in the place of a command prints what the process is left with, as JSON: what is promised is read from the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

# Nobody: the user that foreign code is on the machine where root runs the lab. In its own user namespace it is called RUNNER.
NOBODY, RUNNER = 65534, 1000
_CLONE_NEWUSER = 0x10000000
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_CAP_AMBIENT_CLEAR_ALL, _CAPABILITIES_V3 = 4, 0x20080522
_KEYCTL, _JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1
# A system that grants no user namespaces to users says one of these.
_NOT_GRANTED = (errno.EPERM, errno.ENOSPC, errno.EUSERS, errno.ENOSYS, errno.EINVAL)


def libc() -> ctypes.CDLL:
    """The C library, its errors kept."""
    return ctypes.CDLL(None, use_errno=True)


def checked(done: int, what: str) -> None:
    """Raise what a call of the C library that did not return 0 left behind.

    Raises:
        OSError: With ``what`` and the system's words.
    """
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _drop_bounding_set() -> None:
    """No program may gain a capability, whatever its file says; ends at the kernel's last one."""
    capability = 0
    while libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1


def _no_capabilities() -> None:
    libc().prctl(_PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    checked(libc().capset((ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()), "capset")
    checked(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _own_user_namespace(*, needed: bool) -> None:
    """One below which no other can be made: in a namespace of its own a process has every capability over what it makes there."""
    user, group = os.geteuid(), os.getegid()
    if libc().unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        if needed or number not in _NOT_GRANTED:
            raise OSError(number, f"user namespace: {os.strerror(number)}")
        return
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{RUNNER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{RUNNER} {group} 1")
    # The limit of the namespace that was just entered; only its capabilities raise it again, and those go now.
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    _drop_bounding_set()


def drop(kind: str) -> None:
    """Give up every right of this process and of all that it will start.

    Args:
        kind: ``root``: become nobody, and take a user namespace where the system grants one. ``userns``: stay the user that the lab
            belongs to, in a user namespace below the lab's.

    Raises:
        OSError: A step failed; nothing may be run then.
    """
    # Guard: whoever entered the host's namespaces from the machine still stands in a directory of the machine.
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number := _KEYCTL.get(os.uname().machine):
        libc().syscall(number, _JOIN_SESSION_KEYRING, None)
    _drop_bounding_set()
    if kind == "root":
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # Guard: a process that changed its user may not write its own maps until it says that it hides nothing.
        libc().prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    _own_user_namespace(needed=kind != "root")
    _no_capabilities()


def report() -> dict[str, Any]:
    """What this process is left with, in the kernel's words."""
    lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    status = {key: value.strip() for key, value in lines}
    maps = Path("/proc/self/uid_map").read_text().split()
    return {
        "uid": os.geteuid(),
        "groups": os.getgroups(),
        "uid_outside": int(maps[1]) if maps else None,
        "own_user_namespace": maps[:1] == [str(RUNNER)],
        "capabilities": {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        "no_new_privs": status.get("NoNewPrivs") == "1",
        "makes_user_namespaces": libc().unshare(_CLONE_NEWUSER) == 0,
        "interfaces": sorted(line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]),
        "directory": str(Path("/proc/self/cwd").readlink()),
        "root": sorted(entry.name for entry in Path().iterdir()),
    }


def main() -> None:
    """``KIND COMMAND ...`` or ``KIND --report``."""
    kind, *command = sys.argv[1:]
    try:
        drop(kind)
        if command != ["--report"]:
            os.execvp(command[0], command)  # noqa: S606 - no shell: the command's own words
    except OSError as error:
        sys.stderr.write(f"confine: {error}\n")
        sys.exit(126)
    sys.stdout.write(json.dumps(report()) + "\n")


if __name__ == "__main__":
    main()
