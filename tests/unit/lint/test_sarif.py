"""The SARIF document: its form, and what code hosts do with it (rule, level, place, identity)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanwise.render.lint import Finding
from spanwise.render.lint.sarif import artifact_uri, sarif
from tests.unit.lint.checks import findings
from tests.unit.lint.samples import ARTICLE, ARTICLE_COMMAND

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}

# The part of SARIF 2.1.0's schema that we rely on, in the standard's own words; nothing but these keys is written.
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "additionalProperties": False,
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string"},
                                    "version": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": _TEXT,
                                                "fullDescription": _TEXT,
                                                "help": _TEXT,
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "additionalProperties": False,
                                                    "properties": {"level": _LEVEL},
                                                },
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "properties": {"executionSuccessful": {"type": "boolean"}},
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "level": _LEVEL,
                                "message": _TEXT,
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation"],
                                                "additionalProperties": False,
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "additionalProperties": False,
                                                        "properties": {
                                                            "uri": {
                                                                "type": "string",
                                                                "pattern": r"^[A-Za-z0-9._~!$&'()*+,;=:@/%-]+$",
                                                            }
                                                        },
                                                    },
                                                    "region": {
                                                        "type": "object",
                                                        "additionalProperties": False,
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                                    },
                                                },
                                            },
                                            "logicalLocations": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "properties": {"fullyQualifiedName": {"type": "string"}},
                                                },
                                            },
                                        },
                                    },
                                },
                                "partialFingerprints": {
                                    "type": "object",
                                    "additionalProperties": {"type": "string"},
                                },
                                "properties": {"type": "object"},
                            },
                        },
                    },
                },
            },
        },
    },
}


def errors_of(document: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed here")
    return [error.message for error in jsonschema.Draft202012Validator(SARIF).iter_errors(document)]


def made(text: str) -> dict[str, Any]:
    return json.loads(json.dumps(sarif(findings(text), version="1", root="/repo"), allow_nan=False))


@pytest.mark.parametrize("text", [ARTICLE, ARTICLE_COMMAND, "vllm serve org/m -tp 2\n"])
def test_form(text: str) -> None:
    document = made(text)
    assert errors_of(document) == []
    assert len(document["runs"][0]["results"]) == len(findings(text))


def test_the_form_check_has_teeth() -> None:
    for break_ in (
        lambda run: run["results"][0].update(level="info"),
        lambda run: run["results"][0].pop("message"),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["region"].update(startLine=0),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"].update(uri="a b"),
        lambda run: run["tool"]["driver"]["rules"].append(run["tool"]["driver"]["rules"][0]),
    ):
        document = made(ARTICLE)
        break_(document["runs"][0])
        assert len(errors_of(document)) == 1


def test_results_name_their_rule_place_and_fix() -> None:
    run = made(ARTICLE)["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    shown = findings(ARTICLE)
    assert {rule["id"] for rule in rules} == {finding.code for finding in shown}
    for result, finding in zip(run["results"], shown, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        assert result["level"] == {"error": "error", "warning": "warning", "info": "note"}[finding.severity]
        assert finding.message in result["message"]["text"]
        assert finding.fix in result["message"]["text"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["region"]["startLine"] == finding.line
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "file"
        assert place["logicalLocations"][0]["fullyQualifiedName"] == finding.path


def test_identity_survives_lines_that_move() -> None:
    def prints(text: str) -> list[str]:
        return [item["partialFingerprints"]["spanwiseFinding/v1"] for item in made(text)["runs"][0]["results"]]

    assert prints(ARTICLE) == prints(f"# one more line\n{ARTICLE}")
    assert len(set(prints(ARTICLE))) == len(prints(ARTICLE))


def test_a_rule_has_the_level_of_its_worst_finding() -> None:
    def finding(severity: Any, line: int) -> Finding:
        return Finding(code="c", severity=severity, file="f", line=line, path="", message="m", fix="x")

    (rule,) = sarif([finding("info", 1), finding("error", 2)], version="1", root="/")["runs"][0]["tool"]["driver"][
        "rules"
    ]
    assert rule["defaultConfiguration"] == {"level": "error"}


def test_nothing_found_is_a_document_too() -> None:
    document = sarif([], version="1", root="/")
    assert errors_of(document) == []
    assert document["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("a.yaml", "a.yaml"),
        ("./sub/../a b.yaml", "a%20b.yaml"),
        ("/repo/deploy/ü.yaml", "deploy/%C3%BC.yaml"),
        ("c:d.yaml", "c%3Ad.yaml"),
        ("a#b?c%.yaml", "a%23b%3Fc%25.yaml"),
        ("../other/x.yaml", "file:///other/x.yaml"),
        ("/elsewhere/x y.yaml", "file:///elsewhere/x%20y.yaml"),
        ("bad\udcff.yaml", "bad%FF.yaml"),
        ("-", "stdin"),
    ],
)
def test_uris(file: str, uri: str) -> None:
    assert artifact_uri(file, "/repo") == uri
