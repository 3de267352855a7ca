"""What a user can get wrong before anything runs: one clear message, the right exit code, nothing left running."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.commands import CommandLine, Outcome
from tests.leftovers import left, snapshot

pytestmark = pytest.mark.lab

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory with a config and no weights yet."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return directory


def intent(tmp_path: Path, model: object, *, gpu: str = "lab-cpu", extra: str = "", gpus: int = 1) -> str:
    path = tmp_path / "intent.yaml"
    path.write_text(
        f"model: {model}\n{extra}max_model_len: 1024\nhardware: {{gpu: {gpu}, gpus_per_node: {gpus}, nodes: 1}}\n"
        "workload: {input_tokens: 64, output_tokens: 16, concurrency: 1}\n"
    )
    return str(path)


def clear(outcome: Outcome, code: int, *words: str) -> None:
    """One message for people: the exit code, every word, what to do next, no traceback."""
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.err
    assert "Traceback" not in outcome.err
    assert "->" in outcome.err, "it must say what to do next"


def test_unknown_key(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    clear(spanwise("decide", intent(tmp_path, model, extra="modle: x\n")), 2, "intent.yaml", "modle")


def test_unknown_gpu(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    clear(spanwise("decide", intent(tmp_path, model, gpu="H100-79GB")), 2, "H100-79GB", "H100-80GB-SXM")


def test_tensor_parallel_size_that_does_not_divide_the_heads(
    spanwise: CommandLine, tmp_path: Path, model: Path
) -> None:
    asked = intent(tmp_path, model, gpus=2)
    clear(spanwise("plan", asked, "--tensor-parallel-size", "2"), 2, "9", "1, 3")


def test_demo_with_such_a_size_starts_nothing(spanwise: CommandLine) -> None:
    pytest.importorskip("vllm")
    before = snapshot()
    clear(spanwise("demo", "--tensor-parallel-size", "2"), 2, "9")
    assert left(before) == {}


def test_unknown_architecture(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    (model / "config.json").write_text(
        json.dumps({**CONFIG, "architectures": ["MysteryForCausalLM"], "model_type": "mystery"})
    )
    clear(spanwise("decide", intent(tmp_path, model)), 2, "MysteryForCausalLM", "LlamaForCausalLM")


def test_truncated_weights_are_found_before_anything_starts(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("vllm")
    header = json.dumps({"a": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(10))
    before = snapshot()
    clear(spanwise("up", intent(tmp_path, model)), 2, "model.safetensors")
    assert left(before) == {}


def test_model_changed_since_the_plan(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("vllm")
    plan = tmp_path / "plan.json"
    assert spanwise("plan", intent(tmp_path, model), "-o", str(plan)).code == 0
    (model / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 28}))
    clear(spanwise("up", str(plan)), 2, "plan.json", "plan again")


def test_edited_plan(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("vllm")
    plan = tmp_path / "plan.json"
    assert spanwise("plan", intent(tmp_path, model), "-o", str(plan)).code == 0
    plan.write_text(plan.read_text().replace('"lab-cpu"', '"lab-gpu"'))
    clear(spanwise("up", str(plan)), 2, "plan.json", "hash")


def test_plan_for_real_gpus_without_a_cluster(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("vllm")
    clear(spanwise("up", intent(tmp_path, model, gpu="L4-24GB")), 2, "L4-24GB", "--ray")


def test_no_ray_at_that_address(spanwise: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    clear(spanwise("status", "--ray", f"127.0.0.1:{port}", timeout_s=180), 3, "Ray")


def test_port_in_use_by_the_demo(spanwise: CommandLine) -> None:
    pytest.importorskip("vllm")
    before = snapshot()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        clear(spanwise("demo", "--port", str(port)), 2, f"port {port}")
    assert left(before) == {}


def test_nothing_runs(spanwise: CommandLine) -> None:
    status = spanwise("status", "--json")
    assert status.code == 1
    assert status.document == {"endpoint": None, "models": [], "gangs": []}
    assert spanwise("down", "--json").document == {"models": False, "lab": False, "lab_left": False}


def test_unwritable_state_directory(spanwise: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = snapshot()
    clear(spanwise("lab", "up", SPANWISE_STATE_DIR=str(tmp_path / "file" / "state")), 2, "SPANWISE_STATE_DIR")
    assert left(before) == {}


def test_errors_are_json_where_json_was_asked_for(spanwise: CommandLine, tmp_path: Path, model: Path) -> None:
    outcome = spanwise("decide", intent(tmp_path, model, gpu="nope"), "--json")
    assert outcome.code == 2
    assert outcome.document["error"] == "FactsError"
    assert outcome.document["exit_code"] == 2
