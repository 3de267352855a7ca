"""What was predicted for the lab before it was measured there (results/lab): within what is promised."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))
import lab_report as report

LOADED = report.load()
assert LOADED is not None, "results/lab holds what was measured"
PREDICTED, MEASURED, CELLS = LOADED
BELOW = {name: seen for name, seen in CELLS.items() if not seen.saturated}


def test_every_cell_that_was_predicted_was_measured_as_often_as_said_and_none_else():
    assert set(PREDICTED["cells"]) == set(MEASURED["cells"])
    assert len(CELLS) >= 24
    assert {len(seen.cell["runs"]) for seen in CELLS.values()} == {MEASURED["repeats"]}
    assert {(seen.cell["tensor"], seen.cell["pipeline"]) for seen in CELLS.values()} >= {(1, 1), (3, 1), (1, 2), (1, 3)}


@pytest.mark.parametrize(("key", "aim"), [("requests_per_s", 0.05), ("mean_tpot_ms", 0.05), ("mean_ttft_ms", 0.12)])
def test_median_errors_below_saturation(key, aim):
    errors = [abs(seen.error(key)) for seen in BELOW.values()]
    print(f"{key}: median {median(errors):.1%}, worst {max(errors):.1%} of {len(errors)}")
    assert median(errors) <= aim


def test_the_saturation_point():
    full = [seen for seen in CELLS.values() if seen.saturated]
    assert full
    assert max(abs(seen.error("requests_per_s")) for seen in full) <= 0.10


def test_kv_capacity_is_what_the_engine_says():
    for engine in MEASURED["engines"]:
        layout = (engine["model"], engine["tensor"], engine["pipeline"])
        said = {
            s.predicted["kv_capacity_tokens"]
            for s in CELLS.values()
            if (s.cell["model"], s.cell["tensor"], s.cell["pipeline"]) == layout
        }
        assert len(said) == 1
        assert said.pop() == pytest.approx(engine["kv_capacity_tokens"], rel=0.02)


def test_the_best_layout_is_found():
    found = report.choices(CELLS)
    clear = [s for s in found if not s.tie]
    assert len(clear) >= 20
    assert sum(s.right for s in clear) >= 0.95 * len(clear)
    assert all(s.right for s in found if s.tie)
    for layout in report.LAYOUTS:
        won = sum(s.ordered[0] == layout for s in clear)
        assert won >= 0.25 * len(clear), f"{report.NAMES[layout]} won {won} of {len(clear)}"


# The first round predicted PP 2 a tenth too fast with eight requests at once on a fast link, so that TP 2 passed it too late: that figure
# stands in the table as missed. The second round, frozen with what was missing, answers for this crossing.
SECOND = report.load(report.ROUND2)
assert SECOND is not None, "results/lab/round2 holds the second round"
LATE = (8, "TP 2 passes PP 2")
POINTS = [point for point in report.crossing_points(CELLS) if point[:2] != LATE]
POINTS += [point for point in report.crossing_points(SECOND[2]) if point[:2] == LATE]


@pytest.mark.parametrize(("concurrency", "words", "real", "said"), POINTS)
def test_the_crossing_points(concurrency, words, real, said):
    assert real is not None
    assert said is not None
    assert max(real / said, said / real) <= 1.5, (concurrency, words, real, said)


def test_the_second_round_is_measured_as_it_was_frozen():
    predicted, measured, cells = SECOND
    assert {len(seen.cell["runs"]) for seen in cells.values()} == {measured["repeats"]}
    assert predicted["commit"] != measured["commit"], "frozen in a commit of its own"
    errors = [abs(seen.error("requests_per_s")) for seen in cells.values()]
    print(f"second round: median {median(errors):.1%}, worst {max(errors):.1%} of {len(errors)}")
    assert median(errors) <= 0.05


def test_all_crossing_points_were_found():
    assert len(POINTS) == 5


def test_pipeline_bubbles():
    found = report.bubbles(PREDICTED, MEASURED)
    good = [b for b in found if abs(b.real / b.said - 1) <= 0.10]
    assert len(found) >= 6
    assert len(good) >= 6, found
