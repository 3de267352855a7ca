from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spanwise.plan.load import load_plan
from tests.unit.cli.command import REPOSITORY, refused, spanwise

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = REPOSITORY / "examples" / "llama-3-70b-10gbe.yaml"
INTENT = """\
model: meta-llama/Meta-Llama-3-70B
hardware: {gpu: H100-80GB-SXM, gpus_per_node: 4, nodes: 2, fabric: ethernet-10g}
workload: {input_tokens: 1024, output_tokens: 256, request_rate_per_s: 1}
"""


def test_plan_is_written_and_shown(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "plan.json"
    code, shown, err = spanwise("plan", EXAMPLE, "-o", out)
    assert code == 0, err
    plan = load_plan(out)
    assert plan.hash in shown
    assert "host-1: ranks 0-3" in shown
    assert err == f"wrote {out}\n"
    assert list(out.parent.iterdir()) == [out]


def test_json_is_the_plan_and_nothing_else(tmp_path: Path) -> None:
    intent = tmp_path / "intent.yaml"
    intent.write_text(INTENT)
    sizes = ["--tensor-parallel-size", "4", "--pipeline-parallel-size", "2", "--replicas", "1"]
    code, shown, err = spanwise("plan", intent, *sizes, "--json", "-o", tmp_path / "plan.json")
    assert (code, err) == (0, "")
    assert json.loads(shown) == json.loads((tmp_path / "plan.json").read_text())
    assert json.loads(shown)["layout"]["pipeline_parallel_size"] == 2


def test_infeasible_writes_nothing_and_leaves_what_is_there(tmp_path: Path) -> None:
    intent, out = tmp_path / "intent.yaml", tmp_path / "plan.json"
    intent.write_text(INTENT.replace("gpus_per_node: 4, nodes: 2", "gpus_per_node: 1, nodes: 1"))
    code, shown, err = spanwise("plan", intent, "-o", out)
    assert code == 0
    assert shown.startswith("verdict  infeasible\n")
    assert "no plan was written" in err
    assert not out.exists()
    out.write_text("earlier")
    code, shown, err = spanwise("plan", intent, "-o", out, "--json")
    assert code == 0
    assert json.loads(shown)["verdict"] == "infeasible"
    assert "earlier plan" in err
    assert out.read_text() == "earlier"


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ("", ["--tensor-parallel-size", "3"], "tensor_parallel_size"),
        ("", ["--tensor-parallel-size", "8", "--replicas", "2"], "replicas"),
        ("", ["--facts", "absent.json"], "absent.json"),
        ("colour: red\n", [], "colour"),
        ("", ["--tensor-parallel-size", "0"], "tensor-parallel-size"),
        ("", ["-o", "/dev/null/x/plan.json"], "cannot be written"),
        ("", ["-o", "/"], "this is a directory"),
    ],
)
def test_bad_input(change: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    intent = tmp_path / "intent.yaml"
    intent.write_text(INTENT + change)
    assert words in refused("plan", intent, *arguments)


def test_missing_intent() -> None:
    assert "absent.yaml" in refused("plan", "absent.yaml", "--json")
