"""Protections that a stock manifest lacks: each is missed once, goes away with its cure, and is never an error."""

from __future__ import annotations

import pytest

from spanwise.render import RenderOptions, render
from tests.unit.lint.checks import findings
from tests.unit.lint.samples import ARTICLE, GOOD, SERVE
from tests.unit.plans import CASES

RAY_IMAGE = "            image: rayproject/ray-llm:2.60.0-py312-cu130\n"


def infos(text: str) -> set[str]:
    return {finding.code for finding in findings(text) if finding.severity == "info"}


def with_pod(line: str) -> str:
    """GOOD with one line in the spec of every pod."""
    return GOOD.replace(
        "        spec:\n          containers:", f"        spec:\n          {line}\n          containers:"
    )


SECURITY = with_pod("securityContext: {runAsNonRoot: true}")
BUDGET = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\n"
POLICY = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\n"
MULTI = GOOD.replace("      replicas: 2\n", "      replicas: 1\n      numOfHosts: 2\n").replace(
    "Replicas: 2", "Replicas: 1"
)


@pytest.mark.parametrize(
    ("code", "bare", "cured"),
    [
        ("ray_auth_off", GOOD, GOOD.replace("    headGroupSpec", "    authOptions: {mode: token}\n    headGroupSpec")),
        ("network_policy_missing", GOOD, GOOD + POLICY),
        ("network_policy_missing", GOOD, GOOD.replace("    headGroupSpec", "    networkPolicy: {}\n    headGroupSpec")),
        ("disruption_budget_missing", GOOD, GOOD + BUDGET),
        (
            "fault_tolerance_off",
            GOOD,
            GOOD.replace("    headGroupSpec", "    gcsFaultToleranceOptions: {redisAddress: 'r:1'}\n    headGroupSpec"),
        ),
        (
            "fault_tolerance_off",
            GOOD,
            GOOD.replace("  name: good", "  name: good\n  annotations: {ray.io/ft-enabled: 'true'}"),
        ),
        ("root_not_refused", GOOD, SECURITY),
        (
            "root_not_refused",
            GOOD,
            GOOD.replace(RAY_IMAGE, RAY_IMAGE + "            securityContext: {runAsUser: 1000}\n"),
        ),
        (
            "upgrade_doubles_gpus",
            GOOD,
            GOOD.replace("spec:\n  serve", "spec:\n  upgradeStrategy: {type: None}\n  serve"),
        ),
        ("upgrade_doubles_gpus", GOOD, GOOD.replace("nvidia.com/gpu", "example.com/tpu")),
        ("gang_scheduling_missing", MULTI, GOOD),
        (
            "gang_scheduling_missing",
            MULTI,
            MULTI.replace("  name: good", "  name: good\n  labels: {kueue.x-k8s.io/queue-name: q}"),
        ),
        (
            "topology_not_stated",
            MULTI,
            MULTI.replace("          volumes:", "          nodeSelector: {pool: a}\n          volumes:"),
        ),
        (
            "revision_not_pinned",
            GOOD,
            GOOD.replace("tensor_parallel_size: 4", "tensor_parallel_size: 4\n            revision: abc"),
        ),
        ("revision_not_pinned", GOOD, GOOD.replace("org/m}", "/models/m}")),
        (
            "hub_at_start",
            GOOD,
            GOOD.replace(RAY_IMAGE, RAY_IMAGE + "            env: [{name: HF_HUB_OFFLINE, value: '1'}]\n"),
        ),
        ("hub_at_start", GOOD, GOOD.replace("org/m}", "s3://bucket/m}")),
        (
            "hub_token_missing",
            GOOD,
            GOOD.replace(
                RAY_IMAGE,
                RAY_IMAGE + "            env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}]\n",
            ),
        ),
        (
            "hub_token_missing",
            GOOD,
            GOOD.replace(RAY_IMAGE, RAY_IMAGE + "            envFrom: [{secretRef: {name: s}}]\n"),
        ),
    ],
)
def test_missed_and_cured(code: str, bare: str, cured: str) -> None:
    assert cured != bare
    assert code in infos(bare)
    assert code not in infos(cured)
    errors = {finding.code for finding in findings(cured) if finding.severity == "error"}
    assert errors <= {"gpus_not_enough"}  # where the cure is to have none


def test_one_container_as_root_is_enough() -> None:
    sidecar = "          - {name: sidecar, image: 'x:1'}\n          volumes:"
    text = GOOD.replace(RAY_IMAGE, RAY_IMAGE + "            securityContext: {runAsUser: 1000}\n")
    assert "root_not_refused" not in infos(text)
    assert "root_not_refused" in infos(text.replace("          volumes:", sidecar))


def test_figures_of_an_upgrade() -> None:
    (finding,) = [item for item in findings(GOOD) if item.code == "upgrade_doubles_gpus"]
    assert "8 more GPUs" in finding.message
    (finding,) = [
        item
        for item in findings(MULTI.replace("numOfHosts: 2", "numOfHosts: 3"))
        if item.code == "upgrade_doubles_gpus"
    ]
    assert "12 more GPUs" in finding.message


def test_the_article_lacks_them_all() -> None:
    assert infos(ARTICLE) >= {
        "ray_auth_off",
        "network_policy_missing",
        "disruption_budget_missing",
        "fault_tolerance_off",
        "root_not_refused",
        "upgrade_doubles_gpus",
    }


def test_a_serve_config_of_its_own_has_no_environment_to_judge() -> None:
    assert infos(SERVE) == {"revision_not_pinned"}


@pytest.mark.parametrize("case", CASES)
def test_what_render_writes_lacks_only_what_the_cluster_has_to_give(case: str) -> None:
    file = render(CASES[case], "kuberay", RenderOptions())[0]
    assert infos(file.text) <= {
        "disruption_budget_missing",
        "fault_tolerance_off",
        "gang_scheduling_missing",
        "hub_at_start",
        "network_policy_missing",
        "ray_auth_off",
        "revision_not_pinned",
        "shm_not_declared",
        "topology_not_stated",
        "upgrade_doubles_gpus",
    }
