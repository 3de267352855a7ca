"""The estimate against vLLM on real GPUs: single steps (fitted), KV capacity, and loads (never fitted)."""

from __future__ import annotations

from statistics import median

import pytest

from spanwise.estimate.memory import replica_memory
from spanwise.estimate.points import Point, answer
from spanwise.estimate.serving import Load, observe
from tests.unit.estimate.measured import ONE, Measured, ours, reference

OURS, REFERENCE = ours(), reference()
ALL = [*OURS, *REFERENCE]
BATCHED = 8192
# One host's short fp8 prompts took 12.5 ms at any length (launch-bound on that machine); the error there is reported, not fitted away.
SLOW_HOST = "llama-3-8b-fp8-H100-80GB-SXM"


def errors(sample: Measured, phase: str) -> list[float]:
    picked = [p for p in sample.document["points"] if p["phase"] == phase and (phase == "decode" or p["batch"] == 1)]
    points = [Point(**{k: p[k] for k in ("phase", "batch", "context_tokens", "new_tokens")}) for p in picked]
    answers = answer(
        points,
        model=sample.model,
        weights=sample.weights,
        gpu=sample.gpu,
        fabric=None,
        layout=ONE,
        batched_tokens=BATCHED,
    )
    return [found.time_ms / point["time_ms"] - 1 for found, point in zip(answers, picked, strict=True)]


def test_the_measurements_are_there():
    assert len(OURS) >= 9
    assert len({sample.gpu.name for sample in OURS}) == 2


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_decode_steps(sample):
    found = [abs(error) for error in errors(sample, "decode")]
    assert median(found) <= 0.05
    assert max(found) <= 0.13


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_prefill(sample):
    found = [abs(error) for error in errors(sample, "prefill")]
    assert median(found) <= (0.17 if sample.label == SLOW_HOST else 0.08)


def test_most_points_lie_in_their_range():
    inside = total = 0
    for sample in ALL:
        picked = [p for p in sample.document["points"] if p["phase"] == "decode" or p["batch"] == 1]
        points = [Point(**{k: p[k] for k in ("phase", "batch", "context_tokens", "new_tokens")}) for p in picked]
        answers = answer(
            points,
            model=sample.model,
            weights=sample.weights,
            gpu=sample.gpu,
            fabric=None,
            layout=ONE,
            batched_tokens=BATCHED,
        )
        for found, point in zip(answers, picked, strict=True):
            low, high = found.uncertainty
            inside += low <= point["time_ms"] <= high
            total += 1
    assert inside / total >= 0.95


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.label)
def test_kv_capacity_within_two_percent(sample):
    memory = replica_memory(
        sample.model,
        sample.weights,
        ONE,
        gpu_memory_bytes=sample.gpu.memory.value,
        utilization=0.9,
        batched_tokens=BATCHED,
        max_sequences=1024,
    )
    assert memory.kv_capacity_tokens == pytest.approx(sample.document["kv_capacity_tokens"], rel=0.02)


def test_closed_loops():
    """All requests counted, as measured; the loops were never fitted."""
    ttft, tpot, rate = [], [], []
    for sample in ALL:
        for loop in sample.document["loops"]:
            if "concurrency" not in loop:
                continue
            full = loop["concurrency"] * (loop["input_tokens"] + loop["output_tokens"])
            load = Load(
                input_tokens=loop["input_tokens"], output_tokens=loop["output_tokens"], concurrency=loop["concurrency"]
            )
            found = observe(
                sample.rates,
                sample.cut,
                load,
                kv_capacity_tokens=sample.document["kv_capacity_tokens"],
                batched_tokens=BATCHED,
                max_sequences=1024,
            )
            ttft.append(abs(found.ttft_s * 1e3 / loop["mean_ttft_ms"] - 1))
            tpot.append(abs(found.tpot_s * 1e3 / loop["mean_tpot_ms"] - 1))
            rate.append(abs(found.requests_per_s / loop["requests_per_s"] - 1))
            # Past the KV limit requests wait; nothing is refused.
            over = full > sample.document["kv_capacity_tokens"]
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
            load = Load(
                input_tokens=loop["input_tokens"],
                output_tokens=loop["output_tokens"],
                rate_per_s=loop["request_rate_per_s"],
            )
            found = observe(
                sample.rates,
                sample.cut,
                load,
                kv_capacity_tokens=sample.document["kv_capacity_tokens"],
                batched_tokens=BATCHED,
                max_sequences=1024,
            )
            assert found.sustained
            assert found.tpot_s * 1e3 == pytest.approx(loop["mean_tpot_ms"], rel=0.25)
            assert loop["mean_ttft_ms"] / 2 <= found.ttft_s * 1e3 <= loop["mean_ttft_ms"]
            seen += 1
    assert seen == 2
