"""10,000 seeded mutants of rendered manifests, judged by lint and by an oracle that knows nothing of lint.

Whatever Kubernetes or KubeRay's controller refuses has at least one error from lint; what hangs on a feature gate of
the operator has at least a warning; nothing but a SpanwiseError is ever raised; no secret is ever repeated.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from spanwise.errors import SpanwiseError
from spanwise.render import RenderOptions, render
from spanwise.render.lint import Finding, controller, lint, schema
from tests.unit.lint.kuberay_oracle import verdict
from tests.unit.lint.mutations import SECRET, setting, slip
from tests.unit.plans import CASES

MUTANTS = 10_000
KINDS = ("RayService", "RayCluster")
EACH = MUTANTS // (len(CASES) * len(KINDS))
# Codes of what the API server refuses; `value_not_allowed` and the rest say it in their message.
OF_THE_SCHEMA = frozenset({"field_unknown", "field_missing", "wrong_type", "value_not_allowed", "item_repeated"})
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(slots=True)
class Tally:
    """What a run over mutants came to."""

    refused: int = 0
    gated: int = 0
    accepted: int = 0
    holes: list[str] = field(default_factory=list)
    false_claims: list[str] = field(default_factory=list)


def base(case: str, kind: str) -> dict[str, Any]:
    """A rendered manifest; as a RayCluster, what the RayService makes."""
    file = render(CASES[case], "kuberay", RenderOptions())[0]
    manifest: dict[str, Any] = yaml.safe_load(file.text)
    if kind == "RayCluster":
        return {**manifest, "kind": kind, "spec": manifest["spec"]["rayClusterConfig"]}
    return manifest


def mutant(manifest: dict[str, Any], random_: random.Random) -> dict[str, Any]:
    """A copy with one to four changes: each rule of the controller needs some settings to stand together."""
    changed = copy.deepcopy(manifest)
    settings, slips = random_.choice([(0, 1), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (2, 1), (0, 2)])
    for _ in range(settings):
        setting(changed, random_)
    for _ in range(slips):
        slip(changed, random_)
    return changed


def text_of(document: Any, random_: random.Random) -> str:
    """As JSON (which is YAML, and quick to write), now and then as YAML in full."""
    if random_.random() < 0.9:
        return json.dumps(document)
    return yaml.dump(document, Dumper=_DUMPER, allow_unicode=True)


def judged(text: str) -> list[Finding] | SpanwiseError:
    """Lint's findings, or its refusal; anything else that it raises fails the test."""
    try:
        return lint(text.encode(), "mutant")
    except SpanwiseError as error:
        return error


def claims(result: list[Finding] | SpanwiseError) -> list[Finding]:
    """Errors that say of somebody that he refuses the object: nobody does where the oracle accepts it."""
    if isinstance(result, SpanwiseError):
        return []
    outside = [item for item in result if not item.path.startswith("spec.serveConfigV2")]
    return [
        item
        for item in outside
        if item.severity == "error"
        and (item.code in OF_THE_SCHEMA or "KubeRay refuses" in item.message or "API server refuses" in item.message)
    ]


def run(case: str, kind: str, number: int) -> Tally:
    """Judge ``number`` mutants."""
    manifest = base(case, kind)
    random_ = random.Random(f"spanwise {case} {kind}")
    tally = Tally()
    for _ in range(number):
        changed = mutant(manifest, random_)
        text = text_of(changed, random_)
        result = judged(text)
        assert SECRET not in str(result), f"a secret in {result} of {text}"
        answer, why = verdict(changed)
        worst = {"error"} if isinstance(result, SpanwiseError) else {finding.severity for finding in result}
        if answer == "yes":
            tally.accepted += 1
            tally.false_claims += [f"{item}: {text}" for item in claims(result)]
        elif answer == "no":
            tally.refused += 1
            if "error" not in worst:
                tally.holes.append(f"{why}: {text}")
        else:
            tally.gated += 1
            if not worst & {"error", "warning"}:
                tally.holes.append(f"{why}: {text}")
    return tally


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_whatever_is_refused_has_an_error(case: str, kind: str) -> None:
    tally = run(case, kind, EACH)
    assert tally.holes == [], f"{len(tally.holes)} of {tally.refused + tally.gated} refused mutants pass lint"
    assert tally.false_claims == [], f"{len(tally.false_claims)} errors on what is accepted"
    # The mutants are neither all dead nor all harmless.
    assert tally.refused > EACH / 3
    assert tally.accepted > EACH / 10
    assert tally.gated > EACH / 200


def test_rendered_manifests_are_accepted() -> None:
    for case in CASES:
        for kind in KINDS:
            assert verdict(base(case, kind)) == ("yes", "")


@pytest.mark.parametrize(
    "rule", ["_fault_tolerance", "_autoscaling", "_auth", "_group", "_start_params", "check_gated"]
)
def test_a_missing_rule_of_the_controller_is_noticed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: without one rule of lint it reports holes."""
    monkeypatch.setattr(controller, rule, lambda *_: None)
    assert run("article", "RayService", 700).holes


def test_a_missing_rule_of_the_schema_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_repeated", lambda *_: iter(()))
    assert any("duplicate" in hole for hole in run("article", "RayCluster", 700).holes)


@pytest.mark.parametrize("case", CASES)
def test_mutants_of_the_serve_config(case: str) -> None:
    """Anything anywhere in the Serve config, alone and inside the RayService: findings, never a surprise."""
    (serve,) = render(CASES[case], "ray")
    service = render(CASES[case], "kuberay")[0]
    config, manifest = yaml.safe_load(serve.text), yaml.safe_load(service.text)
    random_ = random.Random(f"spanwise serve {case}")
    for _ in range(150):
        changed = copy.deepcopy(config)
        for _ in range(random_.randrange(1, 3)):
            slip(changed, random_)
        judged(json.dumps(changed))
        manifest["spec"]["serveConfigV2"] = yaml.safe_dump(changed, allow_unicode=True)
        result = judged(json.dumps(manifest))
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
