"""The file system of a host on which foreign code may run: a new root with what an engine needs, all of it read-only, and nothing else.

Allowed by name, never hidden one by one: no home, no keys, no token, no state of other programs is there to be found. Standard library
only; runs as the first process of a host, in the host's own mount namespace.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Any

from spanwise.lab.confine import NOBODY, checked, libc

# Where the foreign directory is found on the hosts.
CODE_DIR = "/code"
HOME_DIR = "/tmp"  # noqa: S108 - inside, /tmp is the host's own tmpfs
MOST_CODE_BYTES, MOST_CODE_FILES = 64 * 2**20, 10_000

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/sys/devices/system")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "protocols", "services")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_STREAMS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_OLD = "/.machine"

_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _DETACH = 1, 2, 4, 32, 4096, 16384, 2
# Flags of a mount (statvfs) that a remount must repeat: in a user namespace they may not be taken away.
_KEPT = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, options)]
    checked(libc().mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def _read_only(target: str) -> None:
    """``target`` and every mount below it."""
    below = f"{target.rstrip('/')}/"
    lines = Path(f"{_OLD}/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    for point in [target, *(point for point in points if point.startswith(below))]:
        flags = os.statvfs(point).f_flag
        kept = sum(mount_flag for flag, mount_flag in _KEPT.items() if flags & flag)
        _mount("none", point, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | kept)


def _show(path: str) -> None:
    """``path`` of the machine at its own place, read-only; links stay links, what is not there stays away."""
    old = Path(_OLD + path)
    target = Path(path)
    if old.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(old.readlink())
    elif old.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        _mount(str(old), path, None, _BIND | _REC)
        _read_only(path)
    elif old.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        _mount(str(old), path, None, _BIND)
        if not stat.S_ISCHR(old.stat().st_mode):
            _read_only(path)


def _copy(source: Path, target: Path, left: list[int]) -> None:
    """Regular files, directories and links (which end inside); readable by everybody, within bounds."""
    target.mkdir(mode=0o755)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        left[0] -= 1
        inner = target / entry.name
        if entry.is_symlink():
            inner.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            _copy(Path(entry.path), inner, left)
        elif entry.is_file():
            left[1] -= entry.stat().st_size
            if left[0] >= 0 and left[1] >= 0:
                inner.write_bytes(Path(entry.path).read_bytes())
                inner.chmod(0o755 if os.access(entry.path, os.X_OK) else 0o644)
        if min(left) < 0:
            raise OSError(0, f"the foreign directory is larger than {MOST_CODE_FILES} files or {MOST_CODE_BYTES} bytes")


def _accounts(hosts: str) -> None:
    etc = Path("/etc")
    etc.mkdir(exist_ok=True)
    (etc / "hosts").write_text(hosts)
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    users = f"root:x:0:0:root:{HOME_DIR}:/bin/sh\nrunner:x:1000:1000::{HOME_DIR}:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}::{HOME_DIR}:/bin/sh\n"
    (etc / "passwd").write_text(users)
    (etc / "group").write_text(f"root:x:0:\nrunner:x:1000:\nnogroup:x:{NOBODY}:\n")


def enter(spec: dict[str, Any], *, hosts: str, host_dir: str) -> None:
    """Make the new root and move this host into it; from here on nothing of the machine's file system is reachable but what is listed.

    Args:
        spec: ``kind`` (of isolation), ``readable`` (directories of the machine), ``code`` (the foreign directory, copied; may be empty)
            and ``shm_bytes``.
        hosts: Content of /etc/hosts.
        host_dir: The host's directory for Ray and temporary files.

    Raises:
        OSError: A step failed; the host must not be used.
    """
    owner = NOBODY if spec["kind"] == "root" else 0
    readable = [os.path.realpath(path) for path in spec["readable"]]
    code = os.path.realpath(spec["code"]) if spec["code"] else ""
    os.umask(0o022)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "size=80m,mode=755")  # noqa: S108 - of this namespace
    Path(f"/tmp{_OLD}").mkdir()  # noqa: S108
    os.chdir("/tmp")  # noqa: S108
    checked(libc().pivot_root(b".", f".{_OLD}".encode()), "pivot_root")
    os.chdir("/")
    for name in ("proc", "dev", "tmp", "etc"):
        Path(f"/{name}").mkdir()
    _mount(f"{_OLD}/proc", "/proc", None, _BIND | _REC)
    Path("/dev/shm").mkdir()  # noqa: S108
    _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV, f"size={spec['shm_bytes']},mode=1777")  # noqa: S108
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "size=256m,mode=1777")  # noqa: S108
    for path in (*_SYSTEM, *(f"/etc/{name}" for name in _ETC), *(f"/dev/{name}" for name in _DEVICES)):
        _show(path)
    for name, target in _STREAMS.items():
        Path(f"/dev/{name}").symlink_to(target)
    for path in readable:
        if not any(path.startswith(f"{other}/") for other in (*_SYSTEM, *readable)):
            _show(path)
    for path, real in zip(spec["readable"], readable, strict=True):
        if path != real and not os.path.lexists(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).symlink_to(real)
    # Guard: where such a directory lies below /tmp, its parents stand in a place that foreign code writes to, and renaming one would
    # put other files in the place of ours. A mount of its own can be neither renamed nor written to.
    for made in [*Path("/tmp").iterdir(), *Path("/dev/shm").iterdir()]:  # noqa: S108
        if not made.is_symlink():
            _mount(str(made), str(made), None, _BIND | _REC)
            _read_only(str(made))
    if code:
        _copy(Path(_OLD + code), Path(CODE_DIR), [MOST_CODE_FILES, MOST_CODE_BYTES])
    _accounts(hosts)
    Path(host_dir).mkdir()
    _mount("tmpfs", host_dir, "tmpfs", _NOSUID | _NODEV, f"size=2g,mode=0700,uid={owner},gid={owner}")
    checked(libc().umount2(_OLD.encode(), _DETACH), f"umount {_OLD}")
    Path(_OLD).rmdir()
    _mount("none", "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
