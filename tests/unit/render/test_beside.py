"""The objects beside a RayService: their form by compact schemas of the Kubernetes API, their meaning by the plan."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from spanwise.render import RenderOptions, render
from spanwise.render.lint import lint
from tests.unit.plans import ARTICLE, CASES, LOCAL, SMALL, TWO_HOSTS, make_plan
from tests.unit.render.sites import FULL, SPANWISE, documents, pods


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_TEXT = {"type": "string"}
_LABELS = {
    "type": "object",
    "additionalProperties": {
        "type": "string",
        "pattern": "^([A-Za-z0-9][-A-Za-z0-9_.]{0,61}[A-Za-z0-9]|[A-Za-z0-9])?$",
    },
}
_SELECTOR = _object(matchLabels=_LABELS)
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
_META = _object(("name",), name=_NAME, labels=_LABELS)
_PEER = {**_object(podSelector=_SELECTOR, namespaceSelector=_SELECTOR), "minProperties": 1}
_PORT = _object(("port",), protocol={"enum": ["TCP"]}, port={"type": "integer", "minimum": 1, "maximum": 65535})
_RULE = _object(
    **{"from": {"type": "array", "items": _PEER, "minItems": 1}, "ports": {"type": "array", "items": _PORT}}
)


def _kind(version: str, kind: str, **more: Any) -> dict[str, Any]:
    properties = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": _META, **more}
    return _object(tuple(properties), **properties)


SCHEMAS: dict[str, dict[str, Any]] = {
    "ServiceAccount": _kind("v1", "ServiceAccount", automountServiceAccountToken={"type": "boolean"}),
    "PodDisruptionBudget": _kind(
        "policy/v1",
        "PodDisruptionBudget",
        spec=_object(("minAvailable", "selector"), minAvailable={"type": "integer", "minimum": 1}, selector=_SELECTOR),
    ),
    "NetworkPolicy": _kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec=_object(
            ("podSelector", "policyTypes", "ingress"),
            podSelector=_SELECTOR,
            policyTypes={"type": "array", "items": {"enum": ["Ingress", "Egress"]}},
            ingress={"type": "array", "items": _RULE},
        ),
    ),
    "Kustomization": _object(
        ("apiVersion", "kind", "resources"),
        apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
        kind={"const": "Kustomization"},
        namespace=_NAME,
        resources={"type": "array", "items": _TEXT, "minItems": 1},
        images={
            "type": "array",
            "items": {
                **_object(("name",), name=_TEXT, newName=_TEXT, newTag=_TEXT, digest=_TEXT),
                "oneOf": [{"required": ["newTag"]}, {"required": ["digest"]}],
            },
        },
        patches={
            "type": "array",
            "items": _object(
                ("patch",), patch=_TEXT, target=_object(group=_TEXT, version=_TEXT, kind=_TEXT, name=_TEXT)
            ),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [RenderOptions(), SPANWISE, FULL, RenderOptions(kustomize=True)])
def test_every_object_has_the_form_of_its_kind(case: str, options: RenderOptions) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed here")
    found = documents(CASES[case], options)
    assert set(found) >= {"RayService", "PodDisruptionBudget", "NetworkPolicy"}
    for kind, made in found.items():
        names = [document["metadata"]["name"] for document in made if "metadata" in document]
        assert len(set(names)) == len(names), kind
        for document in made:
            if kind != "RayService":
                jsonschema.validate(document, SCHEMAS[kind])


def test_the_schemas_have_teeth() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed here")
    found = documents([ARTICLE], RenderOptions(kustomize=True))
    for kind, schema in SCHEMAS.items():
        good = found[kind][0]
        assert not list(jsonschema.Draft202012Validator(schema).iter_errors(good))
        for bad in ({**good, "extra": 1}, {**good, "apiVersion": "v9"}, {k: good[k] for k in ("kind",)}):
            assert list(jsonschema.Draft202012Validator(schema).iter_errors(bad)), kind


def selected(labels: dict[str, str], made: dict[str, Any]) -> int:
    """How many pods of a RayService carry ``labels``, those counted that KubeRay adds."""
    cluster = made["spec"]["rayClusterConfig"]
    counts = [1, *(group["replicas"] * group["numOfHosts"] for group in cluster["workerGroupSpecs"])]
    types = ["head", *("worker" for _ in cluster["workerGroupSpecs"])]
    return sum(
        count
        for pod, count, kind in zip(pods(made), counts, types, strict=True)
        if labels.items() <= {**pod["metadata"]["labels"], "ray.io/node-type": kind}.items()
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [RenderOptions(), SPANWISE, FULL])
def test_budgets_hold_every_worker_and_none_twice(case: str, options: RenderOptions) -> None:
    """Kubernetes evicts no pod that two budgets select, and protects none that no budget selects."""
    found = documents(CASES[case], options)
    (made,) = found["RayService"]
    covered = 0
    for budget in found["PodDisruptionBudget"]:
        count = selected(budget["spec"]["selector"]["matchLabels"], made)
        assert 1 <= budget["spec"]["minAvailable"] <= count
        covered += count
    cluster = made["spec"]["rayClusterConfig"]
    workers = sum(group["replicas"] * group["numOfHosts"] for group in cluster["workerGroupSpecs"])
    assert covered == workers + (0 if "gcsFaultToleranceOptions" in cluster else 1)


@pytest.mark.parametrize(
    ("plan", "least"),
    [
        (ARTICLE, 1),
        # Three replicas on a host each: one at a time.
        (make_plan(replicas=3, hosts=3), 2),
        # A drained host would take its whole gang, which other hosts are busy with.
        (TWO_HOSTS, 2),
        (make_plan(stages=2, replicas=3, hosts=6), 6),
        # Two replicas on the one host.
        (SMALL, 1),
    ],
)
def test_a_drain_takes_whole_replicas_or_nothing(plan: Any, least: int) -> None:
    for options in (RenderOptions(), SPANWISE):
        budgets = {item["metadata"]["name"]: item["spec"] for item in documents([plan], options)["PodDisruptionBudget"]}
        assert budgets[f"{plan.name}-workers"]["minAvailable"] == least
        assert budgets[f"{plan.name}-head"]["minAvailable"] == 1


def test_the_head_may_move_where_its_store_survives() -> None:
    names = [item["metadata"]["name"] for item in documents([ARTICLE], FULL)["PodDisruptionBudget"]]
    assert names == ["llama-workers"]


def policy(options: RenderOptions | None = None) -> dict[str, Any]:
    (found,) = documents(CASES["two-models"], options)["NetworkPolicy"]
    return found["spec"]


def test_the_network_policy_admits_three() -> None:
    spec = policy()
    assert spec["policyTypes"] == ["Ingress"]
    inside, operator, clients = spec["ingress"]
    assert inside == {"from": [{"podSelector": spec["podSelector"]}]}
    assert selected(spec["podSelector"]["matchLabels"], documents(CASES["two-models"])["RayService"][0]) == 4
    assert [port["port"] for port in operator["ports"]] == [8265, 8000]
    assert operator["from"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
    assert operator["from"][0]["namespaceSelector"] == {}
    # Without a namespaceSelector a peer is in the policy's own namespace.
    assert clients == {"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 8000}]}
    clients = policy(RenderOptions(serve_from="team=web"))["ingress"][2]
    assert clients["from"] == [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]


def test_an_account_of_ones_own_is_not_rendered() -> None:
    (account,) = documents([ARTICLE])["ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    for pod in pods(documents([ARTICLE])["RayService"][0]):
        assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
        assert pod["spec"]["automountServiceAccountToken"] is False
    assert "ServiceAccount" not in documents([ARTICLE], RenderOptions(service_account="mine"))


def test_kustomize_holds_the_same_objects() -> None:
    plain = {file.name: file.text for file in render([LOCAL], "kuberay")}
    files = {file.name: file.text for file in render([LOCAL], "kuberay", RenderOptions(kustomize=True))}
    base = yaml.safe_load(files["base/kustomization.yaml"])
    assert base["resources"] == sorted(plain)
    for name, text in plain.items():
        body = [line for line in files[f"base/{name}"].splitlines() if not line.startswith("#")]
        assert body == [line for line in text.splitlines() if not line.startswith("#")]
    overlay = yaml.safe_load(files["overlays/example/kustomization.yaml"])
    assert overlay["resources"] == ["../../base"]
    (service,) = documents([LOCAL])["RayService"]
    assert overlay["patches"][0]["target"]["name"] == service["metadata"]["name"]
    (operation,) = yaml.safe_load(overlay["patches"][0]["patch"])
    assert operation == {"op": "add", "path": "/metadata/labels/spanwise.io~1place", "value": "example"}
    (image,) = overlay["images"]
    (container,) = pods(service)[0]["spec"]["containers"]
    assert f"{image['name']}:{image['newTag']}" == container["image"]
    (pinned,) = yaml.safe_load(
        {
            file.name: file.text
            for file in render(
                [LOCAL], "kuberay", RenderOptions(kustomize=True, image="r.example/a/b:1@sha256:" + "0" * 64)
            )
        }["overlays/example/kustomization.yaml"]
    )["images"]
    assert pinned == {"name": "r.example/a/b", "newName": "r.example/a/b", "digest": "sha256:" + "0" * 64}


@pytest.mark.parametrize("options", [RenderOptions(), SPANWISE, FULL, RenderOptions(kustomize=True)])
@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing_of_our_own_doing(case: str, options: RenderOptions) -> None:
    for file in render(CASES[case], "kuberay", options):
        found = lint(file.text.encode(), file.name)
        assert [item for item in found if item.severity != "info" or item.code == "ray_auth_off"] == []
