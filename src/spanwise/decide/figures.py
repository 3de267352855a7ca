"""A judged candidate in the verdict's figures: memory, predictions with ranges, facts used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.types import MemoryBudget, Predicted, StageBudget
from spanwise.estimate.rates import CASES, rates

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.codes import CaveatCode
    from spanwise.decide.question import Candidate, Question
    from spanwise.estimate.serving import Service
    from spanwise.facts.book import GpuFacts
    from spanwise.facts.fact import Fact


# tests/unit/decide/test_caveats.py holds these against docs/accuracy.md, engines.yaml and the project's pins.
_MEASURED_ENGINE = "vLLM 0.24"
_PLANNED_ENGINE = "vLLM 0.32"
_TTFT_TOO_LOW = "21 to 47"


def budget(judge: Judge, candidate: Candidate) -> MemoryBudget:
    """The memory of one replica; figures of the tightest stage."""
    memory, work = candidate.memory, judge.question.workload
    tight = memory.tightest
    in_flight = 0.0 if candidate.service is None else candidate.service.in_flight
    return MemoryBudget(
        gpu_memory_bytes=memory.total,
        usable_bytes=memory.usable,
        weights_bytes_per_gpu=tight.weights,
        activation_bytes_per_gpu=memory.activations,
        reserve_bytes_per_gpu=memory.reserve,
        kv_bytes_per_gpu=max(0, memory.usable - memory.activations - memory.reserve - tight.weights),
        kv_bytes_per_token_per_gpu=tight.kv_per_token,
        kv_capacity_tokens=memory.kv_capacity_tokens,
        kv_needed_tokens=max(judge.question.max_model_len, round(max(1.0, in_flight) * work.tokens_per_request)),
        stages=tuple(
            StageBudget(
                index=index,
                first_layer=stage.first_layer,
                end_layer=stage.end_layer,
                weights_bytes_per_gpu=stage.weights,
                kv_bytes_per_token_per_gpu=stage.kv_per_token,
            )
            for index, stage in enumerate(memory.stages)
        ),
    )


def predicted(judge: Judge, candidate: Candidate) -> Predicted | None:
    """What the candidate does; ranges from taking every rate at its best and at its worst.

    The chosen layout is replayed; the formulas answer for the others and for the ends of the ranges, corrected by what that replay found.
    """
    question = judge.question
    if candidate.service is None:
        return None
    cut, memory = judge.cut(candidate.layout, candidate.batched_tokens)
    cases: list[Service] = [candidate.service]
    for case in CASES[1:]:
        used = rates(question.gpu, question.fabric, question.weights, case)
        cases.append(judge.serve(cut, memory, candidate.batched_tokens, candidate.replicas, used))
    expected = cases[0]
    count, out = candidate.replicas, question.workload.output_tokens
    busy = judge.busy(count)

    def spread(values: list[float | None], scale: float) -> tuple[float, float] | None:
        known = [value * scale for value in values if value is not None]
        return (min(known), max(known)) if len(known) == len(values) else None

    ranges = {
        "ttft_ms": spread([item.ttft_s for item in cases], 1e3),
        "ttft_p95_ms": spread([item.ttft_p95_s for item in cases], 1e3),
        "steady_ttft_p95_ms": spread([item.steady_ttft_p95_s for item in cases], 1e3),
        "tpot_ms": spread([item.tpot_s for item in cases], 1e3),
        "tpot_p95_ms": spread([item.tpot_p95_s for item in cases], 1e3),
        "output_tokens_per_s": spread([item.requests_per_s for item in cases], busy * out),
        "requests_per_s": spread([item.requests_per_s for item in cases], busy),
        "max_requests_per_s": spread([item.max_requests_per_s for item in cases], count),
    }
    for mean, tail in (("ttft_ms", "ttft_p95_ms"), ("tpot_ms", "tpot_p95_ms")):
        if (low := ranges[mean]) is not None and (high := ranges[tail]) is not None:
            ranges[tail] = (
                max(low[0], high[0]),
                max(low[1], high[1]),
            )  # no percentile of the same load lies below its mean
    caveats = [_caveat("model_is_approximated", said) for said in question.model.caveats]
    # A GPU that was not measured has all of them assumed; one that was may still have an overhead that only several of them would show.
    if question.gpu.engine["sixteen"]["memory_efficiency"].kind == "assumption":
        caveats.append(
            _caveat(
                "engine_not_measured_on_this_gpu",
                "the engine's efficiency was measured on one H200 and one H100; "
                f"on {question.gpu.name} it is an assumption",
            )
        )
    if any(_MEASURED_ENGINE in fact.source for fact in question.gpu.engine["sixteen"].values()):
        caveats.append(
            _caveat(
                "engine_version_not_measured",
                f"the engine's efficiency was measured with {_MEASURED_ENGINE}; plans are made for {_PLANNED_ENGINE}",
            )
        )
    if question.workload.request_rate_per_s is not None and question.gpu.cuda:
        caveats.append(
            _caveat(
                "request_rate_ttft_too_low",
                f"under Poisson arrivals TTFT was predicted {_TTFT_TOO_LOW} % too low in four loads measured on H200 and H100",
            )
        )
    if question.workload.concurrency is not None:
        caveats.append(
            _caveat(
                "closed_loop_counts_first_burst",
                "a closed loop's figures count three rounds with their first burst; steady_* and objectives leave it out",
            )
        )
    if candidate.layout.world_size > 1:
        caveats.append(
            _caveat(
                "several_gpus_not_measured",
                "of layouts of several GPUs only pairs of H100 over NVLink were measured; collectives follow NCCL's model"
                + (_PIPELINES if candidate.layout.pipeline_parallel_size > 1 else ""),
            )
        )
    caveats += _about_objectives(question, ranges)
    if any(not item.sustained for item in cases[1:]) and expected.sustained:
        caveats.append(_caveat("worst_case_not_sustained", "in the worst case of the range the load is not sustained"))
    if not expected.sustained:
        caveats.append(
            _caveat(
                "load_near_saturation",
                "the load is above the saturation point less a tenth: the queue grows, or is long",
            )
        )
    per_gpu = question.prices.get(question.gpu.name)
    price = None if per_gpu is None else per_gpu * candidate.gpus
    return Predicted(
        ttft_ms=None if expected.ttft_s is None else expected.ttft_s * 1e3,
        ttft_p95_ms=None if expected.ttft_p95_s is None else expected.ttft_p95_s * 1e3,
        tpot_ms=expected.tpot_s * 1e3,
        tpot_p95_ms=expected.tpot_p95_s * 1e3,
        output_tokens_per_s=expected.requests_per_s * busy * out,
        requests_per_s=expected.requests_per_s * busy,
        max_requests_per_s=expected.max_requests_per_s * count,
        concurrency=expected.in_flight * busy,
        steady_ttft_ms=None if expected.steady_ttft_s is None else expected.steady_ttft_s * 1e3,
        steady_ttft_p95_ms=None if expected.steady_ttft_p95_s is None else expected.steady_ttft_p95_s * 1e3,
        steady_tpot_ms=None if expected.steady_tpot_s is None else expected.steady_tpot_s * 1e3,
        preemptions=expected.preemptions * count,
        cost_per_hour=price,
        cost_per_million_output_tokens=None
        if price is None
        else price / 3600 / (expected.requests_per_s * busy * out) * 1e6,
        uncertainty={key: value for key, value in ranges.items() if value is not None},
        caveats=tuple(caveats),
    )


# docs/accuracy.md, "A pipeline over two H100 of one host".
_PIPELINES = "; a pipeline of two carried 6 to 30 % fewer requests than predicted"


def _about_objectives(question: Question, ranges: dict[str, tuple[float, float] | None]) -> list[str]:
    """That none was stated, or that one may be missed though it is kept as expected."""
    goals = question.objectives
    stated = {"ttft_p95_ms": goals.ttft_p95_ms, "tpot_p95_ms": goals.tpot_p95_ms}
    if not any(stated.values()):
        return [
            _caveat(
                "no_objective_stated",
                "no objective was given, so the fewest GPUs that carry the load were chosen; state objectives "
                "(ttft_p95_ms, tpot_p95_ms) for a service that people wait for",
            )
        ]
    found = []
    for name, goal in stated.items():
        # In a closed loop an objective is held against service after the first burst.
        span = ranges[f"steady_{name}"] or ranges[name] if name == "ttft_p95_ms" else ranges[name]
        if goal is not None and span is not None and span[0] <= goal < span[1]:
            what = name.removesuffix("_ms").replace("_", " ").upper().replace("P95", "p95")
            text = f"{what} may reach {span[1]:.4g} ms, {goal:g} ms are asked for: it is not certain to be kept"
            found.append(_caveat("objective_within_the_range", text))
    return found


def _caveat(code: CaveatCode, text: str) -> str:
    return f"{code}: {text}"


def used_facts(question: Question) -> tuple[Fact, ...]:
    """Every fact the verdict rests on."""
    gpu: GpuFacts = question.gpu
    found = list(gpu.facts)
    if gpu.link is not None and question.gpus_per_node > 1:
        found += gpu.link.facts
    if question.fabric is not None:
        found += question.fabric.facts
    eight_bit = question.weights.fp8_math and gpu.fp8_flops is not None
    return (*found, *gpu.engine["eight" if eight_bit else "sixteen"].values())
