"""Intent + model facts + facts -> Verdict. One verb; the parts stand beside this module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spanwise.decide.alternatives import rejected
from spanwise.decide.balance import balanced
from spanwise.decide.balance import reason as uneven_stages
from spanwise.decide.candidates import Judge
from spanwise.decide.experts import reason as whole_experts
from spanwise.decide.failure import HOST_AVAILABILITY, failure
from spanwise.decide.figures import budget, predicted, used_facts
from spanwise.decide.flips import flips
from spanwise.decide.nearest import closest, widest_inside
from spanwise.decide.other_hardware import feasible_by
from spanwise.decide.over_nodes import crosses
from spanwise.decide.pareto import points
from spanwise.decide.question import Candidate, Question, context_length
from spanwise.decide.spares import too_many_spares
from spanwise.decide.types import (
    Chosen,
    PinnedLayout,
    Reason,
    Span,
    Verdict,
)
from spanwise.decide.words import gib, name_of, shortfall
from spanwise.decide.worth import worth
from spanwise.errors import FactsError, IntentError, LayoutError, ModelError
from spanwise.estimate.layout import Layout, check_layout, needs_whole_experts
from spanwise.facts import catalogue
from spanwise.facts.book import FactBook
from spanwise.facts.dtypes import WeightFormat, weight_format

if TYPE_CHECKING:
    from spanwise.facts.model import ModelFacts
    from spanwise.intent.types import Intent

_FOUR_BIT = ("int4", "awq", "gptq")


def decide(
    intent: Intent, model: ModelFacts, facts: FactBook | None = None, *, pinned: PinnedLayout | None = None
) -> Verdict:
    """Is spreading this model justified, and how?

    Args:
        intent: What is asked.
        model: The model's facts (:func:`spanwise.facts.architectures.model_facts`).
        facts: GPUs and links; the catalogue where None.
        pinned: A layout to use whatever the judgement says; the verdict then says that it was forced.

    Raises:
        FactsError: The GPU or fabric is unknown or not completely described.
        IntentError: The request does not fit into the model's context.
        ModelError: The dtype asked contradicts the checkpoint.
        LayoutError: The pinned layout is one that the model or the hardware forbids.
    """
    question = ask(intent, model, facts or FactBook())
    judge = Judge(question)
    best = judge.best_confirmed()
    if best is not None:
        best = balanced(judge, best)
    if pinned is not None and _pins(pinned):
        return _forced(judge, best, pinned, facts or FactBook())
    if best is None:
        return _infeasible(judge, facts or FactBook())
    reasons = _why(judge, best)
    justified = best.layout.world_size > 1 or best.replicas > 1
    return _verdict(judge, best, justified=justified, reasons=reasons, book=facts or FactBook())


def ask(intent: Intent, model: ModelFacts, facts: FactBook) -> Question:
    """Resolve the intent's names to facts; refuse what contradicts the model.

    Raises:
        FactsError, IntentError, ModelError: As in :func:`decide`.
    """
    need, longest = intent.workload.tokens_per_request, model.max_position
    if longest is not None and need > longest:
        raise IntentError(
            f"one request has {need} tokens, {model.name} holds at most {longest}",
            where="workload.input_tokens + output_tokens",
            remedy="shorten the requests, or choose a model with a longer context",
        )
    if intent.max_model_len is not None and longest is not None and intent.max_model_len > longest:
        raise IntentError(
            f"max_model_len is {intent.max_model_len}, {model.name} holds at most {longest}",
            where="max_model_len",
            remedy=f"use at most {longest}",
        )
    hardware = intent.hardware
    gpu = facts.gpu(hardware.gpu)
    if gpu.link is None and hardware.gpus_per_node > 1:
        raise FactsError(
            f"nothing is known about the link between the {hardware.gpus_per_node} GPUs of a node",
            where="hardware.gpu.interconnect",
            remedy="name it, for example `interconnect: pcie-4` or `nvlink-4`",
        )
    _check_prices(intent, gpu.name, facts)
    return Question(
        model=model,
        weights=served_format(intent.dtype, model),
        gpu=gpu,
        gpus_per_node=hardware.gpus_per_node,
        nodes=hardware.nodes,
        fabric=None if hardware.fabric is None else facts.fabric(hardware.fabric),
        workload=intent.workload,
        objectives=intent.objectives,
        max_model_len=context_length(intent.max_model_len, need, longest),
        max_model_len_stated=intent.max_model_len is not None,
        utilization=intent.gpu_memory_utilization,
        spares=intent.spares,
        host_availability=hardware.host_availability or HOST_AVAILABILITY,
        today=intent.today,
        prices=intent.prices_per_gpu_hour or {},
    )


def _check_prices(intent: Intent, gpu: str, facts: FactBook) -> None:
    """Refuse a price of what nobody knows: it would silently price nothing.

    Raises:
        IntentError: The GPU that it names is neither the intent's, nor today's, nor of the catalogue or the facts file.
    """
    known = {gpu, *catalogue.gpus(), *(fact.name.rpartition(".")[0] for fact in facts.overrides)}
    known |= set() if intent.today is None else {intent.today.gpu}
    odd = [name for name in intent.prices_per_gpu_hour or {} if name not in known]
    if odd:
        raise IntentError(
            f"prices {odd[0][:80]!r}, a GPU that nothing here names",
            where="prices_per_gpu_hour",
            remedy=f"price {gpu} (hardware.gpu), today.gpu, or a GPU of the catalogue",
        )


def served_format(asked: str | None, model: ModelFacts) -> WeightFormat:
    """The precision the engine serves: what was asked, or the checkpoint's own.

    Raises:
        ModelError: The checkpoint is quantised otherwise, or the dtype is unknown.
    """
    held = model.weight_format
    if asked is None or asked == held.name:
        return held
    if asked in _FOUR_BIT and held.name in _FOUR_BIT:
        return held
    if held.quantised:
        raise ModelError(
            f"the checkpoint of {model.name} is {held.name}, it cannot be served as {asked}",
            where="dtype",
            remedy="leave dtype out, or name a checkpoint in that precision",
        )
    return weight_format(asked)


def _span(layout: Layout) -> Span:
    if layout.world_size == 1:
        return "one_gpu"
    return "one_node" if layout.nodes == 1 else "multi_node"


def _why(judge: Judge, best: Candidate) -> tuple[Reason, ...]:
    """Why the next smaller spans do not do, then what the choice itself leaves open."""
    question, layout = judge.question, best.layout
    reasons: list[Reason] = []
    for smaller in _smaller_spans(judge, layout):
        short = shortfall(judge, smaller)
        if short is None:
            short = Reason(
                code="fewer_gpus_than_replicas",
                text=f"{name_of(smaller.layout, smaller.replicas)} would do as well, "
                f"with {smaller.gpus} GPUs instead of {best.gpus}",
                values={"gpus_smaller_span": smaller.gpus, "gpus": best.gpus},
            )
        reasons.append(short)
    if layout.world_size == 1:
        memory = best.memory
        reasons.append(
            Reason(
                code="fits_one_gpu",
                text=f"weights of {gib(memory.stages[0].weights)} fit one {question.gpu.name} "
                f"({gib(memory.usable)} usable) and leave {memory.kv_capacity_tokens} tokens of KV cache",
                values={
                    "weights_bytes_per_gpu": memory.stages[0].weights,
                    "usable_bytes": memory.usable,
                    "kv_capacity_tokens": memory.kv_capacity_tokens,
                },
            )
        )
        if best.replicas > 1:
            reasons.append(_replicas(judge, best))
    elif best.replicas > 1:
        reasons.append(_replicas(judge, best))
    open_end = shortfall(judge, best)
    if open_end is not None:
        reasons.append(
            Reason(
                code="not_enough_hardware",
                text=f"nothing on {question.gpus} x {question.gpu.name} does all that is asked; "
                f"the closest: {open_end.text}",
                values={"cause": open_end.code, **open_end.values},
            )
        )
    return tuple(reasons)


def _replicas(judge: Judge, best: Candidate) -> Reason:
    single = judge.judge(best.layout, 1)
    short = shortfall(judge, single)
    text = f"{best.replicas} replicas instead of a wider split"
    return Reason(
        code="replicas_instead_of_splitting",
        text=f"{text}: {short.text}" if short else text,
        values={"replicas": best.replicas, **({} if short is None else short.values)},
    )


def _smaller_spans(judge: Judge, layout: Layout) -> list[Candidate]:
    """The best candidate of each span below that of ``layout``."""
    question, found = judge.question, []
    if layout.world_size > 1:
        found.append(judge.judge(Layout(1, 1, question.gpus_per_node)))
    if layout.nodes > 1 and question.gpus_per_node > 1:
        inside = replace(question, nodes=1)
        best = Judge(inside).best()
        best = widest_inside(judge) if best is None else judge.judge(best.layout)
        if best is not None and best.layout.world_size > 1:
            found.append(best)
    return found


def _verdict(
    judge: Judge, best: Candidate, *, justified: bool, reasons: tuple[Reason, ...], book: FactBook, forced: bool = False
) -> Verdict:
    question, layout = judge.question, best.layout
    per_node = max(1, question.gpus_per_node // layout.world_size)
    nodes = -(-best.replicas // per_node) if layout.nodes == 1 else best.replicas * layout.nodes
    chosen = Chosen(
        tensor_parallel_size=layout.tensor_parallel_size,
        pipeline_parallel_size=layout.pipeline_parallel_size,
        replicas=best.replicas,
        nodes=nodes,
        gpus=best.gpus,
        dtype=question.weights.name,
        gpu_memory_utilization=question.utilization,
        max_model_len=question.max_model_len,
        max_num_batched_tokens=best.batched_tokens,
        stage_layers=layout.stage_layers(question.model.layers),
        expert_parallel=layout.expert_parallel,
    )
    figures = predicted(judge, best)
    moving = None if figures is None else worth(question, best, figures)
    pareto, off_front = points(judge, best)
    own = (whole_experts(judge, best), uneven_stages(judge, best), moving, off_front)
    more = tuple(reason for reason in own if reason is not None)
    return Verdict(
        verdict=_span(layout),
        justified=justified,
        reasons=(*reasons, *more),
        chosen=chosen,
        memory=budget(judge, best),
        predicted=figures,
        failure=failure(question, best),
        flips=() if forced else flips(judge, best),
        rejected=rejected(judge, best, book, forced=forced),
        facts=used_facts(question),
        pareto=pareto,
    )


def _infeasible(judge: Judge, book: FactBook) -> Verdict:

    question = judge.question
    near = closest(judge)
    spares = None if question.spares == 0 else too_many_spares(judge)
    if spares is not None:
        # The hardware holds the model: nothing else is missing, and no other hardware is looked for.
        reason, near = spares
        return Verdict(
            verdict="infeasible",
            justified=False,
            reasons=(reason,),
            chosen=None,
            memory=budget(judge, near),
            predicted=None,
            facts=used_facts(question),
        )
    short = shortfall(judge, near)
    reasons = [] if short is None else [short]
    reasons.append(
        Reason(
            code="no_layout_fits",
            text=f"no valid layout on {question.gpus} x {question.gpu.name} serves {question.model.name} in "
            f"{question.weights.name} with {question.max_model_len} tokens of context",
            values={
                "gpus": question.gpus,
                "weights_bytes": question.model.weights_bytes(question.weights),
                "usable_bytes_all_gpus": near.memory.usable * question.gpus,
            },
        )
    )
    reasons += feasible_by(judge, book)
    return Verdict(
        verdict="infeasible",
        justified=False,
        reasons=tuple(reasons),
        chosen=None,
        memory=budget(judge, near),
        predicted=None,
        flips=flips(judge, None),
        rejected=rejected(judge, None, book),
        facts=used_facts(question),
    )


def _pins(pinned: PinnedLayout) -> bool:
    return any(
        size is not None for size in (pinned.tensor_parallel_size, pinned.pipeline_parallel_size, pinned.replicas)
    )


def _forced(judge: Judge, best: Candidate | None, pinned: PinnedLayout, book: FactBook) -> Verdict:
    question = judge.question
    per_node = question.gpus_per_node
    if pinned.tensor_parallel_size is None and pinned.pipeline_parallel_size is None and best is not None:
        layout = replace(best.layout, partition=None)
    else:
        sizes = (pinned.tensor_parallel_size, pinned.pipeline_parallel_size)
        tensor, pipeline = (1 if size is None else size for size in sizes)
        layout = Layout(tensor, pipeline, per_node, expert_parallel=needs_whole_experts(question.model, tensor))
    check_layout(question.model, layout)
    replicas = 1 if pinned.replicas is None else pinned.replicas
    if replicas < 1:
        raise LayoutError(f"replicas is {replicas}", where="replicas", remedy="give at least 1")
    room = layout.replicas_on(question.nodes)
    if replicas > room:
        raise LayoutError(
            f"{replicas} x {name_of(layout)} needs {replicas * layout.world_size} GPUs, placed as whole stages; "
            f"there are {question.nodes} nodes with {per_node} each, which hold {room}",
            where="tensor_parallel_size x pipeline_parallel_size x replicas",
            remedy="ask for less, or for more nodes in the intent's hardware",
        )
    candidate = judge.confirm(judge.judge(layout, replicas))
    said = "infeasible" if best is None else f"{_span(best.layout)} ({name_of(best.layout, best.replicas)})"
    asked = name_of(layout, replicas)
    forced = Reason(
        code="layout_forced_by_user",
        text=f"{asked} was asked for; without that the verdict is {said}",
        values={
            "tensor_parallel_size": layout.tensor_parallel_size,
            "pipeline_parallel_size": layout.pipeline_parallel_size,
            "replicas": replicas,
            "unforced_verdict": "infeasible" if best is None else _span(best.layout),
        },
    )
    short = shortfall(judge, candidate)
    if candidate.service is None:
        return Verdict(
            verdict="infeasible",
            justified=False,
            reasons=(forced, *(() if short is None else (short,))),
            chosen=None,
            memory=budget(judge, candidate),
            predicted=None,
            rejected=rejected(judge, best, book) if best else (),
            facts=used_facts(question),
        )
    reasons = [forced]
    sizes_of_best = None if best is None else replace(best.layout, partition=None)
    same = best is not None and (sizes_of_best, best.replicas) == (layout, replicas)
    if best is not None and not same:
        do = "does" if best.replicas == 1 else "do"
        reasons.append(
            Reason(
                code="smaller_span_is_enough" if best.gpus < candidate.gpus else "another_layout_is_better",
                text=f"{name_of(best.layout, best.replicas)} {do} what is asked"
                if best.tier == 0
                else f"{name_of(best.layout, best.replicas)} comes closer to what is asked",
                values={"gpus": best.gpus},
            )
        )
    if short is not None:
        reasons.append(short)
    slowed = crosses(judge, candidate, best)
    if slowed is not None:
        reasons.append(slowed)
    justified = same and best is not None and (best.layout.world_size > 1 or best.replicas > 1)
    return _verdict(judge, candidate, justified=justified, reasons=tuple(reasons), book=book, forced=True)
