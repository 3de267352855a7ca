"""A flip is true: who makes the change that it names gets the verdict that it names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.decide import decide
from spanwise.decide.codes import FLIPS
from spanwise.decide.types import Flip
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import book_from
from spanwise.facts.catalogue import fabrics, model_config
from spanwise.intent.load import load_intent
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, SMOLLM2, an_intent, ask
from tests.unit.decide.pages import PAGES, REPOSITORY, read

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))
L4_PAIR = {"model": LLAMA_8B, "gpu": "L4-24GB", "per_node": 1, "nodes": 2}
MANY = [
    {"inputs": 3000, "outputs": 400, "concurrency": 64},
    {"inputs": 3000, "outputs": 400, "concurrency": 64, "fabric": {"latency_us": 20, "bandwidth_gbit_per_s": 100}},
    {"per_node": 8, "rate": 4},
    {"per_node": 1, "nodes": 4, "rate": 2},
    {"per_node": 1, "concurrency": 8},
    {"rate": 4, "fabric": "ib-ndr-400g", "objectives": {"tpot_p95_ms": 5}},
    {"model": "deepseek-ai/DeepSeek-V3", "per_node": 8, "fabric": "ib-ndr-400g", "rate": 1},
    {**L4_PAIR, "per_node": 8, "rate": 7, "spares": 1},
    {**L4_PAIR, "rate": 1},
    {**L4_PAIR, "rate": 4},
    {**L4_PAIR, "rate": 1, "max_model_len": 2048},
    {**L4_PAIR, "concurrency": 1, "objectives": {"tpot_p95_ms": 50}},
    {**L4_PAIR, "concurrency": 8, "objectives": {"tpot_p95_ms": 50}},
]


def a_fact(name: str, value: float, unit: str):
    fact = {"name": name, "value": value, "unit": unit, "source": "test", "date": "2026-11-24", "kind": "measured"}
    return book_from({"schema": "spanwise.facts/1", "facts": [fact]})


def applied(intent, flip):
    """Decide again with the one quantity that the flip names, as the flip has it."""
    model = model_facts(model_config(intent.model), name=intent.model)
    gpu, fabric = (
        one if one is None or isinstance(one, str) else None for one in (intent.hardware.gpu, intent.hardware.fabric)
    )
    gpu = gpu or intent.hardware.gpu.name
    fabric = fabric or "inline"
    if flip.what == "gpu.memory_gib":
        return decide(intent, model, a_fact(f"{gpu}.memory", flip.to * 2**30, "B"))
    if flip.what == "fabric.bandwidth_gbit_per_s":
        return decide(intent, model, a_fact(f"{fabric}.bandwidth", flip.to * 1e9 / 8, "B/s"))
    if flip.what == "fabric.latency_us":
        return decide(intent, model, a_fact(f"{fabric}.hop", flip.to * 1e-6, "s"))
    key = flip.what.removeprefix("workload.")
    assert key in {"request_rate_per_s", "concurrency", "input_tokens"}
    value = flip.to if key == "request_rate_per_s" else int(flip.to)
    return decide(intent.model_copy(update={"workload": intent.workload.model_copy(update={key: value})}), model)


def is_true(intent, flip, now) -> None:
    then = applied(intent, flip)
    assert then.verdict == flip.verdict != now, (flip, then.verdict)
    words, chosen = flip.text.rpartition(": ")[2], then.chosen
    if words.startswith("no layout"):
        assert then.verdict in ("infeasible", "multi_node")
        return
    sizes = ((chosen.tensor_parallel_size, "TP"), (chosen.pipeline_parallel_size, "PP"))
    name = " x ".join(f"{kind}={size}" for size, kind in sizes if size > 1) or "one GPU"
    if chosen.replicas > 1:
        name = f"{chosen.replicas} replicas of {name}"
    assert words.startswith(name), (flip, chosen)
    short = any(reason.code == "not_enough_hardware" for reason in then.reasons)
    assert ("does not do all" in words) is short, (flip, then.reasons)


def all_true(intent) -> int:
    verdict = decide(intent, model_facts(model_config(intent.model), name=intent.model))
    for flip in verdict.flips:
        is_true(intent, flip, verdict.verdict)
    return len(verdict.flips)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_flip_of_an_example_is_true(path):
    all_true(load_intent(path))


@pytest.mark.parametrize("kwargs", MANY, ids=str)
def test_every_flip_is_true(kwargs):
    assert all_true(an_intent(**kwargs)) > 0


@pytest.mark.parametrize("path", [path for path in PAGES if path.name[:-3] in FLIPS], ids=lambda path: path.stem)
def test_every_flip_of_a_page_is_true(path, tmp_path):
    page = read(path)
    where = REPOSITORY / page.command[2]
    if page.intent is not None:
        where = tmp_path / "intent.yaml"
        where.write_text(page.intent, "utf-8")
    assert all_true(load_intent(where)) > 0


@settings(max_examples=15, deadline=None)
@given(
    intent=st.builds(
        an_intent,
        model=st.sampled_from([LLAMA_8B, LLAMA_70B, SMOLLM2]),
        gpu=st.sampled_from(["H100-80GB-SXM", "L4-24GB", "A100-80GB-SXM", "L40S-48GB"]),
        per_node=st.sampled_from([1, 2, 4, 8]),
        nodes=st.integers(1, 3),
        fabric=st.sampled_from([name for name in fabrics() if not name.startswith(("nvlink", "pcie", "infinity"))]),
        inputs=st.integers(1, 3000),
        outputs=st.integers(1, 1000),
        concurrency=st.integers(1, 100),
        rate=st.none() | st.floats(0.01, 50),
        objectives=st.sampled_from([{}, {}, {"tpot_p95_ms": 30}, {"ttft_p95_ms": 500, "tpot_p95_ms": 60}]),
    )
)
def test_every_flip_of_any_intent_is_true(intent):
    all_true(intent)


def test_a_faster_link_does_not_move_what_one_node_does():
    """What one node does stays in one node: TP over nodes would decode faster on such a link, which is no other verdict."""
    verdict = ask(LLAMA_8B, per_node=1, rate=1)
    assert not [flip for flip in verdict.flips if flip.what.startswith("fabric")]
    across = next(item for item in verdict.rejected if item.role == "tensor_parallel_across_nodes")
    assert "it would be faster below" in across.text
    assert "the verdict stays one_gpu" in across.text


def test_a_link_flips_where_it_decides():
    pair = {**L4_PAIR, "concurrency": 1, "objectives": {"tpot_p95_ms": 50}}
    worse = {flip.what: flip for flip in ask(**pair).flips if flip.what.startswith("fabric")}
    assert worse["fabric.latency_us"].verdict == worse["fabric.bandwidth_gbit_per_s"].verdict == "one_gpu"
    assert worse["fabric.latency_us"].to > 60
    assert worse["fabric.bandwidth_gbit_per_s"].to < 10
    better = ask(**{**pair, "concurrency": 8, "fabric": "ethernet-1g"})
    assert better.verdict == "one_gpu"
    flip = next(flip for flip in better.flips if flip.what == "fabric.bandwidth_gbit_per_s")
    assert (flip.verdict, flip.to > 1) == ("multi_node", True)


def test_a_stated_context_is_not_raised_by_a_flip():
    verdict = ask(**L4_PAIR, rate=1, max_model_len=2048)
    assert all(flip.to + 256 <= 2048 for flip in verdict.flips if flip.what == "workload.input_tokens")


@pytest.mark.parametrize(
    "kwargs",
    [
        {"model": LLAMA_8B, "per_node": 1, "rate": 1},
        {**L4_PAIR, "rate": 4, "fabric": "ethernet-1g"},
        {"inputs": 3000, "outputs": 400, "concurrency": 64, "fabric": {"latency_us": 20, "bandwidth_gbit_per_s": 100}},
    ],
    ids=str,
)
def test_what_is_said_about_a_faster_link_is_true(kwargs):
    """On the link that the sentence names the split over nodes is faster, and the verdict is what it says."""
    intent = an_intent(**kwargs)
    now = ask(**kwargs)
    text = next(item.text for item in now.rejected if item.role == "tensor_parallel_across_nodes")
    ways = {
        "fabric.bandwidth_gbit_per_s": re.search(r"from ([\d.]+) Gbit/s on", text),
        "fabric.latency_us": re.search(r"below ([\d.]+) us per hop", text),
    }
    assert any(ways.values()), text
    for what, found in ways.items():
        if found is not None:
            # Found to one hundredth, shown with three digits.
            to = float(found.group(1)) * (1.01 if "bandwidth" in what else 0.99)
            then = applied(intent, Flip(what=what, from_=0.0, to=to, verdict=now.verdict, text=""))
            # Where one node does not do all that is asked, the sentence says nothing about the verdict: the flips do.
            assert then.verdict == now.verdict or "verdict" not in text
            across = next(item for item in then.rejected if item.role == "tensor_parallel_across_nodes")
            assert across.values["step_across_ms"] < across.values["step_inside_ms"]
