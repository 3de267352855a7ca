"""No secret in any finding, also where a slip has put it into another place than a secret's own."""

from __future__ import annotations

import copy
import json
import random
import time

import pytest
import yaml

from spanwise.errors import SpanwiseError
from spanwise.render.lint import lint, secrets
from tests.unit.lint.checks import findings
from tests.unit.lint.mutations import SECRET, slip
from tests.unit.lint.samples import GOOD, SERVE


@pytest.mark.parametrize(
    "text",
    [
        f"vllm serve org/m HF_TOKEN={SECRET}",
        f"vllm serve org/m --max-model-len {SECRET} --api-key {SECRET}",
        f"vllm serve org/m --api-keys {SECRET}",
        f"HF_TOKEN={SECRET} vllm serve org/m -tp {SECRET}",
        f"vllm serve org/m --hf-token x {SECRET}",
        f"vllm serve org/m --hf-token={SECRET} -tp {SECRET}",
        f"docker run -e HF_TOKEN={SECRET} vllm/vllm-openai:v1 --model m {SECRET}",
        SERVE + f"        hf_token: {SECRET}\n        max_num_seqs: {SECRET}\n",
        SERVE.replace(
            "  args:", f"  route_prefix: [{SECRET}]\n  runtime_env: {{env_vars: {{A_TOKEN: {SECRET}}}}}\n  args:"
        ),
        SERVE.replace("build_openai_app", f"build_openai_app\n  name: {SECRET}")
        + f"        hf_token: '{SECRET * 9}'\n        dtype: {SECRET * 9}\n",
    ],
)
def test_known_secrets(text: str) -> None:
    assert findings(text)
    assert SECRET not in str(findings(text))


@pytest.mark.parametrize(
    "secret", ["hf_" + "a" * 30, "sk-" + "b" * 40, "ghp_" + "c" * 36, "AKIA" + "D" * 16, "eyJ" + "e" * 50 + ".x.y"]
)
def test_what_looks_like_a_secret(secret: str) -> None:
    for text in (f"vllm serve org/m -tp {secret}", f"vllm serve org/m {secret}"):
        assert findings(text)
        assert secret[8:30] not in str(findings(text))


def test_other_words_are_shown_as_they_are() -> None:
    (finding,) = [
        item for item in findings("vllm serve org/m --hf-token abcdefgh -tp four") if item.severity == "error"
    ]
    assert finding.message == "-tp: 'four' is not a whole number"


def base() -> dict[str, object]:
    manifest = yaml.safe_load(GOOD)
    cluster = manifest["spec"]["rayClusterConfig"]
    container = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "HF_TOKEN", "value": SECRET}, {"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}]
    cluster["headGroupSpec"]["rayStartParams"]["redis-password"] = SECRET
    cluster["gcsFaultToleranceOptions"] = {"redisAddress": "r:1", "redisPassword": {"value": SECRET}}
    return manifest


def leaks(number: int) -> int:
    """Mutants, with secrets in all their places, of which some finding repeats one."""
    manifest, random_, found = base(), random.Random("spanwise secrets"), 0
    config = yaml.safe_load(GOOD)["spec"]["serveConfigV2"]
    serve = yaml.safe_load(config)
    model = serve["applications"][0]["args"]["llm_configs"][0]
    model["engine_kwargs"]["hf_token"] = SECRET
    model["runtime_env"] = {"env_vars": {"HF_TOKEN": SECRET}}
    serve["http_options"] = {"ssl_keyfile_password": SECRET}
    for _ in range(number):
        changed, inner = copy.deepcopy(manifest), copy.deepcopy(serve)
        slip(changed, random_)
        slip(inner, random_)
        if isinstance(changed.get("spec"), dict):
            changed["spec"]["serveConfigV2"] = yaml.safe_dump(inner)
        try:
            said = str(lint(json.dumps(changed).encode(), "mutant"))
        except SpanwiseError as error:
            said = str(error)
        found += SECRET in said
    return found


def test_mutants_repeat_no_secret() -> None:
    assert leaks(800) == 0


def test_without_the_last_look_there_are_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"vllm serve org/m HF_TOKEN={SECRET}"
    assert SECRET not in str(findings(text))
    monkeypatch.setattr("spanwise.render.lint.without_secrets", lambda found, _: found)
    assert SECRET in str(findings(text))


def test_time_does_not_grow_with_the_square() -> None:
    text = "password=" * 100_000 + "token " * 100_000
    start = time.monotonic()
    secrets.without_secrets([], text)
    assert time.monotonic() - start < 10
