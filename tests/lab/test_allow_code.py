"""`lab run --allow-code`: foreign code runs, answers, and reaches nothing; the same code as a plain program reaches all of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanwise.lab.processes import command_line
from tests.commands import CommandLine
from tests.lab import as_user, hostile_app
from tests.leftovers import snapshot

pytest.importorskip("vllm", reason="needs the engine: make env")
pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

# A hang limit for a loaded machine.
RUN_HANG_S = 300
SECRET = "s3cr3t-value"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stranger's manifest with its code, and a user who has something to lose."""

    home: Path
    manifest: Path
    port: int
    environment: dict[str, str]


@pytest.fixture
def stage() -> Iterator[Stage]:
    # Not below pytest's own directory, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="foreign-") as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        top = Path(folder)
        top.chmod(0o755)
        home, code = top / "caller", top / "stranger" / "code"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh" / "id_ed25519").write_text(SECRET)
        code.mkdir(parents=True)
        shutil.copy(hostile_app.__file__, code / "hostile_app.py")
        port = listener.getsockname()[1]
        manifest = top / "stranger" / "serve.yaml"
        manifest.write_text(
            yaml.safe_dump(
                {
                    "applications": [
                        {
                            "name": "hostile",
                            "route_prefix": "/hostile",
                            "import_path": "hostile_app:build",
                            "args": {"home": str(home), "port": str(port)},
                            "runtime_env": {"working_dir": "code", "env_vars": {"LD_DEBUG_OUTPUT": SECRET}},
                        }
                    ]
                }
            )
        )
        environment = {
            "HOME": str(home),
            "SPANWISE_STATE_DIR": str(top / "caller" / "state"),
            "FOREIGN_TEST_TOKEN": SECRET,
        }
        yield Stage(home=home, manifest=manifest, port=port, environment=environment)


def remains(stage: Stage, before: dict[str, set[str]]) -> set[str]:
    """What of a run on this stage is still there: processes that name it, and what was added to the machine's mounts and links."""
    top, deadline = str(stage.home.parent), time.monotonic() + 10
    while True:
        found = {f"{kind}: {item}" for kind in ("mounts", "links") for item in snapshot()[kind] - before[kind]}
        for entry in Path("/proc").iterdir():
            if (
                entry.name.isdigit()
                and int(entry.name) != os.getpid()
                and top in " ".join(command_line(int(entry.name)))
            ):
                found.add(f"process {entry.name}")
        if (stage.home / "state" / "lab.json").exists():
            found.add("state file")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def started(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=RUN_HANG_S, check=False
    )


@pytest.mark.parametrize("who", ["whoever runs the tests", "an ordinary user"])
def test_foreign_code_runs_and_reaches_nothing(stage: Stage, who: str) -> None:
    before = snapshot()
    words = [sys.executable, "-m", "spanwise", "lab", "run", str(stage.manifest), "--allow-code", "--json"]
    expected = "root" if os.geteuid() == 0 else "userns"
    if who == "an ordinary user":
        if not as_user.possible():
            pytest.skip("the tests run as one already")
        for path in (stage.home, *stage.home.rglob("*")):
            os.chown(path, as_user.USER, as_user.USER)
        words, expected = as_user.command(*words), "userns"
    outcome = started(words, stage.environment)
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["isolation"] == expected
    # What will be run is said before anything is started.
    listed = outcome.stderr[: outcome.stderr.index("lab up")]
    assert "hostile_app:build" in listed
    assert "LD_DEBUG_OUTPUT" in listed
    assert {item["where"] for item in report["code"]["run"]} == {
        "applications[0].import_path",
        "applications[0].runtime_env.env_vars",
    }
    application = report["code"]["applications"][0]
    assert application["answered"], application["error"]
    said = json.loads(application["answer"])
    assert said["ran_at"] == "/code/hostile_app.py"
    assert said["variable"] == SECRET, "the manifest's own variable is its own"
    assert {what: words for what, words in said["tried"].items() if not words.startswith("could not")} == {}
    assert len(said["tried"]) == 10
    assert said["uid"] == 1000
    assert not (stage.home / "written-by-foreign-code").exists()
    assert not (stage.manifest.parent / "code" / "planted.py").exists()
    assert remains(stage, before) == set()


def test_the_same_code_as_a_plain_program_reaches_all_of_it(stage: Stage) -> None:
    """Otherwise the test above would prove nothing."""
    program = [sys.executable, str(stage.manifest.parent / "code" / "hostile_app.py"), str(stage.home), str(stage.port)]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    outcome = started(
        ["unshare", *user, "--mount", "--propagation", "private", "--fork", "--", *program], stage.environment
    )
    tried: dict[str, Any] = json.loads(outcome.stdout)
    failed = {what: words for what, words in tried.items() if not words.startswith("did it")}
    assert set(failed) <= (set() if os.geteuid() == 0 else {"be root"}), failed


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({}, [], "hostile_app:build"),
        ({"runtime_env": {"pip": ["requests"]}}, ["--allow-code"], "no network"),
        ({"runtime_env": {"working_dir": "https://e.example/x.zip"}}, ["--allow-code"], "--code DIR"),
        ({"runtime_env": {"working_dir": "../caller"}}, ["--allow-code"], "outside"),
        ({"import_path": "os.system('x'):y"}, ["--allow-code"], "no import path"),
        ({}, ["--allow-code", "--isolation", "loopback"], "loopback"),
        ({}, ["--allow-code", "--code", "HOME"], "holds your home"),
        ({}, ["--allow-code", "--keep"], "--keep"),
        ({}, ["--code", "HOME"], "--allow-code"),
    ],
)
def test_what_is_refused_starts_nothing(stage: Stage, change: dict[str, Any], options: list[str], named: str) -> None:
    before = snapshot()
    document = yaml.safe_load(stage.manifest.read_text())
    document["applications"][0] |= change
    stage.manifest.write_text(yaml.safe_dump(document))
    options = [str(stage.home) if word == "HOME" else word for word in options]
    spanwise = CommandLine(stage.home / "state", **stage.environment)
    outcome = spanwise("lab", "run", str(stage.manifest), "--json", *options)
    assert outcome.code == 2, outcome.err
    assert named in outcome.err
    assert SECRET not in outcome.out + outcome.err
    assert remains(stage, before) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused it")
def test_root_in_a_user_namespace_is_refused(stage: Stage) -> None:
    spanwise = CommandLine(stage.home / "state", **stage.environment)
    outcome = spanwise("lab", "run", str(stage.manifest), "--allow-code", "--isolation", "userns")
    assert outcome.code == 2
    assert "still root" in outcome.err
