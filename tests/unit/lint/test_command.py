from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import ManifestError
from spanwise.render.lint import lint
from tests.unit.lint.checks import codes, findings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vllm serve org/m -tp 4", {}),
        ("vllm serve org/m --tensor_parallel_size=4 --max-model-len 32k --enable-lora --no-enforce-eager -O3", {}),
        ("vllm serve org/m --compilation-config '{\"mode\": 2}' --speculative-config.model org/s -cc.mode 2", {}),
        ("vllm serve org/m --served-model-name a b c --middleware x --middleware y", {}),
        ('vllm serve "$MODEL" -tp ${TP} $EXTRA "$@"', {}),
        ("python3 -m vllm.entrypoints.cli.main serve org/m", {}),
        ("HF_HOME=/x exec /opt/bin/vllm serve org/m", {}),
        ("docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.32.0 --model org/m -tp 2", {}),
        ("vllm serve org/m --seed -1", {}),
        ("vllm serve org/m --temsor-parallel-size 4", {"flag_unknown": ("error", 1)}),
        ("vllm serve org/m -zz 4", {"flag_unknown": ("error", 1)}),
        ("vllm serve org/m --tensor-parallel 4", {"flag_abbreviated": ("warning", 1)}),
        ("vllm serve org/m --enable 4", {"flag_unknown": ("error", 1)}),
        ("vllm serve org/m -tp four", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m -tp 0", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m -tp 2.5", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --gpu-memory-utilization 90", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --gpu-memory-utilization nan", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --gpu-memory-utilization 0", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --dtype bf16", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --max-model-len 32q", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --compilation-config '{mode: 2}'", {"value_not_allowed": ("error", 1)}),
        ("vllm serve org/m --max-model-len", {"value_missing": ("error", 1)}),
        ("vllm serve org/m --max-model-len --enforce-eager", {"value_missing": ("error", 1)}),
        ("vllm serve org/m --enforce-eager=true", {"flag_takes_no_value": ("error", 1)}),
        ("vllm serve org/m stray", {"argument_unexpected": ("error", 1)}),
        ("vllm serve org/m -tp 2 -tp 4", {"flag_repeated": ("warning", 1)}),
        ("vllm serve -tp 2", {"model_missing": ("warning", 1)}),
        ("vllm serve org/m --trust-remote-code", {"trust_remote_code": ("warning", 1)}),
        ("vllm serve org/m --hf-token hf_abc", {"secret_in_plain_text": ("warning", 1)}),
        ("CUDA_VISIBLE_DEVICES=0,1 vllm serve org/m -tp 4", {"tensor_parallel_exceeds_host": ("warning", 1)}),
        ("ray start --block", {"ray_start_alone": ("error", 1)}),
        ("ray start --head && vllm serve org/m", {}),
    ],
)
def test_commands(text: str, expected: dict[str, tuple[str, int]]) -> None:
    assert codes(text) == expected


def test_lines_of_a_script() -> None:
    text = "#!/bin/sh\n# it's a comment: vllm serve x\n\n"
    text += "vllm serve org/m \\\n  -tp x \\\n  --dtype '\nbad'\nvllm serve org/n --bad\n"
    found = [(finding.code, finding.line) for finding in findings(text)]
    assert found == [("value_not_allowed", 5), ("value_not_allowed", 7), ("flag_unknown", 8)]


def test_a_wrong_name_brings_the_right_one() -> None:
    (finding,) = findings("vllm serve org/m --gpu_memory_utilisation 0.9")
    assert finding.fix == "did you mean `--gpu-memory-utilization`?"


def test_secrets_are_never_repeated() -> None:
    for text in (
        "vllm serve org/m --api-key sekret --hf-token sekret",
        "vllm serve org/m --api-key=sekret",
        "HF_TOKEN=sekret vllm serve org/m",
        "vllm serve org/m --api-key sekret sekret2",
    ):
        assert "secret_in_plain_text" in codes(text)
        assert "sekret" not in str(findings(text))


def test_mp_cannot_span_hosts() -> None:
    text = "vllm serve org/m -tp 4 -pp 2 --distributed-executor-backend mp"
    assert codes(text, gpus_per_node=4) == {"executor_cannot_span_hosts": ("error", 1)}
    assert codes(text + " --nnodes 2", gpus_per_node=4) == {}
    assert codes(text, gpus_per_node=8) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vllm serve 'org/m", "quotation"),
        ("echo hello", "neither"),
        ("# vllm serve org/m", "neither"),
        ("plain prose about vllm", "neither"),
    ],
)
def test_what_is_no_command(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        findings(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="-=tp48 '\"\\\n$(){}[]&|;#.ax+O_", max_size=60))
def test_never_surprises(text: str) -> None:
    try:
        lint(f"vllm serve org/m {text}".encode(), "f")
    except ManifestError:
        return
