"""Curves: what a fit finds in what was made up, and what it says where nothing can be found."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.estimate.replay import percentile
from spanwise.probe.curve import curve, fit_line, summary

SIZES = [1 << power for power in range(10, 27, 2)]


@given(alpha_us=st.floats(1, 1e5), beta=st.floats(1e6, 1e11), seed=st.integers(0, 2**32))
def test_a_line_is_found_again(alpha_us: float, beta: float, seed: int) -> None:
    draw = random.Random(seed)
    times = {size: [(alpha_us * 1e-6 + size / beta) * draw.uniform(0.97, 1.03) for _ in range(30)] for size in SIZES}
    line = fit_line(times)
    assert line is not None
    assert line.worst_error < 0.1
    # What the sizes show can be found: alpha where the smallest is mostly alpha, beta where the largest is mostly bytes.
    if alpha_us * 1e-6 > 10 * SIZES[0] / beta:
        assert line.alpha_s == pytest.approx(alpha_us * 1e-6, rel=0.1)
    if SIZES[-1] / beta > 10 * alpha_us * 1e-6:
        assert line.beta_bytes_per_s == pytest.approx(beta, rel=0.1)
    assert line.alpha_range_s[0] <= line.alpha_range_s[1]


def test_a_step_in_the_curve_is_said_as_error_of_the_line() -> None:
    """Gloo and NCCL change their algorithm with the size: a straight line hides that, and must say how much."""
    times = {size: [50e-6 if size < 1 << 16 else 5e-3 + size / 1e9] for size in SIZES}
    line = fit_line(times)
    assert line is not None
    assert line.worst_error > 0.5


def test_less_than_two_sizes_are_no_line() -> None:
    assert fit_line({}) is None
    assert fit_line({1024: [1e-3]}) is None
    assert curve("all_reduce", {1024: [1e-3]})["line"] is None


def test_times_that_do_not_grow_give_no_bandwidth_out_of_nothing() -> None:
    line = fit_line({1024: [1e-3], 4096: [0.9e-3], 16384: [0.8e-3]})
    assert line is not None
    assert line.alpha_s > 0
    assert line.beta_bytes_per_s >= 1e14


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=200), st.floats(0, 1))
def test_percentiles_equal_numpy(values: list[float], share: float) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy comes with the engine")
    assert percentile(values, share) == pytest.approx(float(numpy.quantile(values, share)))


def test_a_summary_is_in_microseconds() -> None:
    assert summary([1e-3, 2e-3, 3e-3]) == pytest.approx(
        {"n": 3, "min_us": 1000, "p50_us": 2000, "p95_us": 2900, "p99_us": 2980}
    )
