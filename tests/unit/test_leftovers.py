"""The look for leftovers sees what this run left, and not what another lab on the machine does. Real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.leftovers import MARK, is_ours, left, snapshot

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists() or shutil.which("ip") is None, reason="needs Linux and iproute2"
)

THEIRS = {**os.environ, "PATH": os.environ["PATH"].replace(f":{MARK}", "")}


@contextmanager
def running(*words: str, environment: dict[str, str]) -> Iterator[int]:
    """A process that says when it is there."""
    code = f"{';'.join(words) or 'pass'};print('there', flush=True);import time;time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "spanwise.lab.keeper"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def test_a_process_of_ours_is_seen() -> None:
    before = snapshot()
    with running(environment=os.environ | {}) as pid:
        assert MARK in os.environ["PATH"]
        (seen,) = left(before, patience_s=0)["processes"]
        assert seen.startswith(f"pid {pid}: ")
    assert left(before) == {}


def test_a_process_of_another_lab_is_not() -> None:
    before = snapshot()
    with running(environment=THEIRS) as pid:
        assert not is_ours(pid)
        assert left(before, patience_s=0) == {}


def test_a_process_without_an_environment_is_its_parents() -> None:
    """As one that wrote a title over it: known by who started it, and ours where that one is gone."""
    before = snapshot()
    for rest in ({}, {"PYTHONPATH": "src"}):
        with running(environment=rest) as pid:
            assert left(before, patience_s=0)["processes"]
    child = (
        "import subprocess,sys;p=subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)','raylet'],env={});"
        "open(PATH,'w').write(str(p.pid))"
    )
    for environment, lives in ((THEIRS, True), (THEIRS, False)):
        note = Path(f"/dev/shm/{uuid.uuid4().hex}")
        try:
            wait = ";import time;time.sleep(60)" if lives else ""
            parent = subprocess.Popen(
                [sys.executable, "-c", child.replace("PATH", repr(str(note))) + wait], env=environment
            )
            while not note.exists() or not note.read_text():
                time.sleep(0.05)
            pid = int(note.read_text())
            if not lives:
                parent.wait()
            assert is_ours(pid) is not lives
        finally:
            parent.kill()
            parent.wait()
            os.kill(pid, 9)
            note.unlink()


def test_a_file_is_ours_until_somebody_else_uses_it() -> None:
    before = snapshot()
    name = f"/dev/shm/{uuid.uuid4().hex}"
    with running(f"held=open({name!r},'w')", environment=THEIRS):
        assert left(before, patience_s=0) == {}
    try:
        assert left(before, patience_s=0) == {"shared memory": {name}}
    finally:
        Path(name).unlink()


def test_a_namespace_of_ours_is_seen_and_anothers_is_not() -> None:
    if subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no namespaces here")
    before = snapshot()
    for environment, seen in ((os.environ | {}, True), (THEIRS, False)):
        process = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "60"], env=environment)
        try:
            deadline = time.monotonic() + 10
            while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert ("network namespaces" in left(before, patience_s=0)) is seen
        finally:
            process.kill()
            process.wait()
