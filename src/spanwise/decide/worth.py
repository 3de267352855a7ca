"""Is moving from what runs today worth it? Only where the intent says what runs, and only by figures that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.decide.types import Reason
from spanwise.decide.words import gpus, name_of, three
from spanwise.facts import catalogue

if TYPE_CHECKING:
    from spanwise.decide.question import Candidate, Question
    from spanwise.decide.types import Predicted

_FIGURES = (("ttft_p95_ms", "TTFT p95"), ("tpot_p95_ms", "TPOT p95"))


def worth(question: Question, best: Candidate, predicted: Predicted) -> Reason | None:
    """The judgement as a reason; None where the intent does not say what runs today.

    - ``moving_is_worth_it``: today an objective is missed and the choice keeps it over its whole range; or a stated figure is beaten over
      the whole range of the prediction.
    - ``moving_is_not_worth_it``: today keeps every objective with no more GPUs; or no stated figure is beaten even in the best case.
    - ``moving_is_unclear``: the range of the prediction lies on both sides, nothing comparable is stated, or today's figure for a stated
      objective is missing and none that is missed today would be mended.
    """
    today = question.today
    if today is None:
        return None
    choice = f"{name_of(best.layout, best.replicas)} ({gpus(best.gpus)})"
    values: dict[str, Any] = {"gpus_today": today.gpus, "gpu_today": today.gpu, "gpus": best.gpus}
    better = worse = kept = missed = mended = 0
    said, missing = [], []
    for key, name in _FIGURES:
        now, goal = getattr(today, key), getattr(question.objectives, key)
        expected = getattr(predicted, key)
        low, high = predicted.uncertainty.get(key, (expected, expected))
        if goal is not None and now is None:
            missing.append(key)
        if goal is not None and now is not None:
            kept += now <= goal
            missed += now > goal
        if now is None or expected is None or low is None or high is None:
            continue
        values |= {f"{key}_today": now, key: expected}
        said.append(f"{name} {now:g} ms today, {three(expected)} ms predicted ({three(low)} to {three(high)})")
        better += high < now
        worse += low >= now
        if goal is not None:
            mended += now > goal and high <= goal
    cost = _cost(question, best, values)
    if today.gpu != question.gpu.name and today.gpu not in catalogue.gpus():
        values["gpu_today_known"] = False
        cost.append(f"the catalogue does not know today's {today.gpu[:100]}: only what is stated of it counts")
    figures = "; ".join([*said, *cost])
    compared = len(said)
    if missed and missed == mended:
        return Reason(code="moving_is_worth_it", text=f"{choice} keeps what is missed today: {figures}", values=values)
    if kept and not missed and not missing and best.gpus >= today.gpus:
        return Reason(
            code="moving_is_not_worth_it",
            text=f"what runs today keeps the objectives with {gpus(today.gpus)}; {choice} would not use fewer: {figures}",
            values=values,
        )
    if compared and worse == compared and not missing and best.gpus >= today.gpus:
        return Reason(
            code="moving_is_not_worth_it", text=f"{choice} would be no faster than today: {figures}", values=values
        )
    if compared and better == compared and not missing:
        return Reason(code="moving_is_worth_it", text=f"{choice} would be faster: {figures}", values=values)
    absent = missing or ([] if said else [key for key, _ in _FIGURES if getattr(today, key) is None])
    unknown = [f"today's {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not given"] if absent else []
    why = "; ".join([*unknown, *said, *cost])
    if missing:
        values["missing_today"] = missing
    return Reason(
        code="moving_is_unclear", text=f"whether {choice} beats what runs today is open: {why}", values=values
    )


def _cost(question: Question, best: Candidate, values: dict[str, Any]) -> list[str]:
    prices, today = question.prices, question.today
    if today is None or not {today.gpu, question.gpu.name} <= prices.keys():
        return []
    before, after = prices[today.gpu] * today.gpus, prices[question.gpu.name] * best.gpus
    values |= {"cost_per_hour_today": before, "cost_per_hour": after}
    return [f"{before:.4g} per hour today, {after:.4g} then"]
