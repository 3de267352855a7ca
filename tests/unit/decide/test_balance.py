"""Uneven stages: only where they are better, never without saying so, and always a split that vLLM takes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.decide.balance import balanced, uneven
from spanwise.decide.candidates import Judge
from spanwise.decide.judge import ask as question_of
from spanwise.estimate.layout import Layout, stage_layers
from spanwise.estimate.memory import stage_memory
from spanwise.facts.book import FactBook
from tests.unit.decide.asking import LLAMA_8B, SMOLLM2, PinnedLayout, an_intent, ask, codes
from tests.unit.decide.test_properties import FACTS, questions

# Two small GPUs, a large head: vLLM's own 16+16 makes the last stage the slowest.
SLOW_LAST = {
    "model": LLAMA_8B, "gpu": "L4-24GB", "per_node": 1, "nodes": 2, "fabric": "ethernet-25g", "concurrency": 64,
    "max_model_len": 8192, "dtype": "bfloat16", "objectives": {"tpot_p95_ms": 30},
}  # fmt: skip


@given(layers=st.integers(1, 130), stages=st.integers(1, 16))
def test_every_split_is_whole_and_takes_from_the_ends(layers, stages):
    stages = min(stages, layers)
    even = stage_layers(layers, stages)
    for layout in uneven(Layout(1, stages, 1), layers):
        split = layout.partition
        assert (len(split), sum(split)) == (stages, layers)
        assert min(split) >= 1
        assert split != even
        assert split[-1] <= even[-1] or split[0] <= even[0]
        assert layout.stage_layers(layers) == split


def test_one_stage_has_nothing_to_move():
    assert list(uneven(Layout(8, 1, 8), 80)) == []


def test_the_stage_with_the_head_gives_a_layer_away_and_the_verdict_says_so():
    verdict = ask(**SLOW_LAST)
    assert verdict.chosen.stage_layers == (17, 15)
    assert [stage.end_layer for stage in verdict.memory.stages] == [17, 32]
    said = next(reason for reason in verdict.reasons if reason.code == "uneven_stages")
    assert "VLLM_PP_LAYER_PARTITION" in said.text
    assert said.values["even_stage_layers"] == [16, 16]
    assert verdict.predicted.tpot_ms == said.values["tpot_ms"] < 0.99 * said.values["even_tpot_ms"]
    assert [point.chosen for point in verdict.pareto].count(True) == 1


def test_a_pinned_layout_keeps_vllms_own_split():
    forced = ask(**SLOW_LAST, pinned=PinnedLayout(tensor_parallel_size=1, pipeline_parallel_size=2))
    assert forced.chosen.stage_layers == (16, 16)
    assert forced.justified
    assert "uneven_stages" not in codes(forced)


@settings(max_examples=60, deadline=None)
@given(question=questions)
def test_the_balanced_choice_is_the_choice_or_better_by_a_hundredth(question):
    judge = Judge(question)
    best = judge.best_confirmed()
    if best is None:
        return
    chosen = balanced(judge, best)
    if chosen is best:
        return
    assert replace(chosen.layout, partition=None) == best.layout
    assert (chosen.replicas, chosen.tier) <= (best.replicas, best.tier)
    assert chosen.layout.partition != stage_layers(question.model.layers, len(chosen.layout.partition))
    assert (
        chosen.tier < best.tier
        or chosen.badness < 0.99 * best.badness
        or chosen.service.tpot_s < 0.99 * best.service.tpot_s
    )


@pytest.mark.parametrize("name", [LLAMA_8B, SMOLLM2])
def test_a_stage_that_is_too_full_gives_layers_away(name):
    """Between the memory that the uneven split needs and the memory that the even one needs there is only one answer."""
    question = question_of(an_intent(name, per_node=1, nodes=3, concurrency=1), FACTS[name], FactBook())
    layout = Layout(1, 3, 1)

    def held(total, cut):
        gpu = replace(question.gpu, memory=replace(question.gpu.memory, value=total))
        return Judge(replace(question, gpu=gpu)).judge(cut)

    split = stage_memory(question.model, question.weights, layout)
    need = max(stage.weights for stage in split)
    low, high = need / 4, need * 20.0
    while high - low > 1e5:
        middle = (low + high) / 2
        low, high = (low, middle) if held(middle, layout).tier < 3 else (middle, high)
    tight = held(high, layout)
    assert tight.layout.partition is not None
    assert tight.layout.pipeline_parallel_size == 3
    assert held(high, replace(layout, partition=stage_layers(question.model.layers, 3))).tier == 3
