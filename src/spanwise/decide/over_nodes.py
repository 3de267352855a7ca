"""Tensor parallelism across nodes against the layout that fits without it: what it costs, what it saves, and from which link on it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.crossing import Crossing, crossing, needed_bandwidth, needed_hop
from spanwise.decide.question import BATCHED_SMALL, layouts
from spanwise.decide.rejection import entry
from spanwise.decide.types import Reason, Rejected
from spanwise.decide.words import fabric_name, name_of, shortfall, three
from spanwise.estimate.layout import Layout, fits_nodes, valid_tensor_parallel
from spanwise.estimate.step import decode_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwise.decide.candidates import Judge
    from spanwise.decide.codes import RejectedCode
    from spanwise.decide.question import Candidate

# Layouts inside a node that are compared, largest first: a smaller one is neither faster nor roomier.
_MOST_INSIDE = 32


def over_nodes(judge: Judge, best: Candidate) -> list[Rejected]:
    """Tensor parallelism across nodes as an alternative to the choice, unless the choice is of that kind."""
    if best.layout.nodes_per_stage > 1:
        return []
    wanted = _wanted(best)
    across = _across(judge, wanted)
    if across is None:
        return []
    candidate = judge.judge(across, 1)
    short, role = shortfall(judge, candidate), "tensor_parallel_across_nodes"
    if candidate.service is None:
        return [] if short is None else [entry(judge, candidate, role=role, code=short.code, text=short.text)]
    compared = _compared(judge, best, across, wanted)
    said = sentence(judge, compared)
    code: RejectedCode
    if not compared.gains:
        code, text = "tensor_parallel_crosses_slow_fabric", f"{said}; {_needs(judge, compared, best)}"
    elif best.tier == 0:
        code, text = "not_needed", f"{said}; faster, not needed: what is asked is met without it"
    elif short is None:
        code, text = "larger_would_do", f"{said}; it would do what is asked"
    else:
        code, text = short.code, f"{short.text}; {said.partition(': ')[2]}"
    values = compared.values() | ({} if short is None or short.code != code else short.values)
    return [entry(judge, candidate, role=role, code=code, text=text, values=values)]


def crosses(judge: Judge, forced: Candidate, best: Candidate | None) -> Reason | None:
    """Why a layout that was insisted on pays for its fabric: it spans nodes and what fits without that is faster. Else None.

    Args:
        judge: Who judged both.
        forced: The layout insisted on.
        best: What is chosen without that; its load is what both are compared at.
    """
    if forced.layout.nodes_per_stage == 1 or forced.service is None:
        return None
    compared = _compared(judge, best or forced, forced.layout, _wanted(best or forced))
    if compared.inside == forced.layout or compared.gains:
        return None
    return Reason(
        code="tensor_parallel_crosses_slow_fabric", text=sentence(judge, compared), values=dict(compared.values())
    )


def sentence(judge: Judge, compared: Crossing) -> str:
    """Both steps and what makes the difference; the parts as shown add up to the difference of the steps as shown."""
    mine, its = compared.across_parts.step_s * 1e3, compared.inside_parts.step_s * 1e3
    digits = 1 if max(mine, its) >= 10 else 2 if max(mine, its) >= 1 else 3
    more = compared.more
    parts = {
        f"all-reduces over {fabric_name(judge.question)}": more.all_reduces_s,
        "gathering scores": more.gather_s,
        "pipeline hops": more.hops_s,
        "reading and arithmetic": more.work_s,
    }
    shown = {name: round(value * 1e3, digits) for name, value in parts.items()}
    total = round(round(mine, digits) - round(its, digits), digits)
    # Rounding is left to the largest part: it moves by least.
    largest = max(shown, key=lambda name: abs(shown[name]))
    shown[largest] += total - sum(shown.values())
    said = ", ".join(f"{name} {value:+.{digits}f} ms" for name, value in shown.items() if round(value, digits))
    than = "more" if total >= 0 else "less"
    return (
        f"{name_of(compared.across)}: step {mine:.{digits}f} ms against {its:.{digits}f} ms with {_where(compared.inside)} "
        f"(batch {compared.batch:.0f}), {abs(total):.{digits}f} ms {than}: {said}"
    )


def _where(layout: Layout) -> str:
    return name_of(layout) + (" in one node" if layout.nodes == 1 and layout.world_size > 1 else "")


def _needs(judge: Judge, compared: Crossing, best: Candidate) -> str:
    """From which link on it would be faster, and what that changes."""
    question, pair = judge.question, (compared.inside, compared.across, compared.batch)
    assert question.fabric is not None
    bandwidth, hop = needed_bandwidth(judge, *pair), needed_hop(judge, *pair)
    ways = [] if bandwidth is None else [f"from {three(bandwidth / question.fabric.efficiency.value * 8e-9)} Gbit/s on"]
    ways += [] if hop is None else [f"below {three(hop * 1e6)} us per hop"]
    if not ways:
        return "neither more bandwidth nor less latency alone makes it faster"
    text = f"it would be faster {' or '.join(ways)}"
    if best.tier == 0 and best.layout.nodes == 1:
        # One node comes before several in the order of choice, and nothing inside a node depends on the fabric.
        kept = "one_gpu" if best.layout.world_size == 1 else "one_node"
        text += f", the verdict stays {kept}: what is asked is met inside a node"
    elif best.tier == 0:
        text += ", the verdict is multi_node either way"
    return text


def _wanted(candidate: Candidate) -> float:
    return max(1.0, candidate.service.in_flight if candidate.service else 1.0)


def _compared(judge: Judge, best: Candidate, across: Layout, wanted: float) -> Crossing:
    """At the load's batch, or at what both of them hold where that is less."""
    inside = _inside(judge, best, wanted)
    return crossing(judge, inside, across, max(1.0, min(wanted, _holds(judge, inside), _holds(judge, across))))


def _across(judge: Judge, wanted: float) -> Layout | None:
    """The smallest tensor split over nodes that holds the model and ``wanted`` requests, or the one that comes closest."""
    question = judge.question
    if question.nodes < 2 or question.fabric is None:
        return None
    per_node = question.gpus_per_node
    sizes = valid_tensor_parallel(question.model, question.gpus)
    found = [Layout(size, 1, per_node) for size in sizes if size > per_node]
    return _roomiest(judge, [item for item in found if fits_nodes(item)], wanted)


def _inside(judge: Judge, best: Candidate, wanted: float) -> Layout:
    """The fastest layout inside one node, of those that hold ``wanted`` requests, or the one that comes closest; else the choice."""
    question = judge.question
    held = [item for item in layouts(question) if item.nodes == 1 and judge.could_hold(item)]
    held = [item for item in held[-_MOST_INSIDE:] if _holds(judge, item)]
    enough = [item for item in held if _holds(judge, item) >= wanted]
    if not enough:
        return _roomiest(judge, held, wanted) or best.layout
    work = question.workload
    context = work.input_tokens + work.output_tokens / 2
    return min(enough, key=lambda item: decode_step(judge.rates, judge.cut(item, BATCHED_SMALL)[0], wanted, context))


def _roomiest(judge: Judge, found: Iterable[Layout], wanted: float) -> Layout | None:
    """The first that holds ``wanted`` requests, else the one that holds most of them, else the last."""
    best, most = None, -1.0
    for layout in found:
        holds = _holds(judge, layout)
        if holds >= wanted:
            return layout
        if holds >= most:
            best, most = layout, holds
    return best


def _holds(judge: Judge, layout: Layout) -> float:
    """Requests whose KV cache a replica holds at once; 0 where it does not hold the model."""
    memory, question = judge.cut(layout, BATCHED_SMALL)[1], judge.question
    if not memory.fits or memory.kv_capacity_tokens < question.max_model_len:
        return 0.0
    return float(min(judge.max_sequences, memory.kv_capacity_tokens // question.workload.tokens_per_request))
