"""Intent files: what the contract shows is read, everything else gets one clear message."""

import os
from pathlib import Path

import pytest

from spanwise.errors import IntentError
from spanwise.intent.load import load_intent, parse_intent

CONTRACT = """
model: meta-llama/Meta-Llama-3-70B   # a catalogue name
dtype: bfloat16
hardware:
  gpu: H100-80GB-SXM
  gpus_per_node: 4
  nodes: 2
  fabric: ethernet-10g
workload:
  input_tokens: 1024
  output_tokens: 256
  request_rate_per_s: 4
objectives: {ttft_p95_ms: 2000, tpot_p95_ms: 50}
revision: main
max_model_len: 4096
spares: 1
prices_per_gpu_hour: {H100-80GB-SXM: 3.5}
today: {gpu: A100-80GB-SXM, gpus: 2, ttft_p95_ms: 900, tpot_p95_ms: 60}
"""


def test_the_contracts_example():
    intent = parse_intent(CONTRACT)
    assert intent.hardware.gpus == 8
    assert intent.workload.tokens_per_request == 1280
    assert intent.objectives.tpot_p95_ms == 50
    assert intent.gpu_memory_utilization == 0.9
    assert intent.today.gpus == 2
    assert parse_intent(CONTRACT) == intent
    import yaml

    assert parse_intent(yaml.safe_dump(intent.as_json())) == intent


def test_every_example_loads():
    files = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
    assert files
    for file in files:
        load_intent(file)


def test_hosts_count_the_nodes():
    text = "model: m\nhardware: {gpu: g, hosts: [a, b], fabric: f}\n"
    text += "workload: {input_tokens: 1, output_tokens: 1, concurrency: 1}"
    assert parse_intent(text).hardware.nodes == 2


def changed(old: str, new: str) -> str:
    assert old in CONTRACT
    return CONTRACT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[]", "list"),
        ("3", "int"),
        ("a: b: c", "YAML"),
        ("\t", "YAML"),
        ("{" * 50, "deeply"),
        ("[" * 5000, "deeply"),
        ("&a [*a]", "alias"),
        ("model: x\nmodel: y", "twice"),
        ("1: 2", "not text"),
        ("!!python/object/apply:os.system ['true']", "YAML"),
        (changed("spares: 1", "spare: 1"), "spare: unknown key (allowed here: model, revision"),
        (changed("gpus_per_node", "gpus"), "hardware.gpus: unknown key (allowed here: gpu, gpus_per_node"),
        (changed("input_tokens: 1024", "input_tokens: -1"), "workload.input_tokens = -1"),
        (changed("input_tokens: 1024", "input_tokens: .nan"), "workload.input_tokens = nan"),
        (changed("input_tokens: 1024", "input_tokens: .inf"), "workload.input_tokens = inf"),
        (changed("input_tokens: 1024", "input_tokens: 1024.5"), "workload.input_tokens = 1024.5"),
        (changed("input_tokens: 1024", "input_tokens: " + "9" * 5000), "cannot be read"),
        (changed("input_tokens: 1024", "input_tokens: " + "9" * 300), "workload.input_tokens"),
        (changed("request_rate_per_s: 4", "request_rate_per_s: .inf"), "request_rate_per_s = inf"),
        (changed("request_rate_per_s: 4", "concurrency: 4\n  request_rate_per_s: 4"), "exactly one"),
        (changed("  request_rate_per_s: 4\n", ""), "exactly one"),
        (changed("  fabric: ethernet-10g\n", ""), "fabric is missing"),
        (changed("dtype: bfloat16", "dtype: fp3"), "dtype = 'fp3'"),
        (changed("max_model_len: 4096", "max_model_len: 100"), "1280 tokens"),
        (changed("nodes: 2", "nodes: 2\n  hosts: [a]"), "hosts names 1 hosts"),
        (changed("nodes: 2", "nodes: 2\n  hosts: [a, a]"), "twice"),
        (changed("nodes: 2", "nodes: 2\n  hosts: [a, 'b c']"), "not a host name"),
        (changed("gpu: H100-80GB-SXM", "gpu: {memory_gib: 80}"), "memory_bandwidth_gb_per_s: is required"),
        (changed("fabric: ethernet-10g", "fabric: {latency_us: .nan, bandwidth_gbit_per_s: 1}"), "latency_us = nan"),
        ("when: 2001-99-99", "cannot be read"),
    ],
)
def test_refusals_name_the_key_and_what_to_do(text, said):
    with pytest.raises(IntentError) as caught:
        parse_intent(text, where="job.yaml")
    message = str(caught.value)
    assert said in message
    assert message.startswith("job.yaml: ")
    assert caught.value.remedy
    assert len(message) < 2000


def test_files_that_are_none(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00model")
    (tmp_path / "big.yaml").write_bytes(b"a" * ((1 << 20) + 1))
    (tmp_path / "empty.yaml").write_bytes(b"")
    for name, said in (
        ("none.yaml", "cannot be read"),
        (".", "directory"),
        ("bytes.yaml", "UTF-8"),
        ("big.yaml", "1 MiB"),
        ("empty.yaml", "empty"),
    ):
        with pytest.raises(IntentError, match=said):
            load_intent(tmp_path / name)
    if os.geteuid():
        (tmp_path / "secret.yaml").touch(mode=0)
        with pytest.raises(IntentError, match="cannot be read"):
            load_intent(tmp_path / "secret.yaml")


def test_a_byte_order_mark_is_no_problem(tmp_path):
    (tmp_path / "bom.yaml").write_text(CONTRACT, encoding="utf-8-sig")
    assert load_intent(tmp_path / "bom.yaml").model == "meta-llama/Meta-Llama-3-70B"


def test_an_unknown_key_points_to_the_page_of_keys():
    with pytest.raises(IntentError) as caught:
        parse_intent(changed("spares: 1", "spare: 1"))
    assert "docs/intent.md" in caught.value.remedy
    with pytest.raises(IntentError) as caught:
        parse_intent(changed("spares: 1", "spares: x"))
    assert "docs/intent.md" not in caught.value.remedy
