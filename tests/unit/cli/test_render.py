from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.command import refused, spanwise
from tests.unit.plans import ARTICLE, SMALL, TWO_HOSTS, document

if TYPE_CHECKING:
    from pathlib import Path

BESIDE = ["networkpolicy.yaml", "poddisruptionbudget.yaml", "rayservice.yaml", "serviceaccount.yaml"]


@pytest.fixture
def plans(tmp_path: Path) -> list[Path]:
    paths = []
    for plan in (TWO_HOSTS, SMALL):
        paths.append(tmp_path / f"{plan.name}.json")
        paths[-1].write_text(json.dumps(document(plan)))
    return paths


def test_every_target(plans: list[Path], tmp_path: Path) -> None:
    for target, expected in (
        (
            "vllm",
            ["meta-llama-3-70b-0.host-1.sh", "meta-llama-3-70b-0.host-2.sh", "small-0.host-7.sh", "small-1.host-7.sh"],
        ),
        ("ray", ["serve.yaml"]),
        ("kuberay", BESIDE),
    ):
        out = tmp_path / "out" / target
        code, shown, err = spanwise("render", *plans, "--target", target, "-o", out)
        assert (code, err) == (0, "")
        assert sorted(path.name for path in out.iterdir()) == expected
        assert sorted(shown.split()) == [str(out / name) for name in expected]
    assert (tmp_path / "out" / "vllm" / "small-0.host-7.sh").stat().st_mode & 0o111
    assert not (tmp_path / "out" / "ray" / "serve.yaml").stat().st_mode & 0o111


def test_json_and_options(plans: list[Path], tmp_path: Path) -> None:
    image = ["--runtime", "spanwise", "--image", "registry.example/s:1", "--name", "both"]
    code, shown, _ = spanwise("render", *plans, "--target", "kuberay", *image, "-o", tmp_path / "out", "--json")
    assert code == 0
    answer = json.loads(shown)
    assert sorted(answer["files"]) == [str(tmp_path / "out" / name) for name in BESIDE]
    assert "name: both" in (tmp_path / "out" / "rayservice.yaml").read_text()


def test_repeated_options_and_kustomize(plans: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, err = spanwise(
        *("render", plans[0], "--target", "kuberay", "--kustomize", "-o", out, "--model-volume", "pvc:weights"),
        *("--toleration", "dedicated=llm:NoSchedule", "--toleration", "spot", "--image-pull-secret", "one"),
        *("--image-pull-secret", "two", "--node-selector", "pool=gpu", "--env-secret", "keys", "--no-offline"),
        *("--service-account", "mine", "--gang-scheduler", "volcano", "--queue", "llm", "--redis", "redis:6379"),
        *("--redis-secret", "redis", "--rdma-resource", "rdma/hca", "--domain-label", "zone", "--serve-from", "a=b"),
    )
    assert (code, err) == (0, "")
    assert sorted(shown.split()) == [
        *(str(out / "base" / name) for name in sorted([*BESIDE[:3], "kustomization.yaml"])),
        str(out / "overlays" / "example" / "kustomization.yaml"),
    ]
    text = (out / "base" / "rayservice.yaml").read_text()
    for word in (
        "key: dedicated",
        "key: spot",
        "name: one",
        "name: two",
        "pool: gpu",
        "claimName: weights",
        "HF_TOKEN",
    ):
        assert word in text
    assert "HF_HUB_OFFLINE" not in text


def test_bad_input(plans: list[Path], tmp_path: Path) -> None:
    out = ["-o", tmp_path / "out"]
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document(ARTICLE)).replace('"replicas": 1', '"replicas": 2'))
    assert "edited" in refused("render", edited, "--target", "ray", *out)
    assert "two plans have the name" in refused("render", plans[0], plans[0], "--target", "ray", *out)
    assert "needs an image" in refused("render", plans[0], "--target", "kuberay", "--runtime", "spanwise", *out)
    assert "no other runtime" in refused("render", plans[0], "--target", "vllm", "--runtime", "spanwise", *out)
    assert "'docker'" in refused("render", plans[0], "--target", "docker", *out)
    assert "name for a RayService" in refused("render", plans[0], "--target", "kuberay", "--name", "A B", *out)
    assert "cannot be written" in refused("render", plans[0], "--target", "ray", "-o", plans[0])
    assert not (tmp_path / "out").exists()


def test_hostile_options_are_refused_with_one_message(plans: list[Path], tmp_path: Path) -> None:
    for option, word, said in (
        ("--image", "ray:1\n  command: [sh]", "no image reference"),
        ("--image", "ray", "no fixed tag"),
        ("--queue", "a: {b: c}", "a queue belongs to a scheduler"),
        ("--toleration", "a=b:Never", "no effect of a taint"),
        ("--model-volume", "pvc:w:/dev/shm", "belongs to the system"),
        ("--token-secret", "hf_abcdefghijklmnopqrstuvwxyz", "not repeated"),
        ("--redis", "redis://:hf_abcdefghijklmnop@redis:6379", "not repeated"),
        ("--serve-from", "x" * 100_000, "says no value"),
    ):
        err = refused("render", plans[0], "--target", "kuberay", option, word, "-o", tmp_path / "out")
        assert said in err
        assert option in err
        assert len(err) < 1000
        assert "hf_abc" not in err
    assert "does not read" in refused("render", plans[0], "--target", "ray", "--redis", "a:1", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_help_groups_what_belongs_together() -> None:
    code, shown, _ = spanwise("render", "--help")
    assert code == 0
    headings = [line for line in shown.splitlines() if line.endswith("(kuberay):") and not line.startswith("  ")]
    assert headings == [
        "The model and its secrets (kuberay):",
        "Where pods run (kuberay):",
        "The Ray cluster (kuberay):",
    ]
    sections = {name: shown.index(f"\n{name}") for name in ("Arguments:", "Options:", *headings)}
    assert list(sections.values()) == sorted(sections.values())
    where = {option: shown.index(f"\n  {option}") for option in ("--target", "--model-volume", "--redis-secret")}
    assert sections["Options:"] < where["--target"] < sections[headings[0]] < where["--model-volume"]
    assert where["--model-volume"] < sections[headings[1]] < sections[headings[2]] < where["--redis-secret"]


def test_all_files_or_none(plans: list[Path], tmp_path: Path) -> None:
    out, new = tmp_path / "out", tmp_path / "new"
    (out / "networkpolicy.yaml").mkdir(parents=True)
    (out / "rayservice.yaml").write_text("mine")
    assert "this is a directory" in refused("render", *plans, "--target", "kuberay", "-o", out)
    assert sorted(path.name for path in out.iterdir()) == ["networkpolicy.yaml", "rayservice.yaml"]
    assert (out / "rayservice.yaml").read_text() == "mine"
    (tmp_path / "a file").touch()
    new.mkdir()
    (new / "overlays").symlink_to(tmp_path / "a file")
    refused("render", *plans, "--target", "kuberay", "--kustomize", "-o", new)
    assert [path.name for path in new.iterdir()] == ["overlays"], "no folder stays that was made for nothing"


def test_a_place_that_is_no_folder(plans: list[Path]) -> None:
    assert "-o: an empty path is no folder" in refused("render", *plans, "--target", "ray", "-o", "")
    assert "-o: several files cannot go to standard output" in refused("render", *plans, "--target", "ray", "-o", "-")


def test_what_an_earlier_render_left_is_named(plans: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert spanwise("render", *plans, "--target", "kuberay", "-o", out)[2] == ""
    (out / "mine.yaml").write_text("a: b\n")
    code, shown, err = spanwise("render", *plans, "--target", "kuberay", "-o", out, "--service-account", "sa", "--json")
    assert code == 0
    assert json.loads(shown)["left"] == [str(out / "serviceaccount.yaml")]
    assert "serviceaccount.yaml" not in err, "the document says it"
    code, _, err = spanwise("render", *plans, "--target", "kuberay", "-o", out, "--service-account", "sa")
    assert "left there from an earlier render: serviceaccount.yaml; delete" in err
