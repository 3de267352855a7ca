"""Code of a manifest's own in the lab: its directory, what the hosts are given and left with, and how an application is asked."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanwise.errors import EngineError, InputError, LabError, ManifestError
from spanwise.lab import enter
from spanwise.lab.ray_node import package_parent
from spanwise.lab.sandbox import MOST_CODE_BYTES, MOST_CODE_FILES
from spanwise.lab.spec import Confinement, LabState
from spanwise.render.manifest import Manifest

CHECK_TIMEOUT_S = 60
ASK_TIMEOUT_S = 120
_MOST_READ = 64 * 2**10

CONFINED = (
    "user: not yours where root runs the lab (nobody), and in a user namespace of its own; no capability, none to be gained (no_new_privs)",
    "files: the system's programs, Python, spanwise and the models, read-only; a copy of the code; the rest of the machine is not there",
    "environment: the lab's own variables and the manifest's; no token, key or variable of yours",
    "network: the lab's links; from there nothing of the machine and nothing beyond it can be reached",
    "processes: those of its own host",
)
NOT_CONFINED = (
    "the kernel: no system call is filtered, so a hole in it is a way out; for code that you have reason to fear take a virtual machine",
    "processor, memory and processes: no limit is set beside the sizes of the hosts' /dev/shm and /tmp",
    "what can be read about the machine: processor, memory, kernel, and the paths of the directories that are shown",
    "without root the user is, to the kernel, still yours: it is the missing files and capabilities that keep it out",
    "what it answers: shown to you as it came, as text",
)


def code_directory(manifest: Manifest, named: str | None) -> str:
    """The directory that the manifest's code is imported from.

    Args:
        manifest: Read with ``allow_code``.
        named: What the user named; it stands in the place of every ``working_dir``.

    Returns:
        A path; empty where the manifest names none, and everything comes from what is installed.

    Raises:
        InputError: What the user named is no directory, or too much of one.
        ManifestError: The manifest names one outside its own directory, or elsewhere than on this machine, and the user named none.
    """
    if named is not None:
        return _checked(Path(named), "--code")
    wanted = sorted({application.working_dir for application in manifest.applications if application.working_dir})
    if not wanted:
        return ""
    where = f"{manifest.file}: runtime_env.working_dir"
    remedy = "name the directory yourself: --code DIR"
    if len(wanted) > 1:
        raise ManifestError(f"{len(wanted)} different directories", where=where, remedy=remedy)
    if "://" in wanted[0]:
        raise ManifestError(
            f"{wanted[0][:120]!r} would be fetched, and the lab's hosts reach no network",
            where=where,
            remedy="fetch it yourself, look at it, and name it: --code DIR",
        )
    base = Path(manifest.file).resolve().parent
    found = (base / wanted[0]).resolve()
    inside = found.is_relative_to(base) and not any(part.startswith(".") for part in found.relative_to(base).parts)
    if not inside:
        raise ManifestError(
            f"{wanted[0][:120]!r} lies outside the manifest's own directory: a stranger's file does not choose which of yours is read",
            where=where,
            remedy=remedy,
        )
    return _checked(found, where)


def _checked(path: Path, where: str) -> str:
    found = path.resolve()
    if not found.is_dir():
        raise InputError(f"{str(path)[:200]!r} is no directory", where=where, remedy="give a directory of Python code")
    if Path.home().resolve().is_relative_to(found):
        raise InputError(
            f"{str(found)[:200]} holds your home directory",
            where=where,
            remedy="put the code into a directory of its own",
        )
    files = size = 0
    for folder, _, names in os.walk(found):
        files += len(names)
        size += sum(_size(Path(folder) / name) for name in names)
        if files > MOST_CODE_FILES or size > MOST_CODE_BYTES:
            raise InputError(
                f"{str(found)[:200]} holds more than {MOST_CODE_FILES} files or {MOST_CODE_BYTES // 2**20} MiB",
                where=where,
                remedy="the hosts get a copy each: give a directory with the code only",
            )
    return str(found)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def confinement(code_dir: str, models: Iterable[Path]) -> Confinement:
    """What the hosts are given of this machine.

    Raises:
        LabError: Python's own directories hold the user's home.
    """
    own = f"{package_parent()}/spanwise" if package_parent() else ""
    readable = dict.fromkeys(filter(None, [sys.prefix, sys.base_prefix, own, *(str(path) for path in models)]))
    home = Path.home().resolve()
    for path in readable:
        if home.is_relative_to(Path(path).resolve()):
            raise LabError(
                f"{path} must be shown to the hosts, and holds your home directory",
                where="--allow-code",
                remedy="run spanwise from an environment in a directory of its own (python -m venv)",
            )
    return Confinement(readable=tuple(readable), code=code_dir)


def open_to_all(models: Iterable[Path]) -> None:
    """Let every user read the models that stand in: they are public, and another user runs the engines."""
    for directory in models:
        directory.chmod(0o755)
        for file in directory.iterdir():
            if not file.is_symlink():
                file.chmod(0o644)


def left_with(lab: LabState) -> list[dict[str, Any]]:
    """What a command on each host is left with, asked before any foreign code runs.

    Raises:
        LabError: A host keeps more than was promised; nothing may be run on it.
    """
    found = []
    for host in lab.hosts:
        process = enter.start(
            lab, host, ["--report"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, err = process.communicate(timeout=CHECK_TIMEOUT_S)
            report = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError) as error:
            enter.end(process)
            raise LabError(
                f"{host.name}: rights could not be given up: {'' if isinstance(error, subprocess.TimeoutExpired) else err.strip()[-300:]}",
                where="--allow-code",
                remedy="no foreign code was run",
            ) from None
        if kept := too_much(report, lab.isolation, lab.spec.confined.readable if lab.spec.confined else ()):
            raise LabError(f"{host.name}: {kept}", where="--allow-code", remedy="no foreign code was run")
        found.append({"host": host.name, **report})
    return found


_TOPS = frozenset(["bin", "code", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "tmp", "usr"])


def too_much(report: dict[str, Any], isolation: str, readable: Iterable[str]) -> str:
    """What a host keeps that it should not, as half a sentence; empty where it keeps nothing.

    Args:
        report: What a command on it said (lab/confine.py).
        isolation: Kind of lab.
        readable: Directories of the machine that it is meant to see.
    """
    tops = _TOPS | {Path(where).parts[1] for path in readable for where in (path, os.path.realpath(path))}
    if report["uid"] == 0 or (isolation == "root" and report["own_user_namespace"] and report["uid_outside"] == 0):
        return "commands would run as root"
    if any(int(value, 16) for value in report["capabilities"].values()):
        return "commands would keep capabilities"
    if not report["no_new_privs"]:
        return "commands could gain privileges"
    if report["makes_user_namespaces"]:
        return "commands could make user namespaces"
    if set(report["interfaces"]) - {"eth0", "lo"}:
        return "commands would see more than the lab's link"
    if report["directory"] != "/" or set(report["root"]) - tops:
        return "commands would see the machine's files"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an application of foreign code said; ``status`` 0 where it has no address and only runs."""

    name: str
    import_path: str
    route_prefix: str
    status: int = 0
    text: str = ""
    took_s: float = 0.0
    error: str = ""


def ask(endpoint: str, name: str, import_path: str, route_prefix: str) -> Answer:
    """GET an application's address; a status below 500 is an answer. What runs and has no address counts as it is."""
    found = Answer(name=name, import_path=import_path, route_prefix=route_prefix)
    if not route_prefix:
        return found
    started = time.monotonic()
    try:
        status, text = _get(f"{endpoint}{route_prefix}")
    except EngineError as error:
        return dataclasses.replace(found, error=error.what)
    took = round(time.monotonic() - started, 2)
    return dataclasses.replace(
        found, status=status, text=text, took_s=took, error="" if status < 500 else f"HTTP {status}"
    )


def _get(url: str) -> tuple[int, str]:
    """Status and the first bytes of the body; no redirect is followed: it could lead to something else on this machine.

    Raises:
        EngineError: No answer.
    """
    import httpx

    try:
        with (
            httpx.Client(trust_env=False, timeout=ASK_TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", url) as response,
        ):
            body = b""
            for piece in response.iter_raw():
                body += piece
                if len(body) >= _MOST_READ:
                    break
            return response.status_code, body[:_MOST_READ].decode(errors="replace")
    except httpx.HTTPError as error:
        raise EngineError(f"GET {url}: {type(error).__name__}: {error}"[:400], where=url) from error
