"""Seeded mutants of rendered manifests: no crash, and none accepted that KubeRay's CRD refuses."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import yaml

from spanwise.errors import SpanwiseError
from spanwise.render import render
from spanwise.render.lint import Finding, lint
from tests.unit.plans import CASES
from tests.unit.render.test_kuberay import crd_validator

_JUNK: list[Any] = [None, True, -1, 0, 2**63, 1.5, "", "x", "4", [], {}, [1], {"a": 1}, "\u2028", "é" * 300, {"": None}]


def mutant(manifest: dict[str, Any], random_: random.Random) -> dict[str, Any]:
    """One place of ``manifest`` changed: replaced, removed, renamed, or moved one level up."""
    changed = copy.deepcopy(manifest)
    node: Any = changed
    while node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = random_.choice(keys)
        child = node[key]
        if isinstance(child, dict | list) and child and random_.random() < 0.8:
            node = child
            continue
        act = random_.randrange(4)
        if act == 0:
            node[key] = random_.choice(_JUNK)
        elif act == 1:
            del node[key]
        elif act == 2 and isinstance(node, dict):
            node[f"{key}{random_.choice('sXz')}"] = node.pop(key)
        elif isinstance(node, dict):
            node[random_.choice(["extra", "replicas", "containers", "spec"])] = random_.choice(_JUNK)
        break
    return changed


def judged(document: dict[str, Any]) -> list[Finding] | SpanwiseError:
    try:
        return lint(yaml.safe_dump(document, allow_unicode=True).encode(), "mutant")
    except SpanwiseError as error:
        return error


@pytest.mark.parametrize("case", CASES)
def test_mutants(case: str) -> None:
    validator = crd_validator()
    file = render(CASES[case], "kuberay")[0]
    manifest = yaml.safe_load(file.text)
    random_ = random.Random(f"spanwise {case}")
    refused_by_crd = 0
    for _ in range(300):
        changed = mutant(manifest, random_)
        result = judged(changed)
        if changed.get("kind") != "RayService" or not isinstance(changed.get("apiVersion"), str):
            continue
        if isinstance(result, SpanwiseError):
            continue
        # The API server drops nulls before it validates.
        if not validator.is_valid(_without_nulls(changed)):
            refused_by_crd += 1
            assert any(finding.severity == "error" for finding in result), changed
    assert refused_by_crd > 30  # the mutants are not all harmless


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value


@pytest.mark.parametrize("case", CASES)
def test_mutants_of_the_serve_config(case: str) -> None:
    """Anything anywhere in the Serve config, alone and inside the RayService: findings, never a surprise."""
    (serve,) = render(CASES[case], "ray")
    service = render(CASES[case], "kuberay")[0]
    config, manifest = yaml.safe_load(serve.text), yaml.safe_load(service.text)
    random_ = random.Random(f"spanwise serve {case}")
    for _ in range(200):
        changed = mutant(mutant(config, random_), random_)
        judged(changed)
        manifest["spec"]["serveConfigV2"] = yaml.safe_dump(changed, allow_unicode=True)
        result = judged(manifest)
        assert not isinstance(result, SpanwiseError)


@pytest.mark.parametrize("case", CASES)
def test_mutated_text(case: str) -> None:
    """Bytes changed anywhere in the text: findings or one error, never anything else."""
    text = render(CASES[case], "kuberay")[0].text
    random_ = random.Random(f"spanwise text {case}")
    for _ in range(150):
        data = bytearray(text.encode())
        for _ in range(random_.randrange(1, 4)):
            data[random_.randrange(len(data))] = random_.choice(b"\n\t :{}[]&*!|>'\"#-x0\x00\xff")
        try:
            lint(bytes(data), "mutant")
        except SpanwiseError:
            continue
