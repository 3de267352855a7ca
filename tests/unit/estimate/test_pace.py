"""T(B) and the batch of a rate: remembered values must not change an answer."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.estimate.layout import Layout
from spanwise.estimate.pace import Pace
from spanwise.estimate.rates import rates
from spanwise.estimate.step import Work, costs, step_time, stepper
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format

BOOK = FactBook()
NAMES = ("meta-llama/Meta-Llama-3-8B", "google/gemma-3-4b-it", "deepseek-ai/DeepSeek-V3")
FACTS = {name: model_facts(model_config(name), name=name) for name in NAMES}
cuts = st.builds(
    lambda name, tensor, pipeline: costs(FACTS[name], FACTS[name].weight_format, Layout(tensor, pipeline, 8)),
    st.sampled_from(NAMES),
    st.sampled_from([1, 2, 4, 16]),
    st.integers(1, 9),
)
RATES = rates(BOOK.gpu("H100-80GB-SXM"), BOOK.fabric("ib-ndr-400g"), weight_format("bfloat16"), "expected")


def pace(cut, stream, inputs=700, outputs=200):
    return Pace(RATES, cut, stream=stream, input_tokens=inputs, output_tokens=outputs, batched_tokens=8192)


@settings(max_examples=100, deadline=None)
@given(
    cut=cuts, stream=st.booleans(), share=st.floats(0.001, 0.999), others=st.lists(st.floats(0.001, 0.999), max_size=4)
)
def test_the_batch_of_a_rate_solves_littles_law_whatever_was_asked_before(cut, stream, share, others):
    fresh, used = pace(cut, stream), pace(cut, stream)
    slots = fresh.slots(kv_capacity_tokens=400_000, max_sequences=1024)
    most = slots / fresh.step(slots)
    for other in others:
        used.in_flight(other * most, slots)
    batch = fresh.in_flight(share * most, slots)
    assert used.in_flight(share * most, slots) == batch
    if batch >= 1.0:
        assert batch == pytest.approx(share * most * fresh.step(batch), rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(cut=cuts, decodes=st.floats(0, 300), chunk=st.none() | st.floats(1, 8192), done=st.floats(0, 5000))
def test_one_stepper_answers_as_a_new_one_for_every_step(cut, decodes, chunk, done):
    chunks = () if chunk is None else ((chunk, done),)
    kept = stepper(RATES, cut)
    kept(7.0, 100.0, (), 0)
    latency, bottleneck = kept(decodes, 900.0, chunks, 1)
    alone = step_time(RATES, cut, Work(decodes=decodes, context=900.0, chunks=chunks, finished=1))
    assert (latency, bottleneck) == (alone.latency, alone.bottleneck)
    assert 0 < bottleneck <= latency < math.inf


def test_stages_of_the_same_layers_are_timed_as_one_pipeline():
    """Latency is the sum over stages: what one rank of the undivided model needs, but for what every stage pays anew."""
    model = FACTS[NAMES[0]]
    one = costs(model, model.weight_format, Layout(1, 1, 8))
    eight = costs(model, model.weight_format, Layout(1, 8, 8))
    assert sum(count for _, count in eight.distinct) == len(eight.stages) == 8
    whole = step_time(RATES, one, Work(decodes=1, context=100)).latency
    split = step_time(RATES, eight, Work(decodes=1, context=100)).latency
    assert whole + 7 * RATES.step_overhead <= split <= whole * 1.05 + 7 * (RATES.step_overhead + 50e-6)
