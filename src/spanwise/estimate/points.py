"""The bare model's answer for single points: one step, one layout, no load. What measured files are compared with."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from spanwise.errors import InputError
from spanwise.estimate.rates import CASES, Rates, rates
from spanwise.estimate.step import Costs, costs, decode_step, prefill

if TYPE_CHECKING:
    from spanwise.estimate.layout import Layout
    from spanwise.estimate.memory import Memory
    from spanwise.facts.book import GpuFacts, LinkFacts
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.model import ModelFacts

COLUMNS = ("phase", "batch", "context_tokens", "new_tokens")
_MOST_POINTS = 100_000
_MOST_TOKENS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row.

    ``decode``: ``new_tokens`` steps, each of which gives one token to each of ``batch`` requests of mean context ``context_tokens``
    (the context does not grow with them). ``prefill``: ``batch`` prompts of ``new_tokens`` each, after ``context_tokens`` that the KV
    cache holds.
    """

    phase: Literal["prefill", "decode"]
    batch: int
    context_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Milliseconds, with the range from every rate at its best to every rate at its worst.

    Attributes:
        why_not: Why the layout cannot run this point at once (its time is then only arithmetic); None where it can, or where no
            memory was given.
    """

    point: Point
    time_ms: float
    uncertainty: tuple[float, float]
    why_not: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One entry of the answer."""
        point = self.point
        return {
            "phase": point.phase,
            "batch": point.batch,
            "context_tokens": point.context_tokens,
            "new_tokens": point.new_tokens,
            "time_ms": self.time_ms,
            "uncertainty": list(self.uncertainty),
            "fits": self.why_not is None,
            **({} if self.why_not is None else {"why_not": self.why_not}),
        }


def answer(
    points: list[Point],
    *,
    model: ModelFacts,
    weights: WeightFormat,
    gpu: GpuFacts,
    fabric: LinkFacts | None,
    layout: Layout,
    batched_tokens: int,
    memory: Memory | None = None,
) -> list[Answer]:
    """Predict every point; with ``memory``, say which of them it does not hold."""
    cut = costs(model, weights, layout)
    cases = {case: rates(gpu, fabric, weights, case) for case in CASES}

    found = []
    for point in points:
        expected, best, worst = (seconds(cases[case], cut, point, batched_tokens) * 1e3 for case in CASES)
        why_not = None if memory is None else obstacle(point, memory, model.max_position)
        spread = (min(best, expected), max(worst, expected))
        found.append(Answer(point=point, time_ms=expected, uncertainty=spread, why_not=why_not))
    return found


def obstacle(point: Point, memory: Memory, longest: int | None) -> str | None:
    """Why no engine could run this point at once; None where one could."""
    new = point.new_tokens if point.phase == "prefill" else 1  # the mean context of several steps is what is stated
    length = point.context_tokens + new
    if not memory.fits:
        return "the weights do not fit"
    if longest is not None and length > longest:
        return f"a request of {length} tokens; the model holds at most {longest}"
    needed = point.batch * length
    if needed > memory.kv_capacity_tokens:
        return f"needs {needed} tokens of KV cache; there is room for {memory.kv_capacity_tokens}"
    return None


def seconds(used: Rates, cut: Costs, point: Point, batched_tokens: int) -> float:
    """One point. Prefill counts the engine's own work per request, as an end-to-end measurement does."""
    if point.phase == "decode":
        return point.new_tokens * decode_step(used, cut, point.batch, point.context_tokens)
    step = prefill(
        used,
        cut,
        point.new_tokens * point.batch,
        batched_tokens=batched_tokens,
        context=point.context_tokens,
        sequences=point.batch,
    )
    return step.latency + used.request_overhead


def parse_points(text: str, *, where: str) -> list[Point]:
    """Points from CSV with the columns ``phase, batch, context_tokens, new_tokens`` (others are ignored).

    Raises:
        InputError: A column is missing, or a value is not one; names the line.
    """
    remedy = f"give CSV with the columns {', '.join(COLUMNS)}"
    points = []
    try:
        reader = csv.DictReader(io.StringIO(text))
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        missing = [column for column in COLUMNS if column not in names]
        if missing:
            raise InputError(f"has no column {', '.join(missing)}", where=where, remedy=remedy)
        twice = [column for column in COLUMNS if names.count(column) > 1]
        if twice:
            raise InputError(f"has the column {twice[0]} twice", where=where, remedy=remedy)
        for row in reader:
            at = f"{where}: line {reader.line_num}"
            phase = (row["phase"] or "").strip()
            if phase not in ("prefill", "decode"):
                raise InputError(f"phase is {phase[:40]!r}", where=at, remedy="use prefill or decode")
            batch = _whole(row["batch"], "batch", at, low=1, high=100_000)
            context = _whole(row["context_tokens"], "context_tokens", at, low=0)
            new = _whole(row["new_tokens"], "new_tokens", at, low=1)
            points.append(
                Point(
                    phase=cast("Literal['prefill', 'decode']", phase),
                    batch=batch,
                    context_tokens=context,
                    new_tokens=new,
                )
            )
            if len(points) > _MOST_POINTS:
                raise InputError(f"holds more than {_MOST_POINTS} points", where=where, remedy="split the file")
    except csv.Error as error:
        raise InputError(f"is not CSV: {error}", where=where, remedy=remedy) from None
    if not points:
        raise InputError("holds no points", where=where, remedy=remedy)
    return points


def _whole(text: str | None, name: str, where: str, *, low: int, high: int = _MOST_TOKENS) -> int:
    shown = (text or "").strip()
    # int() would also take 1_000, +5 and digits of other scripts.
    if not shown.isascii() or not shown.isdigit() or len(shown) > 12 or not low <= int(shown) <= high:
        raise InputError(f"{name} is {shown[:40]!r}", where=where, remedy=f"give a whole number from {low} to {high}")
    return int(shown)
