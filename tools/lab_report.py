"""The lab's part of docs/accuracy.md: predicted before, measured after, from results/lab."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "lab"
AIMS = {"requests_per_s": ("requests/s", 0.05), "mean_tpot_ms": ("TPOT", 0.05), "mean_ttft_ms": ("TTFT", 0.12)}
LAYOUTS = ((1, 1), (2, 1), (1, 2))
NAMES = {(1, 1): "one rank", (2, 1): "TP 2", (1, 2): "PP 2"}
# Two measurements closer than this are a tie, however well they repeat: no verdict should hang on less.
LEAST_TIE = 0.02


class Seen:
    """One cell: what its runs measured, what was predicted."""

    def __init__(self, cell: dict[str, Any], predicted: dict[str, float]) -> None:
        self.cell, self.predicted = cell, predicted

    def mean(self, key: str) -> float:
        """Of all runs."""
        return fmean(run[key] for run in self.cell["runs"])

    def noise(self, key: str) -> float:
        """How far the runs lie apart, as a share of their mean."""
        values = [run[key] for run in self.cell["runs"]]
        return (max(values) - min(values)) / fmean(values)

    def error(self, key: str) -> float:
        """Predicted over measured, less one."""
        return self.predicted[key] / self.mean(key) - 1

    @property
    def saturated(self) -> bool:
        """More requests at once than the step's token budget lets decode."""
        return bool(self.cell["concurrency"] > self.predicted["slots"])


def load() -> tuple[dict[str, Any], dict[str, Any], dict[str, Seen]] | None:
    """Both documents, and the cells that are in both; None where nothing was measured."""
    if not (RESULTS / "measured.json").exists():
        return None
    predicted, measured = (json.loads((RESULTS / name).read_text()) for name in ("predicted.json", "measured.json"))
    cells = {
        name: Seen(cell, predicted["cells"][name])
        for name, cell in measured["cells"].items()
        if name in predicted["cells"]
    }
    return predicted, measured, cells


def cell_table(cells: dict[str, Seen]) -> list[str]:
    """Measured, predicted, error and noise per cell."""
    rows = [
        "| cell (model, layout @ link Mbit/s, input + output x concurrency) | requests/s | TPOT ms | TTFT ms | runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, seen in cells.items():
        parts = [
            f"{seen.mean(key):.4g}, {seen.predicted[key]:.4g} ({seen.error(key):+.1%}; noise {seen.noise(key):.1%})"
            for key in ("requests_per_s", "mean_tpot_ms", "mean_ttft_ms")
        ]
        rows.append(f"| {name} | {' | '.join(parts)} | {len(seen.cell['runs'])} |")
    return rows


def aims(cells: dict[str, Seen]) -> list[str]:
    """Median errors against the aims, or against twice the cell's noise where that is larger."""
    rows = ["| median of the absolute errors | aim | seen | worst | cells | |", "| --- | --- | --- | --- | --- | --- |"]
    for key, (name, aim) in AIMS.items():
        errors = [abs(seen.error(key)) for seen in cells.values()]
        inside = sum(abs(seen.error(key)) <= max(aim, 2 * seen.noise(key)) for seen in cells.values())
        met = "met" if median(errors) <= aim else "**missed**"
        rows.append(f"| {name} | {aim:.0%} | {median(errors):.1%} | {max(errors):.1%} | {inside} of {len(errors)} within the aim or twice their noise | {met} |")  # fmt: skip
    return rows


def settings(cells: dict[str, Seen]) -> dict[tuple[float, int], dict[tuple[int, int], Seen]]:
    """(rate, concurrency) to the three layouts of the even model measured there."""
    found: dict[tuple[float, int], dict[tuple[int, int], Seen]] = {}
    alone = {}
    for seen in cells.values():
        cell = seen.cell
        layout = (cell["tensor"], cell["pipeline"])
        if cell["model"] != "even":
            continue
        if layout == (1, 1):
            alone[cell["prompt"], cell["output"], cell["concurrency"]] = seen
        elif cell.get("choice"):
            found.setdefault((cell["rate"], cell["concurrency"]), {})[layout] = seen
    for key, layouts in found.items():
        cell = next(iter(layouts.values())).cell
        if (one := alone.get((cell["prompt"], cell["output"], key[1]))) is not None:
            layouts[1, 1] = one
    return {
        key: layouts
        for key, layouts in sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
        if len(layouts) == len(LAYOUTS)
    }


def choice(cells: dict[str, Seen]) -> list[str]:
    """Which layout gives most requests per second: by measurement and by prediction, setting by setting."""
    rows = [
        "| link Mbit/s | at once | one rank: measured, predicted requests/s | TP 2 | PP 2 | best measured | best predicted | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    won: dict[tuple[int, int], int] = dict.fromkeys(LAYOUTS, 0)
    right = wrong = ties = 0
    rule = dict.fromkeys(LAYOUTS, 0)
    for (rate, concurrency), layouts in settings(cells).items():
        real = {layout: layouts[layout].mean("requests_per_s") for layout in LAYOUTS}
        said = {layout: layouts[layout].predicted["requests_per_s"] for layout in LAYOUTS}
        ordered = sorted(LAYOUTS, key=lambda layout: -real[layout])
        best, chosen = ordered[0], max(LAYOUTS, key=lambda layout: said[layout])
        noise = max(LEAST_TIE, layouts[ordered[0]].noise("requests_per_s"), layouts[ordered[1]].noise("requests_per_s"))
        tie = real[ordered[1]] > real[best] * (1 - noise)
        if tie:
            ties += 1
            word = "tie" if chosen in ordered[:2] else "tie, and wrong"
            wrong += chosen not in ordered[:2]
        else:
            won[best] += 1
            right, wrong = right + (chosen == best), wrong + (chosen != best)
            for layout in LAYOUTS:
                rule[layout] += layout == best
            word = "right" if chosen == best else "**wrong**"
        shown = " | ".join(f"{real[layout]:.3f}, {said[layout]:.3f}" for layout in LAYOUTS)
        rows.append(f"| {rate:g} | {concurrency} | {shown} | {NAMES[best]} | {NAMES[chosen]} | {word} |")
    clear = right + wrong
    constant = max(LAYOUTS, key=lambda layout: rule[layout])
    rows += [
        "",
        f"Right in {right} of {clear} settings that are no tie ({right / max(1, clear):.0%}); {ties} ties within noise. Won by measurement: "
        + ", ".join(f"{NAMES[layout]} {count}" for layout, count in won.items())
        + f". The best constant rule, always {NAMES[constant]}, is right in {rule[constant]} of {clear}.",
    ]
    return rows


def crossings(cells: dict[str, Seen]) -> list[str]:
    """The link rate at which one layout passes another: measured and predicted, both between neighbouring rates."""
    rows = ["| at once | link from which | measured Mbit/s | predicted | factor |", "| --- | --- | --- | --- | --- |"]
    groups = settings(cells)
    for concurrency in sorted({key[1] for key in groups}):
        for better, worse in (((2, 1), (1, 1)), ((1, 2), (1, 1)), ((2, 1), (1, 2))):
            lines = [(rate, layouts) for (rate, at_once), layouts in groups.items() if at_once == concurrency]
            real = _crossing(
                [(rate, ls[better].mean("requests_per_s") / ls[worse].mean("requests_per_s")) for rate, ls in lines]
            )
            said = _crossing(
                [
                    (rate, ls[better].predicted["requests_per_s"] / ls[worse].predicted["requests_per_s"])
                    for rate, ls in lines
                ]
            )
            if real is None and said is None:
                continue
            factor = "-" if real is None or said is None else f"{max(real / said, said / real):.2f}"
            shown = ["none" if value is None else f"{value:.3g}" for value in (real, said)]
            rows.append(
                f"| {concurrency} | {NAMES[better]} passes {NAMES[worse]} | {shown[0]} | {shown[1]} | {factor} |"
            )
    return rows


def _crossing(points: list[tuple[float, float]]) -> float | None:
    """Where a ratio passes 1, straight between logarithms of neighbours; None where it does not."""
    for (low, before), (high, after) in pairwise(points):
        if before < 1 <= after:
            share = -math.log(before) / (math.log(after) - math.log(before))
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return None


def bubble_table(predicted: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """Share of the stages' time that is empty while a prompt of m chunks goes through p stages: 1 - m T(1) / (p T(m))."""
    rows = [
        "| model, stages, chunks | T(m) ms: measured, predicted | bubble measured | predicted | error | T(m) noise |",
        "| --- | --- | --- | --- | --- | --- |",
    ]

    def share(times: dict[int, float], stages: int, chunks: int) -> float:
        return 1 - chunks * times[1] / (stages * times[chunks])

    for model, stages in sorted({(b["model"], b["pipeline"]) for b in measured["bubbles"].values()}):
        mine = {
            b["chunks"]: (name, b)
            for name, b in measured["bubbles"].items()
            if (b["model"], b["pipeline"]) == (model, stages)
        }
        real = {chunks: fmean(run["time_ms"] for run in b["runs"]) for chunks, (_, b) in mine.items()}
        said = {chunks: predicted["bubbles"][name]["time_ms"] for chunks, (name, _) in mine.items()}
        for chunks in sorted(mine):
            if chunks == 1:
                continue  # 1 - 1/p on both sides, by definition
            times = [run["time_ms"] for run in mine[chunks][1]["runs"]]
            seen, expected = share(real, stages, chunks), share(said, stages, chunks)
            rows.append(
                f"| {model}, {stages}, {chunks} | {real[chunks]:.0f}, {said[chunks]:.0f} | {seen:.1%} | {expected:.1%} "
                f"| {expected / seen - 1:+.1%} | {(max(times) - min(times)) / fmean(times):.1%} |"
            )
    return rows


def section() -> list[str]:
    """All of it; a sentence where nothing was measured."""
    loaded = load()
    if loaded is None:
        return ["\n## The lab's engine\n", "Not measured."]
    predicted, measured, cells = loaded
    open_cells = {name: seen for name, seen in cells.items() if not seen.saturated}
    full = {name: seen for name, seen in cells.items() if seen.saturated}
    kv = [
        (engine, next(s.predicted["kv_capacity_tokens"] for s in cells.values() if all(s.cell[k] == engine[k] for k in ("model", "tensor", "pipeline"))))
        for engine in measured["engines"]
        if any(all(s.cell[k] == engine[k] for k in ("model", "tensor", "pipeline")) for s in cells.values())
    ]  # fmt: skip
    return [
        "\n## The lab's engine: frozen predictions, then measured\n",
        f"vLLM {measured['engines'][0]['versions']['vllm']} on {measured['cores']} cores of {measured['processor']} ({', '.join(measured['instructions'])}), "
        "float32, one thread per rank and each rank at real-time priority on a core (TP 3 and PP 3 share two), emulated hosts joined by links of a "
        f"set rate. Predicted at commit {predicted['commit'][:10]} from single steps of one rank, a ping over the link and a calibration model that "
        f"is not in the table (`results/lab/calibration.json`, `facts.json`); measured at {measured['commit'][:10]}, {measured['repeats']} "
        "runs per cell in drawn order, all kept (`tools/measure_lab.py`). Noise is the distance between the runs.\n",
        *aims(open_cells),
        "\n**Saturated cells**, not counted above: more requests at once than the token budget lets decode, so that their rate is the saturation point.\n",
        *(cell_table(full) if full else ["None."]),
        "\n**KV capacity** as the engine says it, and predicted: "
        + "; ".join(f"{e['model']} TP{e['tensor']} PP{e['pipeline']} {e['kv_capacity_tokens']}, {said}" for e, said in kv)
        + ".\n",
        "\n### TP, PP or one rank\n",
        "The layout with the most requests per second; a closed loop of so many requests at once. A tie is a distance below the noise of the two best, or below 2 %.\n",
        *choice(cells),
        "",
        *crossings(cells),
        "\n### Pipeline bubbles\n",
        *bubble_table(predicted, measured),
        "\n### Every cell below saturation\n",
        *cell_table(open_cells),
    ]  # fmt: skip
