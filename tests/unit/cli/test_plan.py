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
    assert err == f"made folder {out.parent}\nwrote {out}\n", "a mistyped path must not go unseen"
    assert spanwise("plan", EXAMPLE, "-o", out)[2] == f"wrote {out}\n"
    assert list(out.parent.iterdir()) == [out]


def test_a_longer_limit_than_the_verdicts_is_explained(tmp_path: Path) -> None:
    code, shown, _ = spanwise("plan", EXAMPLE)
    assert code == 0
    assert "max_model_len 8192 (the model's own" in shown
    assert "The verdict asks for 4096)" in shown
    intent = tmp_path / "intent.yaml"
    intent.write_text(INTENT + "max_model_len: 4096\n")
    assert "max_model_len 4096\n" in spanwise("plan", intent)[1], "where both agree there is nothing to say"


def test_one_rank_is_no_plural(tmp_path: Path) -> None:
    intent = tmp_path / "intent.yaml"
    intent.write_text(INTENT.replace("gpus_per_node: 4", "gpus_per_node: 1").replace("nodes: 2", "nodes: 4"))
    sizes = ["--tensor-parallel-size", "1", "--pipeline-parallel-size", "4", "--replicas", "1"]
    code, shown, err = spanwise("plan", intent, *sizes, "--interface", "eth0")
    assert code == 0, err
    assert "host-1: rank 0; host-2: rank 1" in shown
    assert "exactly this name" in shown, "NCCL_SOCKET_IFNAME==eth0 looks like a slip"


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
    assert spanwise("plan", intent)[0] == 0, "nothing was to be written: the question was answered"
    code, shown, err = spanwise("plan", intent, "-o", out)
    assert code == 1, "`plan -o p.json && render p.json` must stop here"
    assert shown.startswith("verdict  infeasible\n")
    assert "no plan was written" in err
    assert not out.exists()
    out.write_text("earlier")
    code, shown, err = spanwise("plan", intent, "-o", out, "--json")
    assert code == 1
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
