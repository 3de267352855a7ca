"""Files made to hang lint, to make it fail, or to have it repeat a secret."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from spanwise.errors import ManifestError
from spanwise.render.lint import Options, from_crd, lint
from spanwise.render.lint.command import looks_like_command
from spanwise.render.lint.schema import shipped
from spanwise.render.lint.shell import commands
from tests.unit.lint.samples import GOOD

SECRET = "Zq7Xw2Lk9Pv4Tn6B"
SERVICE = "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: a}\nspec: "


def test_a_long_line_without_blanks_takes_no_time() -> None:
    start = time.monotonic()
    assert not looks_like_command("a: " + "/" * 1_000_000)
    assert time.monotonic() - start < 5
    assert looks_like_command("docker run registry.example/vllm-openai:v1 --model a/b")


@pytest.mark.parametrize(
    "given",
    [
        "$(cat /run/key)",
        '"$(cat "/run/my key")"',
        "`cat /run/key | head -1`",
        "${KEY:-no key}",
        "$(echo $((1+2)) ')' )",
    ],
)
def test_flags_behind_a_substitution_are_read(given: str) -> None:
    text = f"vllm serve org/m --api-key {given} --tensor-paralel-size 4"
    assert [finding.code for finding in lint(text.encode(), "x")] == ["flag_unknown"]


@pytest.mark.parametrize("opening", ["$( ", "${ ", "$( ` "])
def test_a_substitution_without_an_end_takes_no_time(opening: str) -> None:
    start = time.monotonic()
    commands((opening * 1000 + "\n") * 10)
    assert time.monotonic() - start < 8


def test_lines_behind_a_substitution_stay() -> None:
    assert [[word.line for word in words] for words in commands("a $(b\nc) d\ne")] == [[1, 2, 2], [3]]


@pytest.mark.parametrize("number", ["0x" + "f" * 6000, "0b" + "1" * 20_000, "1:" + "59:" * 3000 + "59"])
def test_a_number_beyond_all_bounds_is_bad_input(number: str) -> None:
    with pytest.raises(ManifestError, match="not a number that can be used"):
        lint(f"{SERVICE}{{serviceUnhealthySecondThreshold: {number}}}".encode(), "x")


def test_sizes_beyond_all_bounds_are_findings() -> None:
    nines = "9" * 4000
    text = f"vllm serve a/b --tensor-parallel-size {nines} --pipeline-parallel-size {nines} --distributed-executor-backend mp"
    found = lint(text.encode(), "x", Options(gpus_per_node=8))
    assert [finding.code for finding in found] == ["value_not_allowed"] * 2
    assert all(len(finding.message) < 200 for finding in found)


def crd(field: Any, kind: Any = "RayService") -> str:
    schema = {"openAPIV3Schema": {"properties": {"spec": {"type": "object", "properties": {"x": field}}}}}
    versions = [{"name": "v1", "storage": True, "served": True, "schema": schema}]
    return yaml.safe_dump({"spec": {"names": {"kind": kind}, "versions": versions}})


@pytest.mark.parametrize(
    "field",
    [
        {"type": "foo"},
        {"type": ["string"]},
        {"type": "string", "enum": 5},
        {"type": "string", "enum": {"a": 1}},
        {"type": "integer", "minimum": "abc"},
        {"type": "integer", "maximum": True},
        {"type": "string", "maxLength": "x"},
        {"type": "string", "pattern": 5},
    ],
)
def test_a_crd_with_a_keyword_of_another_form_is_bad_input(field: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="not a CustomResourceDefinition"):
        from_crd(crd(field), "crd")


@pytest.mark.parametrize(
    "field", [{"type": "integer", "maxLength": 3}, {"type": "string", "minimum": 5}, {"type": "object", "minLength": 2}]
)
@pytest.mark.parametrize("value", ["5", "abc", "{a: 1}"])
def test_a_keyword_of_another_type_says_nothing(field: dict[str, Any], value: str) -> None:
    lint(f"{SERVICE}{{x: {value}}}".encode(), "x", None, from_crd(crd(field), "crd"))


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a?){40}a{40}$", "^a*a*a*a*a*$", "^((ab*)*)*$"])
def test_a_pattern_that_would_run_for_hours_is_left_to_the_api_server(pattern: str) -> None:
    start = time.monotonic()
    text = f"{SERVICE}{{x: {'a' * 400}!}}"
    found = lint(text.encode(), "x", None, from_crd(crd({"type": "string", "pattern": pattern}), "crd"))
    assert time.monotonic() - start < 5
    assert not [finding for finding in found if finding.path == "spec.x"]


def test_other_patterns_are_checked() -> None:
    known = [shape["f"] for shape in shipped().shapes.values() if "f" in shape]
    for pattern in ["^[a-z]+(-[a-z]+)?$", *known]:
        found = lint(
            f"{SERVICE}{{x: '!'}}".encode(), "x", None, from_crd(crd({"type": "string", "pattern": pattern}), "c")
        )
        assert [finding.code for finding in found if finding.path == "spec.x"] == ["value_not_allowed"], pattern


@pytest.mark.parametrize(
    "arguments", [["--api-key", SECRET], [f"--api-key={SECRET}"], [f"DB_PASS={SECRET}"], [{"DB_PASSWD": SECRET}]]
)
@pytest.mark.parametrize("style", [None, '"'])
def test_a_secret_among_arguments_is_not_repeated(arguments: list[Any], style: str | None) -> None:
    manifest = yaml.safe_load(GOOD)
    spec = manifest["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    spec["containers"][0]["image"] = arguments
    spec["containers"] += arguments
    serve = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    serve["applications"][0]["args"]["llm_configs"][0]["accelerator_type"] = arguments
    manifest["spec"]["serveConfigV2"] = yaml.safe_dump(serve)
    found = lint(yaml.safe_dump(manifest, default_style=style).encode(), "x")
    assert "accelerator_unknown" in {finding.code for finding in found}
    assert SECRET not in str(found)


@pytest.mark.parametrize("name", ["DB_PASS", "MYSQL_PASSWD", "SSH_PRIVATE_KEY", "AWS_SECRET_KEY"])
def test_more_names_of_secrets(name: str) -> None:
    found = lint(f"{name}={SECRET} vllm serve org/m".encode(), "x")
    assert [finding.code for finding in found] == ["secret_in_plain_text"]
