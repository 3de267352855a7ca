"""The replay of vLLM's scheduler: leaps equal steps, queues are bounded by memory, bubbles follow from how requests arrive."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.estimate import replay as room
from spanwise.estimate.layout import Layout
from spanwise.estimate.rates import rates
from spanwise.estimate.replay import percentile, replay
from spanwise.estimate.serving import Load
from spanwise.estimate.step import costs, decode_step
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format

BF16 = weight_format("bfloat16")
LLAMA = model_facts(model_config("meta-llama/Meta-Llama-3-70B"))
BOOK = FactBook()
RATES = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("ib-ndr-400g"), BF16, "expected")
LOADS = [
    Load(input_tokens=512, output_tokens=200, concurrency=1),
    Load(input_tokens=512, output_tokens=200, concurrency=7),
    Load(input_tokens=2000, output_tokens=300, concurrency=40),
    Load(input_tokens=700, output_tokens=256, rate_per_s=1.5),
]


def play(layout: Layout, load: Load, **more):
    limits = {"kv_capacity_tokens": 200_000, "batched_tokens": 8192, "max_sequences": 256, "requests": 96} | more
    return replay(RATES, costs(LLAMA, BF16, layout), load, **limits)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: str(load.concurrency or load.rate_per_s))
@pytest.mark.parametrize("layout", [Layout(4, 1, 8), Layout(4, 2, 4), Layout(2, 4, 8)], ids=str)
def test_leaps_say_what_single_steps_say(layout, load, monkeypatch):
    leaping = play(layout, load)
    monkeypatch.setattr(room, "_leap", lambda _e, _f, now, entry, *_: (now, entry, 0.0))
    monkeypatch.setattr(room._Engine, "stretch", lambda *_: 1)
    stepping = play(layout, load)
    assert leaping.requests_per_s == pytest.approx(stepping.requests_per_s, rel=0.02)
    assert leaping.mean_ttft_s() == pytest.approx(stepping.mean_ttft_s(), rel=0.03)
    assert leaping.mean_tpot_s() == pytest.approx(stepping.mean_tpot_s(), rel=0.03)


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 3000),
    outputs=st.integers(1, 120),
    concurrency=st.integers(1, 60),
    stages=st.sampled_from([1, 2, 4]),
    capacity=st.integers(4000, 60_000),
)
def test_every_request_is_answered_once_and_memory_holds(inputs, outputs, concurrency, stages, capacity):
    load = Load(input_tokens=inputs, output_tokens=outputs, concurrency=concurrency)
    seen = play(Layout(4, stages, 4), load, kv_capacity_tokens=capacity, requests=concurrency + 10)
    assert seen.complete
    assert len(seen.ttft_s) == concurrency + 10
    assert min(seen.ttft_s) > 0
    assert min(seen.tpot_s) >= 0
    # Little's law, over the whole run: requests in the engine are at most what memory admits.
    assert seen.mean_in_flight <= min(concurrency, capacity / 16 / -(-inputs // 16)) + 1


def test_memory_that_holds_one_serves_one_after_the_other():
    load = Load(input_tokens=1000, output_tokens=50, concurrency=8)
    one = play(Layout(4, 1, 8), load, kv_capacity_tokens=1100, requests=16)
    many = play(Layout(4, 1, 8), load, requests=16)
    assert one.mean_in_flight < 1.3
    assert one.mean_ttft_s() > 3 * many.mean_ttft_s()


def test_requests_that_grow_beyond_memory_are_preempted_and_still_end():
    load = Load(input_tokens=100, output_tokens=400, concurrency=20)
    seen = play(Layout(4, 1, 8), load, kv_capacity_tokens=4000, requests=40)
    assert seen.complete
    assert seen.preemptions > 0


def test_requests_that_arrive_together_do_not_fill_a_pipeline():
    """Eight short prompts fit one step, stay in it, and leave the other stages idle: what vLLM does."""
    cut = costs(LLAMA, BF16, Layout(4, 4, 8))
    load = Load(input_tokens=64, output_tokens=200, concurrency=8)
    together = play(Layout(4, 4, 8), load, requests=8)
    alone = decode_step(RATES, cut, 1, 164)
    assert together.mean_tpot_s() == pytest.approx(alone, rel=0.1)


def test_a_stream_is_the_same_every_time_and_percentiles_are_numpys():
    load = Load(input_tokens=300, output_tokens=60, rate_per_s=2.0)
    assert play(Layout(4, 1, 8), load) == play(Layout(4, 1, 8), load)
    assert percentile((1.0, 2.0, 3.0, 4.0), 0.5) == 2.5
    assert percentile((5.0,), 0.95) == 5.0
