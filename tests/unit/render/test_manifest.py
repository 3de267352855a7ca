"""A manifest read as a description: hosts by group, applications, and nothing that would run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import ManifestError, SpanwiseError
from spanwise.render import RenderOptions, render
from spanwise.render.manifest import Manifest, read_manifest
from tests.unit.plans import CASES

IMAGE = RenderOptions(runtime="spanwise", image="registry.example/spanwise:1")


def rendered(case: str, *, options: RenderOptions | None = None, target: Any = "kuberay") -> bytes:
    if options is not None and target == "ray":
        options = replace(options, image=None)
    return render(CASES[case], target, options)[0].text.encode()


def read(value: Any) -> Manifest:
    return read_manifest(yaml.safe_dump(value).encode() if not isinstance(value, bytes) else value, "m.yaml")


def service(case: str = "two-models", **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(rendered(case))
    document["spec"].update(changes)
    return document


def serve(document: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(document["spec"]["serveConfigV2"])
    return config


def with_application(**changes: Any) -> dict[str, Any]:
    document = service()
    config = serve(document)
    config["applications"][0].update(changes)
    return service(serveConfigV2=yaml.safe_dump(config))


def test_a_rendered_manifest_says_its_hosts() -> None:
    found = read(rendered("two-models"))
    groups = {group.name: (group.hosts, group.gpus, group.cpus, group.resources) for group in found.groups}
    assert groups == {
        "head": (1, 0, 0.0, {}),
        "meta-llama-3-70b-domain-1": (2, 4, 16.0, {"spanwise-meta-llama-3-70b": 4.0}),
        "small-domain-1": (1, 2, 8.0, {"spanwise-small": 2.0}),
    }
    assert [item.runtime for item in found.applications] == ["stock"]
    assert found.ray_version == "2.60.0"
    assert {remark.what for remark in found.remarks} == {"HF_TOKEN"}, "named, and left out"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["ray", "kuberay"])
@pytest.mark.parametrize("options", [None, IMAGE], ids=["stock", "spanwise"])
def test_everything_that_render_writes_can_be_read(case: str, target: str, options: RenderOptions | None) -> None:
    found = read(rendered(case, options=options, target=target))
    assert found.applications[0].runtime == ("stock" if options is None else "spanwise")
    assert bool(found.groups) == (target == "kuberay")


@pytest.mark.parametrize(
    "path", ["os:system", "evil.app:build", "ray.serve.llm:build_pd_openai_app", "", None, 7, ["x"], {"a": 1}]
)
def test_unknown_code_is_not_imported(path: Any) -> None:
    with pytest.raises(ManifestError, match="unknown code is not imported"):
        read(with_application(import_path=path))


@pytest.mark.parametrize(
    "key",
    [
        "working_dir",
        "py_modules",
        "pip",
        "uv",
        "conda",
        "container",
        "image_uri",
        "py_executable",
        "worker_process_setup_hook",
        "config",
        "new",
    ],
)
@pytest.mark.parametrize("place", ["application", "deployment"])
def test_a_runtime_environment_brings_no_code(key: str, place: str) -> None:
    environment = {key: "https://evil.example/x.zip"}
    change = (
        {"runtime_env": environment}
        if place == "application"
        else {"deployments": [{"name": "d", "ray_actor_options": {"runtime_env": environment}}]}
    )
    with pytest.raises(ManifestError, match=key):
        read(with_application(**change))


@pytest.mark.parametrize(
    "change", [{"autoscaling_policy": {"policy_function": "evil:f"}}, {"runtime_env": "evil.yaml"}, {"args": "x"}]
)
def test_other_ways_to_code_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        read(with_application(**change))


def test_grpc_functions_are_refused() -> None:
    config = serve(service())
    config["grpc_options"] = {"grpc_servicer_functions": ["evil:f"]}
    with pytest.raises(ManifestError, match="grpc"):
        read(service(serveConfigV2=yaml.safe_dump(config)))


def test_commands_and_hooks_of_pods_are_listed_and_not_run() -> None:
    document = service()
    pod = document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    pod["initContainers"] = [{"name": "first", "command": ["sh", "-c", "evil"]}]
    pod["containers"][0] |= {
        "command": ["evil"],
        "args": ["x"],
        "lifecycle": {"preStop": {"exec": {"command": ["evil"]}}},
    }
    pod["containers"].append({"name": "sidecar", "command": ["evil"]})
    found = read(document)
    not_run = [remark.what for remark in found.remarks if remark.kind == "not_run"]
    assert not_run == ["init container 'first'", "command", "args", "lifecycle", "container 'sidecar'"]
    assert "evil" not in str(found.groups)


def test_secrets_never_show() -> None:
    document = service()
    container = document["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "HF_TOKEN", "value": "hf_SECRETSECRET"}]
    assert "SECRET" not in str(read(document).remarks)


@pytest.mark.parametrize(
    ("text", "found"),
    [('"{\\"a\\": 1}"', {"a": 1.0}), ('\'{"a": 2, "b": 0.5}\'', {"a": 2.0, "b": 0.5})],
)
def test_custom_resources_are_read_as_a_shell_hands_them_on(text: str, found: dict[str, float]) -> None:
    document = service()
    document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["rayStartParams"] = {"resources": text}
    assert read(document).groups[1].resources == found


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}', '"{\\"GPU\\": 8}"', '"[1]"', "'", '"{\\"a\\": \\"x\\"}"', '"{\\"a b\\": 1}"', '"{\\"a\\": -1}"', 7],
)
def test_resources_that_ray_would_not_get_are_refused(text: Any) -> None:
    document = service()
    document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["rayStartParams"] = {"resources": text}
    with pytest.raises(ManifestError):
        read(document)


def test_the_articles_manifest_is_refused_with_the_way_on() -> None:
    article = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "llama-3-dist"},
        "spec": {
            "rayClusterConfig": {"workerGroupSpecs": [{"replicas": 2, "groupName": "gpu-group", "rayStartParams": {}}]}
        },
    }
    with pytest.raises(ManifestError) as refused:
        read(article)
    assert "head group" in refused.value.what
    assert "spanwise lint m.yaml" in refused.value.remedy
    assert "render" in refused.value.remedy


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff", b"[1, 2]", b"kind: RayService", b"a: &a [*a]", b"kind: RayCluster\napiVersion: ray.io/v1"],
)
def test_what_is_no_manifest_is_bad_input(data: bytes) -> None:
    with pytest.raises(ManifestError):
        read(data)


def test_errors_name_the_line_in_the_embedded_config() -> None:
    text = rendered("article").decode()
    wanted = next(number for number, line in enumerate(text.splitlines(), 1) if "import_path" in line)
    with pytest.raises(ManifestError) as refused:
        read(text.replace("ray.serve.llm:build_openai_app", "evil:app").encode())
    assert refused.value.where.startswith(f"m.yaml:{wanted}:")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
_KEYS = st.sampled_from(
    [
        "kind", "apiVersion", "spec", "metadata", "applications", "serveConfigV2", "rayClusterConfig", "headGroupSpec", "workerGroupSpecs",
        "import_path", "args", "llm_configs", "plans", "template", "containers", "replicas", "numOfHosts", "resources", "limits", "labels",
        "nvidia.com/gpu", "rayStartParams", "runtime_env", "env_vars", "name", "route_prefix",
    ]
)  # fmt: skip
_DOCUMENTS = st.recursive(
    _SCALARS | st.just("RayService") | st.just("ray.serve.llm:build_openai_app"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=6), inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(_DOCUMENTS)
def test_any_document_is_read_or_refused(value: Any) -> None:
    try:
        read(yaml.safe_dump(value).encode())
    except SpanwiseError as error:
        assert error.exit_code == 2
        assert error.remedy


@settings(max_examples=200, deadline=None)
@given(where=st.integers(0, 60), value=_DOCUMENTS)
def test_any_value_anywhere_in_a_good_manifest_is_read_or_refused(where: int, value: Any) -> None:
    document = service()
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(document)
    node, key = places[where % len(places)]
    node[key] = value
    try:
        read(document)
    except SpanwiseError as error:
        assert error.exit_code == 2
