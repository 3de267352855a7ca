"""One alternative that was not taken, as a verdict shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.decide.figures import predicted
from spanwise.decide.types import Predicted, Rejected

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.codes import RejectedCode
    from spanwise.decide.question import Candidate


def entry(
    judge: Judge,
    candidate: Candidate,
    *,
    role: str,
    code: RejectedCode,
    text: str,
    values: dict[str, Any] | None = None,
    gpu: str | None = None,
) -> Rejected:
    """The alternative with its predictions.

    Args:
        judge: Who judged the candidate; its question may be about other hardware.
        candidate: The layout with replicas.
        role: Which question this alternative answers (``nearest_larger`` and so on).
        code: Why it was not taken.
        text: The sentence, which says what the code says.
        values: The figures the sentence rests on.
        gpu: The kind of GPU, where it is not the intent's.
    """
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
