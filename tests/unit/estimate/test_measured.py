"""The estimate against vLLM on real GPUs: single steps (fitted), KV capacity, and loads (never fitted)."""

from __future__ import annotations

from statistics import median

import pytest

from tests.unit.estimate.measured import ours, pair, reference

OURS, REFERENCE = ours(), reference()
ALL = [*OURS, *REFERENCE]
# One host's short fp8 prompts took 12.5 ms at any length (launch-bound on that machine); the error there is reported, not fitted away.
SLOW_HOST = "llama-3-8b-fp8-H100-80GB-SXM"


def test_the_measurements_are_there():
    assert len(OURS) >= 9
    assert len({sample.gpu.name for sample in OURS}) == 2


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_decode_steps(sample):
    found = [abs(error) for error in sample.errors("decode")]
    assert median(found) <= 0.05
    assert max(found) <= 0.13


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_prefill(sample):
    found = [abs(error) for error in sample.errors("prefill")]
    assert median(found) <= (0.17 if sample.label == SLOW_HOST else 0.08)


def test_most_points_lie_in_their_range():
    inside = total = 0
    for sample in ALL:
        for found, point in sample.answers():
            low, high = found.uncertainty
            inside += low <= point["time_ms"] <= high
            total += 1
    assert inside / total >= 0.95


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_kv_capacity_within_two_percent(sample):
    assert sample.kv_capacity_tokens() == pytest.approx(sample.document["kv_capacity_tokens"], rel=0.02)


def test_closed_loops():
    """All requests counted, as measured; the loops were never fitted."""
    ttft, tpot, rate = [], [], []
    for sample in ALL:
        for loop in sample.document["loops"]:
            if "concurrency" not in loop:
                continue
            found = sample.observed(loop)
            ttft.append(abs(found.ttft_s * 1e3 / loop["mean_ttft_ms"] - 1))
            tpot.append(abs(found.tpot_s * 1e3 / loop["mean_tpot_ms"] - 1))
            rate.append(abs(found.requests_per_s / loop["requests_per_s"] - 1))
            # Past the KV limit requests wait; nothing is refused.
            over = sample.past_the_kv_limit(loop)
            assert found.sustained is not over
            if over:
                assert found.ttft_s > 10
    assert len(ttft) >= 12
    assert median(ttft) <= 0.20
    assert median(tpot) <= 0.12
    assert median(rate) <= 0.06
    assert max(rate) <= 0.12


def test_open_loops_throughput_and_order_of_magnitude():
    """Known gap: with one prompt per step real steps are slower than ours (docs/accuracy.md), so only bounds hold here."""
    seen = 0
    for sample in OURS:
        for loop in sample.document["loops"]:
            if "request_rate_per_s" not in loop:
                continue
            found = sample.observed(loop)
            assert found.sustained
            assert found.tpot_s * 1e3 == pytest.approx(loop["mean_tpot_ms"], rel=0.25)
            assert loop["mean_ttft_ms"] / 2 <= found.ttft_s * 1e3 <= loop["mean_ttft_ms"]
            seen += 1
    assert seen == 2


def test_two_gpus_in_one_host_were_never_fitted():
    """Tensor parallelism over NVLink: single steps and closed loops within the aims that hold for one GPU."""
    found = pair()
    assert {sample.layout.tensor_parallel_size for sample in found} == {2}
    for phase, aim in (("decode", 0.05), ("prefill", 0.08)):
        sizes = [abs(error) for sample in found for error in sample.errors(phase)]
        print(f"two GPUs, {phase}: median {median(sizes):.1%}, worst {max(sizes):.1%} of {len(sizes)}")
        assert median(sizes) <= aim
    rates = []
    for sample in found:
        for loop in sample.document["loops"]:
            if "concurrency" in loop:
                rates.append(abs(sample.observed(loop).requests_per_s / loop["requests_per_s"] - 1))
    assert median(rates) <= 0.06
