"""A Serve config against Ray's own schema: single faults, and seeded mutants judged by the installed Ray."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
import yaml

from spanwise.render import render
from spanwise.render.lint import Finding, lint, serve_config, serve_schema
from tests.unit.lint.checks import codes, findings
from tests.unit.lint.mutations import SECRET, slip
from tests.unit.plans import CASES

FULL = f"""\
proxy_location: EveryNode
http_options: {{host: 0.0.0.0, port: 8000, request_timeout_s: 10, keep_alive_timeout_s: 5}}
grpc_options: {{port: 9000, grpc_servicer_functions: []}}
logging_config: {{log_level: INFO, encoding: JSON, logs_dir: /x, enable_access_log: true}}
target_capacity: 50.0
applications:
- name: app1
  route_prefix: /a
  import_path: mod.sub:app
  runtime_env: {{working_dir: "https://x.example/a.zip", env_vars: {{API_KEY: {SECRET}}}}}
  args: {{x: 1}}
  external_scaler_enabled: false
  logging_config: {{log_level: DEBUG}}
  deployments:
  - name: D
    num_replicas: 2
    max_ongoing_requests: 10
    max_queued_requests: 5
    user_config: {{price: 3}}
    graceful_shutdown_timeout_s: 20
    health_check_period_s: 10
    max_replicas_per_node: 1
    ray_actor_options: {{num_cpus: 1, num_gpus: 0, resources: {{x: 1}}, runtime_env: {{}}}}
  - name: E
    autoscaling_config: {{min_replicas: 1, max_replicas: 4, target_ongoing_requests: 2}}
    placement_group_bundles: [{{CPU: 1}}]
    placement_group_strategy: PACK
- name: app2
  route_prefix: null
  import_path: other.app
"""


def errors(text: str) -> list[Finding]:
    return [item for item in findings(text) if item.severity == "error"]


def test_a_full_config_has_no_error() -> None:
    assert errors(FULL) == []
    assert codes(FULL) == {"secret_in_plain_text": ("warning", 10)}


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("EveryNode", "Everywhere", "value_not_allowed", 1),
        ("port: 8000", "port: [8000]", "wrong_type", 2),
        ("keep_alive_timeout_s: 5", "keep_alive_timeout_s: 5.5", "wrong_type", 2),
        ("grpc_servicer_functions: []", "grpc_servicer_functions: x", "wrong_type", 3),
        ("log_level: INFO", "log_level: LOUD", "value_not_allowed", 4),
        ("log_level: INFO", "log_level: 15", "value_not_allowed", 4),
        ("encoding: JSON", "encoding: json", "value_not_allowed", 4),
        ("logs_dir: /x", "log_dir: /x", "serve_field_unknown", 4),
        ("enable_access_log: true", "enable_access_log: maybe", "wrong_type", 4),
        ("target_capacity: 50.0", "target_capacity: 101", "value_not_allowed", 5),
        ("- name: app1", "- name: 1", "wrong_type", 7),
        ("- name: app1", "- name: ''", "value_not_allowed", 7),
        ("mod.sub:app", "mod:sub:app", "import_path_malformed", 9),
        ("mod.sub:app", "'mod.sub:'", "import_path_malformed", 9),
        ('"https://x.example/a.zip"', "./code", "runtime_env_local", 10),
        ('"https://x.example/a.zip"', "/code", "runtime_env_local", 10),
        ("args: {x: 1}", "args: [x]", "wrong_type", 11),
        ("  - name: D\n    num_replicas: 2\n", "  - num_replicas: 2\n", "field_missing", 15),
        ("num_replicas: 2", "num_replicas: 0", "value_not_allowed", 16),
        ("num_replicas: 2", "num_replicas: many", "value_not_allowed", 16),
        ("num_replicas: 2", "num_replicas: 2\n    autoscaling_config: {max_replicas: 3}", "replicas_twice", 16),
        ("max_queued_requests: 5", "max_queued_requests: 0", "value_not_allowed", 18),
        ("num_cpus: 1", "num_cpus: -1", "value_not_allowed", 23),
        ("runtime_env: {}}", "runtime_env: {py_modules: [x]}}", "runtime_env_local", 23),
        ("[{CPU: 1}]", "[{CPU: one}]", "wrong_type", 26),
        ("[{CPU: 1}]", "[{CPU: 1}]\n    max_replicas_per_node: 1", "placement_contradicts", 27),
        ("external_scaler_enabled: false", "external_scaler_enabled: true", "replicas_twice", 25),
    ],
)
def test_single_faults(old: str, new: str, code: str, line: int) -> None:
    assert old in FULL
    found = errors(FULL.replace(old, new, 1))
    assert (code, line) in {(item.code, item.line) for item in found}, found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port: 8000", "port: '8000'"),
        ("keep_alive_timeout_s: 5", "keep_alive_timeout_s: 5.0"),
        ("enable_access_log: true", "enable_access_log: 'yes'"),
        ("request_timeout_s: 10", "request_timeout_s: null"),
        ("target_capacity: 50.0", "target_capacity: null"),
        ("num_replicas: 2", "num_replicas: auto"),
        ('"https://x.example/a.zip"', "local:///code"),
        ("max_queued_requests: 5", "max_queued_requests: -1"),
    ],
)
def test_what_ray_reads_all_the_same(old: str, new: str) -> None:
    assert old in FULL
    assert errors(FULL.replace(old, new, 1)) == []


def test_a_field_that_ray_ignores_is_a_warning() -> None:
    text = FULL.replace("num_replicas: 2", "num_replica: 2")
    assert codes(text)["serve_field_unknown"] == ("warning", 16)
    (finding,) = [item for item in findings(text) if item.code == "serve_field_unknown"]
    assert finding.fix == "did you mean `num_replicas`?"


def test_secrets_of_a_config() -> None:
    text = FULL.replace("port: 8000", f"port: 8000, ssl_keyfile_password: {SECRET}")
    assert [item.line for item in findings(text) if item.code == "secret_in_plain_text"] == [2, 10]
    text = FULL.replace("runtime_env: {}}", f"runtime_env: {{env_vars: {{HF_TOKEN: {SECRET}}}}}}}")
    assert [item.line for item in findings(text) if item.code == "secret_in_plain_text"] == [10, 23]
    assert SECRET not in str(findings(text))


def holes(number: int) -> list[str]:
    """Mutants on which lint and the installed Ray disagree, in either direction."""
    ray = pytest.importorskip("ray.serve.schema", reason="Ray is not installed here")
    bases = [yaml.safe_load(FULL), *(yaml.safe_load(render(CASES[case], "ray")[0].text) for case in CASES)]
    random_ = random.Random("spanwise serve schema")
    found: list[str] = []
    for _ in range(number):
        changed: dict[str, Any] = copy.deepcopy(bases[0] if random_.random() < 0.6 else random_.choice(bases[1:]))
        slip(changed, random_)
        text = json.dumps(changed)
        result = lint(text.encode(), "mutant") if "applications" in changed and "kind" not in changed else None
        if result is None:
            continue
        assert SECRET not in str(result)
        bad = [item for item in result if item.severity == "error"]
        try:
            ray.ServeDeploySchema.model_validate(changed)
        except Exception as error:  # noqa: BLE001 - its validators raise what they like
            if not bad:
                found.append(f"passes lint: {error}: {text}")
        else:
            claimed = [item for item in bad if "refuse" in item.message and ".args." not in item.path]
            found += [f"{item}: {text}" for item in claimed]
    return found


def test_mutants_of_a_config_as_ray_judges_them() -> None:
    assert holes(3000) == []


def test_a_missing_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_schema, "_validators", lambda _: iter(()))
    assert holes(600)
    monkeypatch.setattr(serve_config, "departures", lambda _: [])
    assert holes(100)
