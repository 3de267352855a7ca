"""What Kubernetes refuses in a pod that the schema lets pass, and secrets in places where a type is wrong."""

from __future__ import annotations

import pytest

from spanwise.render.lint.pod import quantity
from tests.unit.lint.checks import codes, findings
from tests.unit.lint.samples import GOOD

LIMITS = 'limits: {cpu: "16", memory: 100Gi, nvidia.com/gpu: "4"}'
WORKER = "          - name: ray-worker\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{name: shm, mountPath: /dev/shm}", "{name: shn, mountPath: /dev/shm}", "no volume of the pod"),
        (WORKER, "          - name: Ray_Worker\n", "container's name"),
        (WORKER, f"{WORKER}            imagePullPolicy: Sometimes\n", "imagePullPolicy"),
        (WORKER, f"{WORKER}            ports: [{{containerPort: 70000}}]\n", "the port 70000"),
        (LIMITS, f"{LIMITS}\n              requests: {{cpu: 17, memory: 1Gi}}", "17 cpu above the limit of 16"),
        (LIMITS, f"{LIMITS}\n              requests: {{memory: 101Gi}}", "above the limit of 100Gi"),
        ("          volumes:", "          restartPolicy: Maybe\n          volumes:", "restartPolicy"),
        ("          volumes:", "          tolerations: [{operator: Exist}]\n          volumes:", "operator"),
    ],
)
def test_refused_by_kubernetes(old: str, new: str, words: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    (finding,) = [item for item in findings(text) if item.severity == "error"]
    assert finding.code == "pod_refused"
    assert words in finding.message


@pytest.mark.parametrize(
    "new",
    [
        f"{LIMITS}\n              requests: {{cpu: 500m, memory: 104857600Ki}}",
        f"{LIMITS}\n              requests: {{cpu: 16.0, ephemeral-storage: 1Ti}}",
        f"{LIMITS}\n              requests: {{memory: 1e9}}",
    ],
)
def test_accepted_by_kubernetes(new: str) -> None:
    assert codes(GOOD.replace(LIMITS, new)) == {}


def test_labels_of_pods() -> None:
    text = GOOD.replace(
        "      template:\n        spec:", "      template:\n        metadata: {labels: {a: b c}}\n        spec:"
    )
    assert codes(text)["label_not_allowed"][0] == "error"


def test_quantities() -> None:
    given = ["1", 2, 0.5, "1500m", "1Ki", "2k", "1.5Gi", "3e2", "-1", ".5", "1n", "1E", "1Ei"]
    assert [quantity(text) for text in given] == [
        *(1, 2, 0.5, 1.5, 1024, 2000, 1.5 * 2**30, 300, -1, 0.5, 1e-9, 1e18, float(2**60))
    ]
    assert [quantity(text) for text in ("", "x", "1 Gi", "1K", True, None, [], "9" * 99)] == [None] * 8


@pytest.mark.parametrize(
    "entry",
    [
        "{name: DB_PASSWORD, value: 7431904}",
        "{name: DB_PASSWORD, value: [7431904]}",
        "{name: DB_PASSWORD, valueFrom: {secretKeyRef: 7431904}}",
        "{name: DB_PASSWORD, vaule: 7431904}",
    ],
)
def test_a_secret_of_the_wrong_type_is_not_repeated(entry: str) -> None:
    text = GOOD.replace(WORKER, f"{WORKER}            env: [{entry}]\n")
    assert "error" in {item.severity for item in findings(text)}
    assert "7431904" not in str(findings(text))


def test_redis_password_in_plain_text() -> None:
    for line in (
        "    gcsFaultToleranceOptions: {redisAddress: 'r:1', redisPassword: {value: s3kr3t}}\n",
        "    gcsFaultToleranceOptions: {redisAddress: 'r:1', redisPassword: s3kr3t}\n",
    ):
        text = GOOD.replace("    headGroupSpec:\n", f"{line}    headGroupSpec:\n")
        assert {"secret_in_plain_text", "wrong_type"} & codes(text).keys()
        assert "s3kr3t" not in str(findings(text))
    text = GOOD.replace('{num-cpus: "0"}', '{num-cpus: "0", redis-password: s3kr3t}')
    assert codes(text) == {"secret_in_plain_text": ("warning", 19)}
    assert "s3kr3t" not in str(findings(text))
