"""Step time, collectives and serving: against the H200 measurements, and by what must hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import InputError
from spanwise.estimate.collectives import all_reduce_s, pipeline_hops_s
from spanwise.estimate.layout import Layout
from spanwise.estimate.points import parse_points
from spanwise.estimate.rates import rates
from spanwise.estimate.serving import Load, serve
from spanwise.estimate.step import costs, decode_step, prefill
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format

BOOK = FactBook()
BF16 = weight_format("bfloat16")
LLAMA = model_facts(model_config("meta-llama/Meta-Llama-3-70B"))


def test_all_reduce_is_nccls_ring():
    used = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("ethernet-10g"), BF16, "expected")
    # 16 ranks on 2 nodes: base + (2*15 - 2) hops inside + 2 hops between + bytes over the shared port.
    small = all_reduce_s(used, Layout(16, 1, 8), 0)
    assert small == pytest.approx(6.6e-6 + 28 * 0.6e-6 + 2 * 60e-6)
    megabyte = all_reduce_s(used, Layout(16, 1, 8), 2**20)
    # design note: 10G-class TCP needs 2 to 3 ms for 1 MiB.
    assert 2e-3 < megabyte < 3e-3
    assert all_reduce_s(used, Layout(8, 1, 8), 8192) < 10e-6
    assert all_reduce_s(used, Layout(1, 1, 8), 2**20) == 0


def test_small_message_figures_that_the_hops_stand_on_lie_in_the_ranges():
    gpu = BOOK.gpu("H100-80GB-SXM")
    for fabric, low, high in (("roce-200g", 36e-6, 49e-6), ("efa-400g", 69e-6, 83e-6), ("ib-ndr-400g", 36e-6, 71e-6)):
        best, worst = (
            all_reduce_s(rates(gpu, BOOK.fabric(fabric), BF16, case), Layout(16, 1, 8), 8) for case in ("best", "worst")
        )
        assert best < high and worst > low


def test_a_bubble_costs_what_it_must():
    used = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("ib-ndr-400g"), BF16, "expected")
    one, four = (costs(LLAMA, BF16, Layout(1, stages, 8)) for stages in (1, 4))
    # One request alone walks through all stages: no gain, four requests fill them.
    assert decode_step(used, four, 1, 100) == pytest.approx(decode_step(used, one, 1, 100), rel=0.05)
    alone, filled = (batch / decode_step(used, four, batch, 100) for batch in (1, 4))
    assert filled == pytest.approx(4 * alone, rel=0.25)


@settings(max_examples=80, deadline=None)
@given(
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    pipeline=st.integers(1, 8),
    batch=st.integers(1, 256),
    context=st.integers(0, 8000),
)
def test_cases_are_ordered_and_more_work_takes_longer(tensor, pipeline, batch, context):
    cut = costs(LLAMA, BF16, Layout(tensor, pipeline, 8))
    best, expected, worst = (
        rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("roce-200g"), BF16, case) for case in ("best", "expected", "worst")
    )
    times = [decode_step(used, cut, batch, context) for used in (best, expected, worst)]
    assert times == sorted(times)
    assert decode_step(expected, cut, batch + 1, context) >= times[1] * (1 - 1e-9) or batch < pipeline
    assert decode_step(expected, cut, batch, context + 100) >= times[1]
    shorter, longer = (prefill(expected, cut, tokens, batched_tokens=2048) for tokens in (500, 5000))
    assert shorter.latency < longer.latency
    assert shorter.bottleneck <= shorter.latency * (1 + 1e-9)


def test_a_long_prompt_is_the_sum_of_its_chunks(monkeypatch):
    used = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("roce-200g"), BF16, "expected")
    cut = costs(LLAMA, BF16, Layout(4, 3, 8))
    quick = prefill(used, cut, 100_000, batched_tokens=2048)
    monkeypatch.setattr("spanwise.estimate.step._EXACT_CHUNKS", 1000)
    exact = prefill(used, cut, 100_000, batched_tokens=2048)
    assert (quick.latency, quick.bottleneck) == pytest.approx((exact.latency, exact.bottleneck))
    assert prefill(used, cut, 10**13, batched_tokens=2048).latency > 0


@settings(max_examples=60, deadline=None)
@given(rate=st.floats(0.01, 50), inputs=st.integers(1, 4000), outputs=st.integers(1, 500))
def test_a_served_load_obeys_littles_law(rate, inputs, outputs):
    used = rates(BOOK.gpu("H200-141GB-SXM"), None, weight_format("fp8"), "expected")
    cut = costs(LLAMA, weight_format("fp8"), Layout(1, 1, 1))
    load = Load(input_tokens=inputs, output_tokens=outputs, rate_per_s=rate)
    found = serve(used, cut, load, kv_capacity_tokens=180_000, batched_tokens=8192)
    assert found.requests_per_s <= min(rate, found.max_requests_per_s) * (1 + 1e-9)
    if found.sustained and found.in_flight > 1:
        assert found.in_flight == pytest.approx(rate * outputs * found.tpot_s, rel=0.02)
        assert found.ttft_p95_s >= found.ttft_s * 0.99


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "phase"),
        ("phase,batch\n", "context_tokens"),
        ("phase,batch,context_tokens,new_tokens\n", "no points"),
        ("phase,batch,context_tokens,new_tokens\nwarm,1,1,1\n", "line 2"),
        ("phase,batch,context_tokens,new_tokens\ndecode,0,1,1\n", "batch"),
        ("phase,batch,context_tokens,new_tokens\ndecode,1,-1,1\n", "context_tokens"),
        ("phase,batch,context_tokens,new_tokens\ndecode,1,1,nan\n", "new_tokens"),
        ("phase,batch,context_tokens,new_tokens\ndecode,1\n", "context_tokens"),
        ("phase,batch,context_tokens,new_tokens\ndecode,1,1,99999999999999999999\n", "new_tokens"),
    ],
)
def test_bad_points_are_refused(text, said):
    with pytest.raises(InputError) as caught:
        parse_points(text, where="points.csv")
    assert said in str(caught.value)
    assert "points.csv" in str(caught.value)


def test_a_slow_hop_bounds_a_filled_pipeline():
    used = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("ethernet-1g"), BF16, "expected")
    one, two = (costs(LLAMA, BF16, Layout(1, stages, 1)) for stages in (1, 2))
    _, hop = pipeline_hops_s(used, two.layout, 2 * 128 * two.hidden_bytes)
    # Two micro-batches of 128: each passes its stage and the link twice per token, so the link counts twice.
    assert decode_step(used, two, 256, 100) == pytest.approx(2 * hop + decode_step(used, one, 128, 100), rel=0.1)
