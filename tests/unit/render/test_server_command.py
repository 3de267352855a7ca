"""A vLLM server's command read as engine arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import ManifestError
from spanwise.render import render
from spanwise.render.server_command import server_commands
from tests.unit.plans import CASES

ARTICLE = (
    "python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B \\\n"
    "   --tensor-parallel-size 4 --gpu-memory-utilization 0.9"
)


def test_the_articles_command() -> None:
    (found,) = server_commands(ARTICLE, "x.sh")
    assert found.model == "meta-llama/Meta-Llama-3-70B"
    assert found.arguments == {"tensor_parallel_size": 4, "gpu_memory_utilization": 0.9}
    assert found.unknown == []


@pytest.mark.parametrize(
    ("text", "model", "arguments"),
    [
        ("vllm serve org/m -tp 2 --enforce-eager", "org/m", {"tensor_parallel_size": 2, "enforce_eager": True}),
        (
            "vllm serve org/m --max-model-len 32k --no-enable-prefix-caching",
            "org/m",
            {"max_model_len": 32000, "enable_prefix_caching": False},
        ),
        ("vllm serve org/m --max_model_len=4096", "org/m", {"max_model_len": 4096}),
        ("docker run --gpus all vllm/vllm-openai:v0.32.0 --model org/m", "org/m", {}),
        ("vllm serve org/m --compilation-config '{\"mode\": 2}'", "org/m", {"compilation_config": {"mode": 2}}),
    ],
)
def test_forms_of_a_command(text: str, model: str, arguments: dict[str, object]) -> None:
    (found,) = server_commands(text, "x.sh")
    assert (found.model, found.arguments) == (model, arguments)


def test_what_cannot_be_read_is_said() -> None:
    (found,) = server_commands("vllm serve $MODEL --tensor-parallel-size $N --no-such-flag 3 --seed x", "x.sh")
    assert found.model == ""
    assert found.unknown == [
        "a variable where the model or a flag may stand",
        "--tensor-parallel-size",
        "--no-such-flag",
        "--seed",
    ]


def test_variables_in_front_and_above() -> None:
    (found,) = server_commands("export NCCL_DEBUG=INFO\nCUDA_VISIBLE_DEVICES=0,1 vllm serve org/m", "x.sh")
    assert found.environment == {"NCCL_DEBUG": "INFO", "CUDA_VISIBLE_DEVICES": "0,1"}


@pytest.mark.parametrize("case", CASES)
def test_what_render_writes_is_read_back(case: str) -> None:
    for plan in CASES[case]:
        first = render((plan,), "vllm")[0]
        (found,) = server_commands(first.text, first.name)
        assert found.model == plan.model.source
        assert found.arguments.get("tensor_parallel_size", 1) == plan.layout.tensor_parallel_size
        assert found.arguments.get("pipeline_parallel_size", 1) == plan.layout.pipeline_parallel_size


@pytest.mark.parametrize("text", ["", "ls", "ray start --address=h:6379 --block", "echo 'vllm"])
def test_no_server_is_bad_input(text: str) -> None:
    with pytest.raises(ManifestError):
        server_commands(text, "x.sh")


@given(st.text(max_size=60))
def test_any_text_behind_a_command(text: str) -> None:
    try:
        server_commands(f"vllm serve m {text}", "x.sh")
    except ManifestError as error:
        assert error.remedy
