"""Expert parallelism: whole experts on each rank, where slices of them are impossible.

Slices keep all ranks equally busy whatever the router does. Whole experts do not, so they are taken only where vLLM cannot slice: an
expert's width that the size does not divide, or would divide through a block of fp8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.types import Reason
from spanwise.estimate.layout import expert_width, invalid_tensor_parallel

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.question import Candidate


def reason(judge: Judge, best: Candidate) -> Reason | None:
    """Why experts are kept whole; None where they are not."""
    if not best.layout.expert_parallel:
        return None
    model, size = judge.question.model, best.layout.tensor_parallel_size
    experts = max(layer.experts for layer in model.layer_facts)
    return Reason(
        code="whole_experts",
        text=f"{invalid_tensor_parallel(model, size)}, so each rank holds {_share(experts, size)} whole experts of {experts} "
        "(--enable-expert-parallel); a router that prefers some experts makes their ranks slower than predicted",
        values={
            "experts": experts,
            "experts_per_rank": -(-experts // size),
            "expert_width": expert_width(model),
            "block": model.weight_format.block,
        },
    )


def _share(experts: int, ranks: int) -> str:
    least, most = experts // ranks, -(-experts // ranks)
    return str(most) if least == most else f"{least} or {most}"
