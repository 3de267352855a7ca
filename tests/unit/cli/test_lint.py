from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.shared_data import shared_dir
from tests.unit.cli.command import refused, spanwise
from tests.unit.lint.samples import ARTICLE, ARTICLE_COMMAND, GOOD
from tests.unit.lint.test_documents import bomb

if TYPE_CHECKING:
    from pathlib import Path


def test_the_article(tmp_path: Path) -> None:
    manifest = tmp_path / "article.yaml"
    manifest.write_text(ARTICLE)
    code, shown, err = spanwise("lint", manifest)
    assert (code, err) == (1, "")
    assert shown.endswith("3 errors, 4 warnings, 6 info\n")
    assert f"{manifest}:6: error head_group_missing: " in shown
    code, shown, err = spanwise("lint", manifest, "--json")
    assert (code, err) == (1, "")
    answer = json.loads(shown)
    assert answer["failed"] is True
    assert answer["counts"] == {"error": 3, "warning": 4, "info": 6}
    assert {"code", "severity", "file", "line", "path", "message", "fix"} == set(answer["findings"][0])


def test_exit_codes_follow_fail_on(tmp_path: Path) -> None:
    good, shm = tmp_path / "good.yaml", tmp_path / "shm.yaml"
    good.write_text(GOOD)
    shm.write_text(GOOD.replace('rayVersion: "2.60.0"', "suspend: false"))
    assert spanwise("lint", good, "--fail-on", "warning")[0] == 0
    assert spanwise("lint", good, "--fail-on", "info")[0] == 1
    assert spanwise("lint", shm)[0] == 0
    assert spanwise("lint", shm, "--fail-on", "warning")[0] == 1


def test_standard_input_and_several_files(tmp_path: Path) -> None:
    assert spanwise("lint", "-", stdin=ARTICLE_COMMAND)[0] == 0
    code, shown, _ = spanwise("lint", "-", "--gpus-per-node", "2", "--fail-on", "warning", stdin=ARTICLE_COMMAND)
    assert code == 1
    assert "-:3: warning tensor_parallel_exceeds_host" in shown
    good = tmp_path / "good.yaml"
    good.write_text(GOOD)
    code, shown, _ = spanwise("lint", good, "-", good, "--json", stdin=ARTICLE)
    assert code == 1
    assert json.loads(shown)["files"] == [str(good), "-"]


def test_a_given_crd(tmp_path: Path) -> None:
    shared = shared_dir()
    if shared is None:
        pytest.skip("the reference data is absent: KubeRay's CRDs")
    manifest = tmp_path / "m.yaml"
    manifest.write_text(GOOD.replace("rayVersion:", "rayVersio:"))
    code, shown, _ = spanwise("lint", manifest, "--crd", shared / "data" / "kuberay-v1.7" / "ray.io_rayservices.yaml")
    assert code == 1
    assert "did you mean `rayVersion`?" in shown
    assert "the CRD" in shown
    assert "not a CustomResourceDefinition" in refused("lint", manifest, "--crd", manifest)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8"),
        (b"\x00" * 50, "binary"),
        (bomb(12).encode(), "aliases"),
        (b"[" * 100_000, "deep"),
        (b"{" * 100_000, "key that is a mapping"),
        (b"a: b: c", "not YAML"),
        (b"hello world", "neither"),
        (b"- 1\n- 2\n", "neither"),
        (b"vllm serve 'x", "quotation"),
    ],
)
def test_bad_input(data: bytes, words: str) -> None:
    assert words in refused("lint", "-", stdin=data)


def test_bad_input_as_json() -> None:
    code, shown, _ = spanwise("lint", "-", "--json", stdin=b"hello")
    assert code == 2
    assert json.loads(shown)["error"] == "ManifestError"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "directory" in refused("lint", tmp_path)
    assert "cannot be read" in refused("lint", tmp_path / "absent.yaml")
    assert "is larger than 16 MiB" in refused("lint", "/dev/zero")
    assert "fail-on" in refused("lint", "-", "--fail-on", "never")


def test_sarif(tmp_path: Path) -> None:
    (tmp_path / "a b.yaml").write_text(ARTICLE)
    code, shown, err = spanwise("lint", "a b.yaml", "--sarif", cwd=tmp_path)
    assert (code, err) == (1, "")
    document = json.loads(shown)
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert {item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for item in run["results"]} == {
        "a%20b.yaml"
    }
    assert spanwise("lint", "-", "--sarif", stdin=ARTICLE_COMMAND)[0] == 0
    assert "choose one" in refused("lint", "-", "--sarif", "--json", stdin=ARTICLE_COMMAND)
    assert "neither" in refused("lint", "-", "--sarif", stdin="hello")


def test_the_clusters_own_crd_comes_through_a_pipe(tmp_path: Path) -> None:
    """What `kubectl get crd … -o yaml` prints for one name, and for several (a List)."""
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "rayservices.ray.io", "managedFields": [{"manager": "helm"}]},
        "spec": {
            "names": {"kind": "RayService"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "properties": {"spec": {"type": "object", "properties": {"only": {"type": "string"}}}}
                        }
                    },
                }
            ],
        },
        "status": {},
    }
    manifest = tmp_path / "m.yaml"
    manifest.write_text(GOOD)
    for document in (crd, {"apiVersion": "v1", "kind": "List", "items": [crd]}):
        code, shown, err = spanwise("lint", manifest, "--crd", "-", "--json", stdin=json.dumps(document))
        assert (code, err) == (1, "")
        found = {(item["code"], item["path"]) for item in json.loads(shown)["findings"]}
        assert ("field_unknown", "spec.rayClusterConfig") in found
    assert "cannot be both" in refused("lint", "-", "--crd", "-", stdin=GOOD)
    assert "not a CustomResourceDefinition" in refused("lint", manifest, "--crd", "-", stdin="a: 1")
    assert "empty" in refused("lint", manifest, "--crd", "-")


def test_a_crd_of_another_kind_is_said(tmp_path: Path) -> None:
    shared = shared_dir()
    if shared is None:
        pytest.skip("the reference data is absent: KubeRay's CRDs")
    manifest = tmp_path / "m.yaml"
    manifest.write_text(GOOD)
    crd = shared / "data" / "kuberay-v1.7" / "ray.io_rayclusters.yaml"
    code, shown, _ = spanwise("lint", manifest, "--crd", crd, "--fail-on", "warning")
    assert code == 1
    assert "warning schema_not_checked" in shown


def test_files_given_together_are_judged_together(tmp_path: Path) -> None:
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        (tmp_path / f"{kind}.yaml").write_text(f"apiVersion: example/v1\nkind: {kind}\nmetadata: {{name: x}}\n")
    (tmp_path / "service.yaml").write_text(GOOD)
    alone = spanwise("lint", "service.yaml", cwd=tmp_path)[1]
    assert "network_policy_missing" in alone
    assert "disruption_budget_missing" in alone
    together = spanwise("lint", "service.yaml", "NetworkPolicy.yaml", "PodDisruptionBudget.yaml", cwd=tmp_path)[1]
    assert "network_policy_missing" not in together
    assert "disruption_budget_missing" not in together
    assert "kind_not_checked" not in together
