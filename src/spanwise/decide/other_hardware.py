"""What other hardware or other bits would do: a larger GPU, a smaller one, a smaller format, more GPUs, a shorter context."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.candidates import Judge
from spanwise.decide.rejection import entry
from spanwise.decide.types import Reason, Rejected
from spanwise.decide.words import gib, gpus, name_of, shortfall
from spanwise.estimate.layout import Layout
from spanwise.facts.dtypes import weight_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanwise.decide.codes import RejectedCode
    from spanwise.decide.question import Candidate, Question
    from spanwise.facts.book import FactBook, GpuFacts


def larger_gpu(judge: Judge, best: Candidate | None, book: FactBook) -> list[Rejected]:
    """One GPU of a larger kind, where the choice takes several per replica."""
    if best is not None and best.layout.world_size == 1:
        return []
    found = one_larger_gpu(judge, book)
    if found is None:
        return []
    other, candidate = found
    gpu = other.question.gpu
    count = candidate.replicas
    if count == 1:
        does = " and does what is asked" if candidate.tier == 0 else ", but does not do all that is asked"
    else:
        does = (
            f"; {count} replicas do what is asked"
            if candidate.tier == 0
            else f"; not even {count} replicas do all that is asked"
        )
    text = f"one {gpu.name} with {gib(gpu.memory.value)} holds the model whole{does}; the intent names {judge.question.gpu.name}"
    return [entry(other, candidate, role="one_larger_gpu", code="one_larger_gpu", text=text, gpu=gpu.name)]


def one_larger_gpu(judge: Judge, book: FactBook) -> tuple[Judge, Candidate] | None:
    """The smallest catalogue GPU that holds the model whole and, one per GPU at hand, carries the load."""
    question = judge.question
    fallback = None
    for gpu in book.larger_gpus(question.gpu.memory.value, question.gpu.vendor):
        other = Judge(_on(question, gpu, gpus_per_node=question.gpus_per_node, nodes=question.nodes))
        candidate = other.judge(Layout(1, 1, question.gpus_per_node))
        if candidate.tier == 0:
            return other, candidate
        if candidate.tier < 3 and fallback is None:
            fallback = (other, candidate)
    return fallback


def _on(question: Question, gpu: GpuFacts, *, gpus_per_node: int = 1, nodes: int = 1) -> Question:
    return replace(question, gpu=gpu, gpus_per_node=gpus_per_node, nodes=nodes, spares=0)


def smaller_gpu(judge: Judge, book: FactBook) -> list[Rejected]:
    """The next smaller kind of GPU, one of them, for the same load."""
    held = judge.question.gpu
    smaller = [
        gpu
        for gpu in book.larger_gpus(0, held.vendor)
        if gpu.memory.value < held.memory.value
        and not gpu.name.startswith("lab-")
        and _is_cheaper(gpu, held, judge.question.prices)
    ]
    if not smaller:
        return []
    other = Judge(_on(judge.question, smaller[-1]))
    candidate = other.judge(Layout(1, 1, 1), 1)
    short = shortfall(other, candidate)
    code: RejectedCode = "smaller_gpu_would_do"
    if short is None:
        text = f"one {smaller[-1].name} would do what is asked; it is not what the intent names"
    else:
        code, text = short.code, f"on one {smaller[-1].name}: {short.text}"
    return [
        entry(
            other,
            candidate,
            role="nearest_cheaper",
            code=code,
            text=text,
            values=short.values if short else {},
            gpu=smaller[-1].name,
        )
    ]


def _is_cheaper(gpu: GpuFacts, than: GpuFacts, prices: Mapping[str, float]) -> bool:
    """By price where both have one; else only what is nowhere faster: less memory alone makes no GPU cheaper."""
    if gpu.name in prices and than.name in prices:
        return prices[gpu.name] < prices[than.name]
    return gpu.memory_bandwidth.value <= than.memory_bandwidth.value and gpu.bf16_flops.value <= than.bf16_flops.value


def fewer_bits(judge: Judge, best: Candidate | None) -> list[Rejected]:
    """The first smaller format that needs fewer GPUs, or that makes it possible at all."""
    question = judge.question
    for name in ("fp8", "int4"):
        fewer = weight_format(name)
        if fewer.linear_bits >= question.weights.linear_bits or question.weights.quantised:
            continue
        other = Judge(replace(question, weights=fewer))
        candidate = other.best()
        if candidate is None or (best is not None and (candidate.tier, candidate.gpus) >= (best.tier, best.gpus)):
            continue
        how = "vLLM makes it while loading" if fewer.on_the_fly else "needs a checkpoint in that format"
        if name == "fp8" and question.gpu.fp8_flops is None:
            how += f"; {question.gpu.name} has no fp8 units, so it saves memory only"
        instead = (
            ""
            if best is None
            else " as now, but more of what is asked"
            if candidate.gpus == best.gpus
            else f" instead of {best.gpus}"
        )
        text = f"{name}: {name_of(candidate.layout, candidate.replicas)}, {gpus(candidate.gpus)}{instead}; {how}. "
        text += "Check the quality"
        return [entry(other, candidate, role="fewer_bits", code="fewer_bits", text=text)]
    return []


def feasible_by(judge: Judge, book: FactBook) -> list[Reason]:
    """What would make an infeasible intent feasible: more GPUs, a larger GPU, fewer bits, a shorter context."""
    question, reasons = judge.question, []
    more = _more_gpus(judge, book)
    if more is not None:
        reasons.append(more)
    found = one_larger_gpu(judge, book)
    if found is not None:
        name = found[0].question.gpu.name
        reasons.append(Reason(code="feasible_with_larger_gpu", text=f"it fits one {name}", values={"gpu": name}))
    for name in ("fp8", "int4"):
        fewer = weight_format(name)
        if fewer.linear_bits < question.weights.linear_bits and not question.weights.quantised:
            candidate = Judge(replace(question, weights=fewer)).best()
            if candidate is not None:
                reasons.append(
                    Reason(
                        code="feasible_with_fewer_bits",
                        text=f"it fits in {name} with {name_of(candidate.layout)}",
                        values={"dtype": name, "gpus": candidate.layout.world_size},
                    )
                )
                break
    need = question.workload.tokens_per_request
    if need < question.max_model_len and Judge(replace(question, max_model_len=need)).best() is not None:
        reasons.append(
            Reason(
                code="feasible_with_shorter_context",
                text=f"it fits with max_model_len {need}, the length of one request as stated",
                values={"max_model_len": need},
            )
        )
    return reasons


def _more_gpus(judge: Judge, book: FactBook) -> Reason | None:
    """The fewest GPUs of the same kind that hold the model: up to eight per node, then more nodes."""
    question = judge.question
    shapes = [(count, 1) for count in (2, 4, 8) if count > question.gpus_per_node and question.gpu.link is not None]
    per_node = max(question.gpus_per_node, shapes[-1][0] if shapes else 1)
    shapes += [(per_node, nodes) for nodes in (2, 4, 8, 16, 32) if nodes > question.nodes and per_node * nodes <= 256]
    # Whether it fits does not depend on the fabric; any known one lets layouts over nodes be built.
    fabric = question.fabric or book.fabric("ethernet-100g")
    for count, nodes in shapes:
        found = Judge(replace(question, gpus_per_node=count, nodes=nodes, fabric=fabric)).best()
        if found is not None:
            where = "one node" if nodes == 1 else f"{nodes} nodes"
            return Reason(
                code="feasible_with_more_gpus",
                text=f"it fits {where} of {count} x {question.gpu.name} ({name_of(found.layout)})",
                values={"gpus_per_node": count, "nodes": nodes, "gpus": found.layout.world_size},
            )
    return None
