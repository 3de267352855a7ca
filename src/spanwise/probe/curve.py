"""Measured times of collectives as curves: percentiles per size, and the alpha-beta line through them."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import Any

from spanwise.estimate.replay import percentile

_RESAMPLES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``seconds = alpha + bytes / beta``.

    Attributes:
        alpha_s: What an empty message takes.
        beta_bytes_per_s: Bytes per second of large ones.
        alpha_range_s: 95 % of bootstrap resamples.
        beta_range_bytes_per_s: The same.
        worst_error: Largest relative distance of a measured median from the line: how much a straight line hides.
    """

    alpha_s: float
    beta_bytes_per_s: float
    alpha_range_s: tuple[float, float]
    beta_range_bytes_per_s: tuple[float, float]
    worst_error: float


def summary(times_s: list[float]) -> dict[str, float]:
    """Microseconds: least, median, 95th and 99th percentile; and how many."""
    return {
        "n": len(times_s),
        "min_us": min(times_s) * 1e6,
        "p50_us": percentile(times_s, 0.5) * 1e6,
        "p95_us": percentile(times_s, 0.95) * 1e6,
        "p99_us": percentile(times_s, 0.99) * 1e6,
    }


def fit_line(times_s: dict[int, list[float]], seed: int = 0) -> Line | None:
    """The line with the least squared relative distance to the medians; None for fewer than two sizes.

    Relative, because 1 KB and 64 MB count alike: an absolute fit would see the large sizes only.
    """
    if len(times_s) < 2:
        return None
    middles = {size: statistics.median(values) for size, values in times_s.items()}
    alpha, inverse = _least_squares(middles)
    draw = random.Random(seed)  # noqa: S311 - resampling, no secret
    alphas, betas = [], []
    for _ in range(_RESAMPLES):
        a, i = _least_squares(
            {size: statistics.median(draw.choices(values, k=len(values))) for size, values in times_s.items()}
        )
        alphas.append(a)
        betas.append(1 / i)
    worst = max(abs((alpha + size * inverse) / middle - 1) for size, middle in middles.items())
    return Line(
        alpha_s=alpha,
        beta_bytes_per_s=1 / inverse,
        alpha_range_s=(percentile(alphas, 0.025), percentile(alphas, 0.975)),
        beta_range_bytes_per_s=(percentile(betas, 0.025), percentile(betas, 0.975)),
        worst_error=worst,
    )


def _least_squares(middles: dict[int, float]) -> tuple[float, float]:
    """``alpha`` and ``1 / beta`` of weighted least squares with weights ``1 / t``; neither below what physics allows."""
    rows = [(1 / t, size / t) for size, t in middles.items()]
    aa, ab, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a1, b1 = sum(r[0] for r in rows), sum(r[1] for r in rows)
    determinant = aa * bb - ab * ab
    alpha, inverse = (a1 * bb - b1 * ab) / determinant, (aa * b1 - ab * a1) / determinant
    if inverse <= 0:  # times that do not grow with the size: the sizes were too small to show the bandwidth
        inverse = 1e-15
        alpha = a1 / aa
    if alpha <= 0:
        alpha = 0.0
        inverse = b1 / bb
    return alpha, inverse


def curve(operation: str, times_s: dict[int, list[float]]) -> dict[str, Any]:
    """One operation's curve as JSON: a row per size, and the line."""
    line = fit_line(times_s)
    return {
        "operation": operation,
        "points": [{"bytes": size, **summary(values)} for size, values in sorted(times_s.items())],
        "line": None
        if line is None
        else {
            "alpha_us": line.alpha_s * 1e6,
            "alpha_range_us": [value * 1e6 for value in line.alpha_range_s],
            "beta_bytes_per_s": line.beta_bytes_per_s,
            "beta_range_bytes_per_s": list(line.beta_range_bytes_per_s),
            "worst_error": line.worst_error,
        },
    }
