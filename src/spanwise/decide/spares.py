"""Spares that leave nothing to serve: how many would fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.decide.question import Candidate, layouts
from spanwise.decide.types import Reason
from spanwise.decide.words import gpus, name_of

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge


def too_many_spares(judge: Judge) -> tuple[Reason, Candidate] | None:
    """Why no replica is left although the hardware holds the model, and the layout with the most replicas; else None."""
    question = judge.question
    held: Candidate | None = None
    room = 0
    for layout in layouts(question):
        count = layout.replicas_on(question.nodes)
        if count <= room or not judge.could_hold(layout):
            continue
        candidate = judge.judge(layout, 1)
        if candidate.tier < 3:
            held, room = candidate, count
    if held is None:
        return None
    asked, fit = question.spares, room - 1
    replicas = f"{room} replica{'' if room == 1 else 's'} of {name_of(held.layout)}"
    text = (
        f"{asked} spare replica{' leaves' if asked == 1 else 's leave'} none to serve: "
        f"{gpus(question.gpus)} {'holds' if question.gpus == 1 else 'hold'} at most "
        f"{replicas}, so {'no spare fits' if fit == 0 else f'at most {fit} of them can be spare'}"
    )
    return Reason(code="spares_leave_no_replica", text=text, values={"spares": asked, "spares_that_fit": fit}), held
