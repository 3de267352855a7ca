"""containers/Containerfile agrees with what render and the project's extras say; it cannot be built here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from spanwise.render.upstream import BASE_IMAGE, RAY_GID, RAY_UID, RAY_VERSION, VLLM_VERSION

REPOSITORY = Path(__file__).resolve().parents[3]
TEXT = (REPOSITORY / "containers" / "Containerfile").read_text("utf-8")
INSTRUCTIONS = re.sub(
    r"\\\n(\s*#.*\n)*", " ", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
)
LINES = [line.split(None, 1) for line in INSTRUCTIONS.splitlines() if line.strip()]


def of(instruction: str) -> list[str]:
    return [rest for word, rest in LINES if word == instruction]


def test_versions_are_those_of_render_and_of_the_extra() -> None:
    arguments = dict(argument.partition("=")[::2] for argument in of("ARG"))
    assert arguments == {
        "BASE": BASE_IMAGE,
        "BASE_DIGEST": "",
        "RAY_VERSION": RAY_VERSION,
        "VLLM_VERSION": VLLM_VERSION,
    }
    with (REPOSITORY / "pyproject.toml").open("rb") as stream:
        extra = tomllib.load(stream)["project"]["optional-dependencies"]["gpu"]
    pinned = [requirement.split(" ;")[0] for requirement in extra]
    assert f"vllm=={VLLM_VERSION}" in pinned
    assert f"ray[serve]=={RAY_VERSION}" in pinned


def test_it_runs_without_root_and_without_the_network() -> None:
    assert of("USER") == [f"{RAY_UID}:{RAY_GID}"]
    assert of("FROM") == ["${BASE}${BASE_DIGEST}"]
    variables = dict(item.split("=", 1) for item in " ".join(of("ENV")).split())
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not [name for name in variables if re.search(r"TOKEN|SECRET|PASSWORD|KEY$", name)]


def test_it_says_that_nobody_has_built_it() -> None:
    assert "UNTESTED" in TEXT.split("\nARG", maxsplit=1)[0]


def test_what_it_copies_is_there_and_reaches_the_builder() -> None:
    sent = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    copied = [name for line in of("COPY") for name in line.split()[1:-1]]
    assert copied
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert name in sent, name
