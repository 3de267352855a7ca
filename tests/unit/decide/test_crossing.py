"""Tensor parallelism across nodes: the parts of a step add up, the baseline fits, and the sentence does its own arithmetic."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.decide import PinnedLayout
from spanwise.decide.candidates import Judge
from spanwise.decide.judge import ask as question_of
from spanwise.estimate.layout import Layout
from spanwise.estimate.step import decode_step
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import fabrics, model_config
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, LLAMA_405B, an_intent, ask, codes

DEEPSEEK = "deepseek-ai/DeepSeek-V3"
STEPS = re.compile(
    r"step ([\d.]+) ms against ([\d.]+) ms with (.+?) \(batch (\d+)\), ([\d.]+) ms (more|less): "
    r"((?:[a-z][\w .-]*? [+-][\d.]+ ms(?:, )?)+)"
)

MANY = [
    {"rate": 4, "objectives": {"ttft_p95_ms": 2000, "tpot_p95_ms": 50}},
    {"inputs": 3000, "outputs": 400, "concurrency": 64},
    {"inputs": 3000, "outputs": 400, "concurrency": 64, "fabric": {"latency_us": 20, "bandwidth_gbit_per_s": 100}},
    {"per_node": 8, "rate": 4},
    {"per_node": 8, "rate": 4, "fabric": "ib-ndr-400g"},
    {"per_node": 1, "nodes": 4, "rate": 2},
    {"per_node": 1, "concurrency": 8},
    {"model": DEEPSEEK, "per_node": 8, "fabric": "ib-ndr-400g", "rate": 1},
    {"model": LLAMA_405B, "per_node": 8, "fabric": "ib-ndr-400g", "rate": 0.5},
    {"rate": 4, "fabric": "ib-ndr-400g", "objectives": {"tpot_p95_ms": 5}},
    {"model": LLAMA_8B, "gpu": "L4-24GB", "per_node": 1, "concurrency": 1},
    {"model": LLAMA_8B, "gpu": "L4-24GB", "per_node": 8, "rate": 7},
    {"model": LLAMA_8B, "per_node": 1, "rate": 1},
]


def across_of(verdict):
    return next((item for item in verdict.rejected if item.role == "tensor_parallel_across_nodes"), None)


def adds_up(text: str) -> None:
    """The parts in the sentence are the difference of the two steps in it, to the last digit shown."""
    found = STEPS.search(text)
    assert found, text
    across, inside, _, _, apart, than, parts = found.groups()
    last = 10.0 ** -len(across.partition(".")[2]) / 2
    difference = float(across) - float(inside)
    assert difference == pytest.approx(float(apart) * (1 if than == "more" else -1), abs=last / 10), text
    assert sum(map(float, re.findall(r" ([+-][\d.]+) ms", parts))) == pytest.approx(difference, abs=last / 10), text


@pytest.mark.parametrize("kwargs", MANY, ids=str)
def test_the_sentence_does_its_own_arithmetic(kwargs):
    item = across_of(ask(**kwargs))
    assert item is not None
    if item.values.get("step_across_ms") is not None:
        adds_up(item.text)
        values = item.values
        cost = values["all_reduces_more_ms"] + values["gather_more_ms"] + values["hops_more_ms"]
        assert values["communication_cost_ms"] == pytest.approx(cost, abs=0.003)
        assert values["step_across_ms"] - values["step_inside_ms"] == pytest.approx(
            values["communication_cost_ms"] - values["weight_reading_gain_ms"], abs=0.004
        )


CUTS = st.sampled_from([(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (1, 3), (2, 4), (4, 2), (8, 2), (1, 16)])


@settings(max_examples=80, deadline=None)
@given(
    cut=CUTS,
    per_node=st.sampled_from([1, 2, 4, 8]),
    fabric=st.sampled_from(list(fabrics())),
    batch=st.floats(1, 300),
    model=st.sampled_from([LLAMA_8B, LLAMA_70B]),
)
def test_the_work_is_what_is_left_when_links_cost_nothing(cut, per_node, fabric, batch, model):
    intent = an_intent(model, per_node=per_node, nodes=16, fabric=fabric)
    judge = Judge(question_of(intent, model_facts(model_config(model), name=model), FactBook()))
    layout = Layout(*cut, per_node)
    from spanwise.decide.parts import decode_parts

    made = judge.cut(layout, 2048)[0]
    parts = decode_parts(judge.rates, made, batch, 1152.0)
    assert parts.step_s == pytest.approx(decode_step(judge.rates, made, batch, 1152.0), rel=1e-9)
    assert min(parts.all_reduces_s, parts.gather_s, parts.hops_s, parts.work_s) >= 0.0
    if layout.pipeline_parallel_size == 1:
        free = {"hop": 0.0, "bytes_per_s": 1e30, "allreduce_floor": None}
        near, far = (None if link is None else replace(link, **free) for link in (judge.rates.near, judge.rates.far))
        alone = replace(judge.rates, near=near, far=far, collective_base=0.0)
        assert parts.work_s == pytest.approx(decode_step(alone, made, batch, 1152.0), rel=1e-6)


@pytest.mark.parametrize("kwargs", MANY, ids=str)
def test_the_baseline_holds_the_model_and_the_batch(kwargs):
    item = across_of(ask(**kwargs))
    if item.predicted is None:
        return
    intent = an_intent(**kwargs)
    judge = Judge(question_of(intent, model_facts(model_config(intent.model), name=intent.model), FactBook()))
    values = item.values
    per_node = intent.hardware.gpus_per_node
    for size, stages in (
        (values["tensor_parallel_size_inside"], values["pipeline_parallel_size_inside"]),
        (values["tensor_parallel_size_across"], 1),
    ):
        memory = judge.cut(Layout(size, stages, per_node), 2048)[1]
        assert memory.fits
        held = memory.kv_capacity_tokens // judge.question.workload.tokens_per_request
        assert held >= values["batch"] - 0.01, (size, stages, held)


def test_no_single_gpu_is_the_baseline_of_what_none_holds():
    named = STEPS.search(across_of(ask(inputs=3000, outputs=400, concurrency=64)).text).group(3)
    assert named == "TP=4 in one node"
    lone = STEPS.search(across_of(ask(per_node=1, nodes=4, rate=2)).text).group(3)
    assert lone == "PP=3 over 3 nodes"
    deep = STEPS.search(across_of(ask(DEEPSEEK, per_node=8, fabric="ib-ndr-400g", rate=1)).text).group(3)
    assert deep.endswith("over 2 nodes") and deep != "TP=8"


@pytest.mark.parametrize("fabric", ["ethernet-10g", "ib-ndr-400g"])
def test_a_split_over_nodes_that_was_insisted_on_gets_its_crossing(fabric):
    verdict = ask(per_node=8, fabric=fabric, rate=4, pinned=PinnedLayout(tensor_parallel_size=16))
    reason = next(item for item in verdict.reasons if item.code == "tensor_parallel_crosses_slow_fabric")
    adds_up(reason.text)
    assert f"all-reduces over {fabric} +" in reason.text
    assert STEPS.search(reason.text).group(3) == "TP=8 in one node"
    assert reason.values["step_across_ms"] > reason.values["step_inside_ms"]


def test_a_split_over_nodes_that_gains_is_not_called_slow():
    pinned = PinnedLayout(tensor_parallel_size=2)
    verdict = ask(LLAMA_8B, gpu="L4-24GB", per_node=1, concurrency=1, pinned=pinned)
    assert "tensor_parallel_crosses_slow_fabric" not in codes(verdict)


def test_the_text_says_what_the_code_says():
    item = across_of(ask(rate=4, fabric="ib-ndr-400g", objectives={"tpot_p95_ms": 5}))
    assert item.code == "objective_missed"
    assert item.text.startswith("TP=8 over 2 nodes: TPOT p95 22.3 ms against 5 ms; step ")
    busy = [ask(rate=rate, per_node=2, nodes=2, fabric="ib-ndr-400g") for rate in (8, 12)]
    for item in filter(None, map(across_of, busy)):
        said = {
            "kv_cache_does_not_fit": "tokens of KV cache",
            "load_exceeds_capacity": "saturates at",
            "larger_would_do": "would do what is asked",
            "not_needed": "not needed",
            "tensor_parallel_crosses_slow_fabric": "more: all-reduces",
            "weights_do_not_fit": "weights take",
        }[item.code]
        assert said in item.text, (item.code, item.text)


def test_a_fabric_without_a_name_is_called_the_fabric_given():
    link = {"latency_us": 20, "bandwidth_gbit_per_s": 100}
    item = across_of(ask(inputs=3000, outputs=400, concurrency=64, fabric=link))
    assert "inline" not in item.text
    assert "all-reduces over the fabric given" in item.text
