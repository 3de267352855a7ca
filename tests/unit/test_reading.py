"""Files that somebody named: a FIFO that nobody feeds is refused at once, a shell's pipe is read to its end, size is bounded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spanwise.checkpoints.resolve import resolve_config
from spanwise.checkpoints.weights import check_safetensors
from spanwise.errors import InputError, LabError, ModelError
from spanwise.facts.book import load_facts
from spanwise.intent.load import load_intent
from spanwise.lab import state
from spanwise.plan.load import load_plan, read_json
from spanwise.reading import read_file

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are for POSIX systems")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    return path


def _lab_state(path: Path) -> None:
    path.rename(path.parent / "lab.json")
    state.read()


def _config_in_a_folder(path: Path) -> None:
    path.rename(path.parent / "config.json")
    resolve_config(str(path.parent))


def _weights(path: Path) -> None:
    path.rename(path.parent / "model.safetensors")
    check_safetensors(path.parent)


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "reads",
    [load_intent, load_facts, load_plan, read_json, _lab_state, _config_in_a_folder, _weights,
     lambda path: resolve_config(str(path))],
)  # fmt: skip
def test_a_fifo_that_nobody_feeds_is_refused_at_once(fifo: Path, reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANWISE_STATE_DIR", str(fifo.parent))
    started = time.monotonic()
    with pytest.raises(InputError, match="is not a regular file") as caught:
        reads(fifo)
    assert str(fifo.parent) in caught.value.where
    assert caught.value.exit_code == 2
    assert time.monotonic() - started < 10  # a hang limit


@posix
@pytest.mark.timeout(20)
def test_a_fifo_whose_writer_says_nothing_is_refused(fifo: Path) -> None:
    held = os.open(fifo, os.O_RDWR)
    try:
        with pytest.raises(InputError, match="is not a regular file"):
            read_file(fifo, most_bytes=10)
    finally:
        os.close(held)


@posix
@pytest.mark.timeout(20)
def test_a_fifo_with_a_writer_is_read_to_its_end(fifo: Path) -> None:
    held = os.open(fifo, os.O_RDWR)  # so that the reader finds a writer already there

    def write() -> None:
        with fifo.open("wb") as stream:
            stream.write(b"a" * 100_000)
            time.sleep(0.2)
            stream.write(b"b")
        os.close(held)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_file(fifo, most_bytes=1 << 20) == b"a" * 100_000 + b"b"
    writer.join()


@posix
@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_standard_input_is_waited_for(path: str) -> None:
    code = f"from spanwise.reading import read_file; print(read_file({path!r}, most_bytes=9))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        time.sleep(0.5)
        process.stdin.write(b"late")
        process.stdin.flush()
        time.sleep(2.5)  # longer than a FIFO may be silent
        assert process.communicate(b"r", timeout=30)[0].strip() == b"b'later'"


def test_what_cannot_be_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 << 20))
    for path, said in (
        ("", "an empty path is not a plan"),
        (tmp_path, "this is a directory, not a plan"),
        (tmp_path / "none", "cannot be read"),
        ("a\0b", "cannot be read"),
        (tmp_path / "big", "is larger than 2 MiB"),
    ):
        with pytest.raises(ModelError, match=said):
            read_file(path, most_bytes=2 << 20, what="a plan", error=ModelError)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rate_bit_per_s": 1e8', '"rate_bit_per_s": NaN'),
        ('"rate_bit_per_s": 1e8', '"rate_bit_per_s": -5'),
        ('"scale": 1.0', '"scale": 1e400'),
        ('"scale": 1.0', '"scale": 0'),
        ('"keeper_pid": 1,', '"keeper_pid": -1,'),
        ('[{"name"', '[], "x": [{"name"'),
        ("{", " " * (2 << 20) + "{"),
    ],
)
def test_an_impossible_lab_state_is_no_lab_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setenv("SPANWISE_STATE_DIR", str(tmp_path))
    whole = (
        '{"schema": "spanwise.lab/1", "spec": {"hosts": 1, "gpus_per_host": 1, "link": "x", "rate_bit_per_s": 1e8, "scale": 1.0},'
        ' "isolation": "root", "keeper_pid": 1, "token": "t", "keeper_started": 1, "hosts": [{"name": "host-1", "address": "a",'
        ' "domain": "d", "gpus": 1, "init_pid": 1, "init_started": 1}], "ray_address": "a:1", "endpoint": "e", "created": "c"}'
    )
    assert old in whole
    path = tmp_path / "lab.json"
    path.write_text(whole.replace(old, new, 1))
    with pytest.raises(LabError, match="not a lab state file"):
        state.read()
    path.write_text(whole)
    assert state.read() is None, "as it was, it is the state of a lab whose keeper is gone"


def test_a_folder_called_dash_does_not_stand_in_the_way_of_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"given")))
    assert read_file("-", most_bytes=100) == b"given"
