"""Tensor parallelism across nodes, as an alternative to what is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.crossing import crossing
from spanwise.decide.rejection import entry
from spanwise.decide.types import Rejected
from spanwise.decide.words import ms, name_of, shortfall
from spanwise.estimate.layout import Layout, fits_nodes, valid_tensor_parallel

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.codes import RejectedCode
    from spanwise.decide.question import Candidate, Question


def over_nodes(judge: Judge, best: Candidate) -> list[Rejected]:
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
        entry(judge, candidate, role="tensor_parallel_across_nodes", code=code, text=text, values=compared.values())
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
