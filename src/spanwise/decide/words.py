"""Figures as people read them, and why a candidate falls short as one coded sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.types import Reason

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.question import Candidate, Question
    from spanwise.estimate.layout import Layout


def gib(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / 2**30:.1f} GiB"


def gpus(count: int) -> str:
    """A number of GPUs."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def ms(seconds: float | None) -> str:
    """Seconds as milliseconds, or as seconds from ten of them on."""
    if seconds is None:
        return "growing without end"
    value = seconds * 1e3
    if value >= 10_000:
        return f"{seconds:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def three(value: float) -> str:
    """About three digits, never with an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two times with as many digits as it takes to tell them apart."""
    texts = ms(one), ms(other)
    for digits in range(2, 7):
        if texts[0] != texts[1]:
            break
        texts = f"{one * 1e3:.{digits}f} ms", f"{other * 1e3:.{digits}f} ms"
    return texts


def fabric_name(question: Question) -> str:
    """The fabric between nodes by its name in the catalogue."""
    fabric = question.fabric
    return "the fabric" if fabric is None else "the fabric given" if fabric.name == "inline" else fabric.name


def name_of(layout: Layout, replicas: int = 1) -> str:
    """A layout in words."""
    tensor, pipeline = layout.tensor_parallel_size, layout.pipeline_parallel_size
    parts = [f"TP={tensor}"] if tensor > 1 else []
    parts += [f"PP={pipeline}"] if pipeline > 1 else []
    parts += ["whole experts"] if layout.expert_parallel else []
    text = " x ".join(parts) or "one GPU"
    if layout.partition is not None:
        text += f" ({'+'.join(map(str, layout.partition))} layers)"
    if layout.nodes > 1:
        text += f" over {layout.nodes} nodes"
    return f"{replicas} replicas of {text}" if replicas > 1 else text


def in_flight_wanted(judge: Judge, candidate: Candidate) -> float:
    """Requests in flight per replica that the load would need if KV cache were no limit."""
    cut, memory = judge.cut(candidate.layout, candidate.batched_tokens)
    unlimited = type(memory)(memory.total, memory.usable, memory.activations, memory.reserve, memory.stages, 1 << 50)
    return judge.serve(cut, unlimited, candidate.batched_tokens, candidate.replicas).in_flight


def shortfall(judge: Judge, candidate: Candidate) -> Reason | None:
    """Why this candidate does not do what is asked; None where it does."""
    question, memory, layout = judge.question, candidate.memory, candidate.layout
    what = name_of(layout, candidate.replicas)
    stage = max(memory.stages, key=lambda item: item.weights)
    one = name_of(layout)
    if not memory.fits:
        return Reason(
            code="weights_do_not_fit",
            text=f"{one}: weights take {gib(stage.weights)} and working memory "
            f"{gib(memory.activations + memory.reserve)} per GPU; {question.gpu.name} offers {gib(memory.usable)} "
            f"({question.utilization:g} of {gib(memory.total)})",
            values={
                "weights_bytes_per_gpu": stage.weights,
                "activation_bytes_per_gpu": memory.activations,
                "reserve_bytes_per_gpu": memory.reserve,
                "usable_bytes": memory.usable,
            },
        )
    if memory.kv_capacity_tokens < question.max_model_len:
        return Reason(
            code="kv_cache_does_not_fit",
            text=f"{one}: beside weights of {gib(stage.weights)} per GPU the KV cache holds "
            f"{memory.kv_capacity_tokens} tokens, one request may need {question.max_model_len}",
            values={"kv_capacity_tokens": memory.kv_capacity_tokens, "kv_needed_tokens": question.max_model_len},
        )
    service, work = candidate.service, question.workload
    if service is None:
        return Reason(
            code="spares_leave_no_replica",
            text=f"{what}: {question.spares} spare replica{'s leave' if question.spares > 1 else ' leaves'} none to serve",
            values={"spares": question.spares},
        )
    if candidate.tier == 2:
        wanted = in_flight_wanted(judge, candidate)
        needed = round(wanted * work.tokens_per_request)
        if (
            needed > memory.kv_capacity_tokens
            and memory.kv_capacity_tokens // work.tokens_per_request < judge.max_sequences
        ):
            return Reason(
                code="kv_cache_does_not_fit",
                text=f"{what}: the load needs about {wanted:.0f} requests at once, {needed} tokens of KV cache per "
                f"replica; there is room for {memory.kv_capacity_tokens}",
                values={
                    "kv_capacity_tokens": memory.kv_capacity_tokens,
                    "kv_needed_tokens": needed,
                    "max_requests_per_s": service.max_requests_per_s * candidate.replicas,
                },
            )
        top = service.max_requests_per_s * candidate.replicas
        asked = f"{work.request_rate_per_s:g} requests/s" if work.request_rate_per_s else f"{work.concurrency} at once"
        return Reason(
            code="load_exceeds_capacity",
            text=f"{what}: saturates at {top:.2f} requests/s; {asked} asked is more than nine tenths of that",
            values={"max_requests_per_s": top, "request_rate_per_s": work.request_rate_per_s},
        )
    if candidate.tier == 1:
        goals, missed = question.objectives, []
        values: dict[str, float] = {}
        if goals.ttft_p95_ms is not None and (service.kept_ttft_p95_s or 0) * 1e3 > goals.ttft_p95_ms:
            missed.append(f"TTFT p95 {ms(service.kept_ttft_p95_s)} against {goals.ttft_p95_ms:g} ms")
            values |= {"ttft_p95_ms": (service.kept_ttft_p95_s or 0) * 1e3, "ttft_p95_ms_allowed": goals.ttft_p95_ms}
        if goals.tpot_p95_ms is not None and service.tpot_p95_s * 1e3 > goals.tpot_p95_ms:
            missed.append(f"TPOT p95 {ms(service.tpot_p95_s)} against {goals.tpot_p95_ms:g} ms")
            values |= {"tpot_p95_ms": service.tpot_p95_s * 1e3, "tpot_p95_ms_allowed": goals.tpot_p95_ms}
        return Reason(code="objective_missed", text=f"{what}: {', '.join(missed)}", values=values)
    return None
