"""What was judged and not taken: the nearest cheaper and larger choice, splits over nodes, other hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spanwise.decide.candidates import Judge
from spanwise.decide.crossing import crossing
from spanwise.decide.figures import predicted
from spanwise.decide.question import Candidate, Question, layouts
from spanwise.decide.types import Predicted, Reason, Rejected
from spanwise.decide.words import gib, gpus, ms, name_of, shortfall
from spanwise.estimate.layout import Layout, fits_nodes, valid_tensor_parallel
from spanwise.facts.dtypes import weight_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanwise.decide.codes import RejectedCode
    from spanwise.facts.book import FactBook, GpuFacts


def rejected(judge: Judge, best: Candidate | None, book: FactBook) -> tuple[Rejected, ...]:
    """Every alternative worth naming, each with its code, sentence and figures."""
    found: list[Rejected] = []
    if best is not None:
        found += _cheaper(judge, best, book)
        found += _larger(judge, best)
        found += _over_nodes(judge, best)
    found += _larger_gpu(judge, best, book)
    found += _fewer_bits(judge, best)
    seen: set[tuple[Any, ...]] = set()
    unique = []
    for item in found:
        # One layout may be the answer to two questions; the more telling code (the first) stays.
        key = (item.tensor_parallel_size, item.pipeline_parallel_size, item.replicas, item.dtype, item.gpu)
        if key not in seen:
            seen.add(key)
            unique.append(item)
    return tuple(unique)


def _entry(
    judge: Judge,
    candidate: Candidate,
    *,
    role: str,
    code: RejectedCode,
    text: str,
    values: dict[str, Any] | None = None,
    gpu: str | None = None,
) -> Rejected:
    shown: Predicted | None = predicted(judge, candidate)
    return Rejected(
        tensor_parallel_size=candidate.layout.tensor_parallel_size,
        pipeline_parallel_size=candidate.layout.pipeline_parallel_size,
        replicas=candidate.replicas,
        dtype=judge.question.weights.name,
        code=code,
        text=text,
        role=role,
        gpu=gpu,
        values=values or {},
        predicted=shown,
    )


def _cheaper(judge: Judge, best: Candidate, book: FactBook) -> list[Rejected]:
    """The candidate that comes closest with fewer GPUs; for one GPU, the next smaller one."""
    if best.gpus == 1:
        return _smaller_gpu(judge, book)
    closest_: Candidate | None = None
    cheaper = [layout for layout in layouts(judge.question) if layout.world_size < best.gpus]
    for layout in [item for item in cheaper if judge.could_hold(item)] or _largest(cheaper):
        if layout.world_size >= best.gpus or (layout.nodes > 1 and best.layout.nodes == 1):
            continue
        count = min((best.gpus - 1) // layout.world_size, layout.replicas_on(judge.question.nodes))
        if count < 1:
            continue
        candidate = judge.judge(layout, count)
        if closest_ is None or _nearness(candidate) < _nearness(closest_):
            closest_ = candidate
    if closest_ is None:
        return []
    short = shortfall(judge, closest_)
    if short is None:
        text = f"{name_of(closest_.layout, closest_.replicas)} would do with fewer GPUs"
        return [_entry(judge, closest_, role="nearest_cheaper", code="not_what_was_asked", text=text)]
    return [_entry(judge, closest_, role="nearest_cheaper", code=short.code, text=short.text, values=short.values)]


def _largest(found: list[Layout], count: int = 8) -> list[Layout]:
    """The ``count`` layouts with the most ranks: of those that hold too little, the ones that miss by least."""
    return sorted(found, key=lambda item: item.world_size)[-count:]


def _nearness(candidate: Candidate) -> tuple[float, ...]:
    """How far from doing: what it achieves, what is missing to hold the model, then GPUs, KV cache and time."""
    memory, service = candidate.memory, candidate.service
    need = memory.activations + memory.reserve + max(stage.weights for stage in memory.stages)
    missing = float(max(0, need - memory.usable)) if service is None else 0.0
    time = 0.0 if service is None else service.tpot_s
    return (candidate.tier, candidate.badness, missing, -candidate.gpus, -memory.kv_capacity_tokens, time)


def _smaller_gpu(judge: Judge, book: FactBook) -> list[Rejected]:
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
        _entry(
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


def _larger(judge: Judge, best: Candidate) -> list[Rejected]:
    """The next larger replica, on the hardware at hand or on one node more of the same kind."""
    question = judge.question
    wider = question
    options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options:
        more = question.gpus_per_node * 2 if question.fabric is None and question.gpu.link is not None else None
        wider = (
            replace(question, gpus_per_node=more)
            if more is not None
            else replace(question, nodes=question.nodes + best.layout.nodes)
        )
        options = [item for item in layouts(wider) if item.world_size > best.layout.world_size]
    if not options:
        return []
    other = judge if wider is question else Judge(wider)
    smallest = min(item.world_size for item in options)
    same = [other.judge(item, 1) for item in options if item.world_size == smallest]
    candidate = min(same, key=lambda item: item.key)
    if best.service is None or candidate.service is None:
        short = shortfall(other, candidate)
        return (
            [] if short is None else [_entry(other, candidate, role="nearest_larger", code=short.code, text=short.text)]
        )
    faster = candidate.service.tpot_s < best.service.tpot_s
    note = "" if wider is question else " (more hardware than there is)"
    text = (
        f"{name_of(candidate.layout)}{note}: TPOT {ms(candidate.service.tpot_s)} against {ms(best.service.tpot_s)} "
        f"with {gpus(candidate.layout.world_size)} per replica instead of {best.layout.world_size}"
    )
    crosses = candidate.layout.nodes > 1 and best.layout.nodes == 1
    code: RejectedCode
    if best.tier == 0:
        code = "not_needed" if faster else ("slower_across_nodes" if crosses else "slower")
        text += "; what is asked is met without it" if faster else "; it costs more and is slower"
    else:
        short = shortfall(other, candidate)
        code = "larger_would_do" if short is None else short.code
        text = f"{text}; it would do what is asked" if short is None else short.text
    return [_entry(other, candidate, role="nearest_larger", code=code, text=text)]


def _over_nodes(judge: Judge, best: Candidate) -> list[Rejected]:
    """Tensor parallelism across nodes against the same stages inside one node."""
    question = judge.question
    if question.nodes < 2 or question.fabric is None:
        return []
    inside, across = pair_across(question, best)
    if across is None or inside is None or across == best.layout:
        return []
    batch = max(1.0, best.service.in_flight if best.service else 1.0)
    compared = crossing(judge, inside, across, batch)
    candidate = judge.judge(across, 1)
    fabric = question.fabric.name
    figures = (
        f"per token its all-reduces cost {compared.cost_s * 1e3:.1f} ms more than inside a node, reading fewer weights "
        f"saves {compared.gain_s * 1e3:.1f} ms (batch {batch:.0f}); step {ms(compared.across_step_s)} against "
        f"{ms(compared.inside_step_s)} with {name_of(inside)}"
    )
    code: RejectedCode
    if not compared.gains:
        code = "tensor_parallel_crosses_slow_fabric"
        text = f"{name_of(across)} over {fabric}: {figures}"
    elif best.tier == 0:
        code, text = "not_needed", f"{name_of(across)} over {fabric} is faster, not needed: {figures}"
    else:
        short = shortfall(judge, candidate)
        code = "larger_would_do" if short is None else short.code
        text = f"{name_of(across)} over {fabric}: {figures}"
    return [
        _entry(judge, candidate, role="tensor_parallel_across_nodes", code=code, text=text, values=compared.values())
    ]


def pair_across(question: Question, best: Candidate) -> tuple[Layout | None, Layout | None]:
    """The widest tensor split inside a node (not wider than the choice needs), and the one over two nodes or more."""
    per_node = question.gpus_per_node
    sizes = valid_tensor_parallel(question.model, question.gpus)
    inside = [size for size in sizes if size <= per_node]
    across = [size for size in sizes if size > per_node and fits_nodes(Layout(size, 1, per_node))]
    if not inside or not across:
        return None, None
    size = best.layout.tensor_parallel_size if best.layout.nodes == 1 else max(inside)
    return Layout(size, 1, per_node), Layout(min(across), 1, per_node)


def widest_inside(judge: Judge) -> Candidate | None:
    """The largest layout inside one node, judged; used to say why one node does not do."""
    inside = [item for item in layouts(judge.question) if item.nodes == 1]
    return (
        None if not inside else judge.judge(max(inside, key=lambda item: (item.world_size, item.tensor_parallel_size)))
    )


def closest(judge: Judge) -> Candidate:
    """Of the layouts that do not hold the model, the one that misses by least."""
    found = [judge.judge(layout, 1) for layout in _largest(list(layouts(judge.question)))]

    def miss(item: Candidate) -> tuple[float, float]:
        memory = item.memory
        need = memory.activations + memory.reserve + max(stage.weights for stage in memory.stages)
        return (max(0.0, float(need - memory.usable)), -float(memory.kv_capacity_tokens))

    return min(found, key=miss)


def _on(question: Question, gpu: GpuFacts, *, gpus_per_node: int = 1, nodes: int = 1) -> Question:
    return replace(question, gpu=gpu, gpus_per_node=gpus_per_node, nodes=nodes, spares=0)


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


def _larger_gpu(judge: Judge, best: Candidate | None, book: FactBook) -> list[Rejected]:
    if best is not None and best.layout.world_size == 1:
        return []
    found = one_larger_gpu(judge, book)
    if found is None:
        return []
    other, candidate = found
    gpu = other.question.gpu
    text = (
        f"{candidate.replicas} x {gpu.name} with {gib(gpu.memory.value)} each holds the model whole"
        f"{'' if candidate.tier == 0 else ', but does not do all that is asked'}; "
        f"the intent names {judge.question.gpu.name}"
    )
    return [_entry(other, candidate, role="one_larger_gpu", code="one_larger_gpu", text=text, gpu=gpu.name)]


def _fewer_bits(judge: Judge, best: Candidate | None) -> list[Rejected]:
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
        return [_entry(other, candidate, role="fewer_bits", code="fewer_bits", text=text)]
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
