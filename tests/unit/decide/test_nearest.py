"""The nearest larger and cheaper choice: worth naming, and told apart from the choice in figures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.cli.decide import show
from spanwise.decide import PinnedLayout
from spanwise.decide.words import ms, told_apart
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, an_intent, ask

MANY = [
    {"rate": 4, "objectives": {"ttft_p95_ms": 2000, "tpot_p95_ms": 50}},
    {"model": "Qwen/Qwen2.5-72B-Instruct", "per_node": 4, "fabric": "ethernet-100g", "concurrency": 8},
    {"per_node": 8, "rate": 4},
    {"model": LLAMA_8B, "per_node": 8, "rate": 60},
    {"model": LLAMA_8B, "per_node": 1, "nodes": 1, "fabric": None, "rate": 1},
]


def role(verdict, name):
    return next((item for item in verdict.rejected if item.role == name), None)


@pytest.mark.parametrize("kwargs", MANY, ids=str)
def test_the_larger_one_is_faster_where_any_larger_one_on_the_front_is(kwargs):
    verdict = ask(**kwargs)
    item, chosen = role(verdict, "nearest_larger"), verdict.chosen
    larger = [
        point
        for point in verdict.pareto
        if point.tensor_parallel_size * point.pipeline_parallel_size > chosen.world_size
        and point.keeps_objectives
        and point.tpot_ms < verdict.predicted.tpot_ms
    ]
    if larger:
        assert item.code == "not_needed"
        assert item.predicted.tpot_ms < verdict.predicted.tpot_ms
    shown = re.search(r"TPOT ([\d.]+ m?s) against ([\d.]+ m?s)", item.text)
    assert shown.group(1) != shown.group(2), item.text


def test_where_none_is_faster_the_fastest_is_named():
    verdict = ask(rate=4, objectives={"ttft_p95_ms": 2000, "tpot_p95_ms": 50})
    item = role(verdict, "nearest_larger")
    assert item.code == "slower_across_nodes"
    # Not a pipeline over single GPUs that takes four times as long.
    assert item.predicted.tpot_ms < 1.5 * verdict.predicted.tpot_ms


def test_beside_a_layout_insisted_on_the_cheaper_one_is_the_judgements():
    verdict = ask(per_node=8, rate=4, pinned=PinnedLayout(tensor_parallel_size=16))
    free = ask(per_node=8, rate=4).chosen
    item = role(verdict, "nearest_cheaper")
    assert (item.tensor_parallel_size, item.pipeline_parallel_size, item.replicas) == (
        free.tensor_parallel_size,
        free.pipeline_parallel_size,
        free.replicas,
    )
    assert item.text == "PP=3 would do with 3 GPUs instead of 16"
    assert role(verdict, "nearest_larger") is None, "three nodes are no answer to who insists on two"


@given(one=st.floats(1e-4, 5.0), share=st.floats(1e-3, 2.0))
def test_times_are_told_apart(one, share):
    first, second = told_apart(one, one * (1 + share))
    assert first != second


def test_long_times_are_seconds():
    assert ms(13.93) == "13.9 s"
    assert ms(0.0213) == "21.3 ms"
    assert ms(9.999) == "9999 ms"
    assert ms(None) == "growing without end"


def test_the_text_has_no_exponents_and_no_time_without_end_in_milliseconds():
    busy = an_intent(inputs=3000, outputs=400, concurrency=64)
    text = show(busy, ask(inputs=3000, outputs=400, concurrency=64), "test").split("\nfacts")[0]
    assert not re.search(r"\de[+-]\d", text)
    assert re.search(r"TTFT p95 +13\.9\d s  +12\.\d\d to 15\.\d\d", text)
    pinned = PinnedLayout(tensor_parallel_size=16)
    full = show(an_intent(per_node=8, rate=4), ask(per_node=8, rate=4, pinned=pinned), "test").split("\nfacts")[0]
    assert not re.search(r"\de[+-]\d|grows ms|TTFT without", full)
    assert "grows without end" in full
    assert "TTFT growing without end" in full


def test_one_larger_gpu_is_one():
    verdict = ask(LLAMA_70B, inputs=3000, outputs=400, concurrency=64)
    text = role(verdict, "one_larger_gpu").text
    assert text.startswith("one B200-180GB-SXM with 178.3 GiB holds the model whole; 3 replicas")
    assert "each holds" not in text
    single = role(ask(rate=4), "one_larger_gpu").text
    assert single.startswith("one B200-180GB-SXM with 178.3 GiB holds the model whole and does what is asked")
