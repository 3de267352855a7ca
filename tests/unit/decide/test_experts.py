"""Whole experts on ranks: only where vLLM cannot cut them, counted and timed as such, and carried into the plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.decide import PinnedLayout, decide
from spanwise.estimate.layout import (
    Layout,
    check_layout,
    expert_width,
    invalid_tensor_parallel,
    needs_whole_experts,
    valid_tensor_parallel,
)
from spanwise.estimate.memory import expert_bytes_per_rank
from spanwise.estimate.step import _busiest, costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.catalogue import model_config
from spanwise.intent.load import intent_from

QWEN = model_facts(model_config("Qwen/Qwen3-235B-A22B-FP8"), name="Qwen/Qwen3-235B-A22B-FP8")
PLAIN = model_facts(model_config("Qwen/Qwen3-235B-A22B"))
INTENT = {
    "model": "Qwen/Qwen3-235B-A22B-FP8",
    "hardware": {"gpu": "H100-80GB-SXM", "gpus_per_node": 8},
    "workload": {"input_tokens": 1024, "output_tokens": 256, "concurrency": 64},
}


def test_slices_through_a_block_are_impossible_and_whole_experts_are_not():
    assert expert_width(QWEN) == 1536
    assert valid_tensor_parallel(QWEN, 8) == (1, 2, 4)
    assert "blocks of 128" in (invalid_tensor_parallel(QWEN, 8) or "")
    assert needs_whole_experts(QWEN, 8)
    assert not needs_whole_experts(QWEN, 4)
    assert valid_tensor_parallel(PLAIN, 8) == (1, 2, 4, 8), "in 16 bits there are no blocks"
    assert not needs_whole_experts(PLAIN, 8)
    dense = model_facts(model_config("meta-llama/Meta-Llama-3-8B"))
    assert expert_width(dense) is None
    assert not any(needs_whole_experts(dense, size) for size in range(1, 64))


def test_a_width_that_does_not_divide_needs_whole_experts_too():
    odd = model_facts({**model_config("Qwen/Qwen3-235B-A22B"), "moe_intermediate_size": 1500})
    assert needs_whole_experts(odd, 8)
    check_layout(odd, Layout(8, 1, 8, expert_parallel=True))


def test_deepseek_keeps_its_slices():
    deepseek = model_facts(model_config("deepseek-ai/DeepSeek-V3"))
    assert [size for size in (8, 16) if not needs_whole_experts(deepseek, size)] == [8, 16]


@given(ranks=st.integers(2, 64))
def test_ranks_hold_all_experts_between_them(ranks):
    layer = QWEN.layer_facts[0]
    each = expert_bytes_per_rank(layer, QWEN.weight_format, Layout(ranks, 1, ranks, expert_parallel=True))
    total = QWEN.weight_format.expert_bytes(layer.expert_linear)
    assert each * ranks >= total
    assert each <= total * (128 // ranks + 1) / 128 + 1


@given(tokens=st.floats(0.01, 1e5), ranks=st.sampled_from([2, 4, 8, 16]))
def test_the_busiest_rank_has_between_the_mean_and_everything(tokens, ranks):
    kind = costs(QWEN, QWEN.weight_format, Layout(ranks, 1, ranks, expert_parallel=True)).kinds[0]
    assert 1.0 <= _busiest(kind.uneven, tokens, ranks) <= ranks


@pytest.mark.parametrize("tokens", [16, 64, 512])
def test_the_busiest_rank_is_as_a_draw_of_experts_has_it(tokens):
    draw = np.random.default_rng(7)
    kind = costs(QWEN, QWEN.weight_format, Layout(8, 1, 8, expert_parallel=True)).kinds[0]
    seen = []
    for _ in range(200):
        chosen = np.concatenate([draw.choice(128, 8, replace=False) for _ in range(tokens)])
        seen.append(np.bincount(chosen // 16, minlength=8).max() / (tokens * 8 / 8))
    real, said = float(np.mean(seen)), _busiest(kind.uneven, tokens, 8)
    assert real <= said, "it is a bound"
    assert said - 1 < 2 * (real - 1), "and not a loose one"


def test_a_verdict_takes_slices_where_it_can_and_says_why_where_it_cannot():
    free = decide(intent_from(INTENT, where="here"), QWEN)
    assert free.chosen is not None
    if free.chosen.tensor_parallel_size <= 4:
        assert not free.chosen.expert_parallel
    pinned = decide(intent_from(INTENT, where="here"), QWEN, pinned=PinnedLayout(tensor_parallel_size=8))
    assert pinned.chosen is not None
    assert pinned.chosen.expert_parallel
    said = next(reason for reason in pinned.reasons if reason.code == "whole_experts")
    assert said.values["experts_per_rank"] == 16
    assert "--enable-expert-parallel" in said.text


def test_a_plan_carries_it():
    from spanwise.plan.make import plan
    from spanwise.render.vllm import render_vllm

    intent = intent_from(INTENT, where="here")
    verdict = decide(intent, QWEN, pinned=PinnedLayout(tensor_parallel_size=8))
    made = plan(intent, QWEN, verdict, source=INTENT["model"], config=model_config(INTENT["model"]), served_name="qwen")
    assert made.engine_args["enable_expert_parallel"] is True
    assert any("--enable-expert-parallel" in file.text for file in render_vllm([made]))
