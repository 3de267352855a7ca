#!/usr/bin/env python3
"""Write docs/accuracy.md: what is predicted against what vLLM did, from the measurements in results/gpu and from reference data.

    python tools/accuracy.py            # or: make accuracy

Nothing is fitted here: the constants stand in src/spanwise/facts/engines.yaml. The table of models left out of the fit is the one that
tools/fit_engine.py wrote to results/gpu/fit.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tests know where measurements lie

from lab_report import section as lab_section

from tests.unit.estimate.measured import Measured, again, ours, pair, reference

HEAD = """# Accuracy

Written by `make accuracy` (`tools/accuracy.py`) from the measurements in `results/gpu` (vLLM 0.24.0 on one H200 and one H100, 2026-11-24,
`tools/measure_engine.py`) and, where it is at hand, from reference data that somebody else measured on another H200 a day earlier. Errors are
predicted over measured, less one. A missed aim stands in the table like any other figure.

**Noise.** The same point on a second start of such a machine differs by 1.6 to 6.1 % in decode and up to 4 % in prefill (reference data, its
README); within one start windows of decode differ by 0.1 to 2 % at small batches and up to 10 % at 256, where the context grows within a
window. Errors below about 5 % are noise.

**What is fitted.** Fifteen constants for all models and both GPUs together (`src/spanwise/facts/engines.yaml`), from the single steps of `results/gpu`.
The loads and the reference data were never fitted.

**Not measured yet:** groups of more than two GPUs, pipelines and several hosts of GPUs, and other GPUs. Layouts of several ranks are measured on the lab's CPU engine (below).
"""


def steps(samples: list[Measured]) -> list[str]:
    """One row per model: median and worst error of decode and prefill, KV capacity."""
    rows = [
        "| model | decode median | worst | points | prefill median | worst | points | KV capacity |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for sample in samples:
        kv = sample.kv_capacity_tokens() / sample.document["kv_capacity_tokens"] - 1
        cells = []
        for phase in ("decode", "prefill"):
            found = sample.errors(phase)
            sizes = [abs(error) for error in found]
            cells += [f"{median(sizes):.1%}", f"{max(sizes):.1%}", str(len(sizes))]
        rows.append(f"| {sample.label} | {' | '.join(cells)} | {kv:+.2%} |")
    return rows


def left_out() -> list[str]:
    """The models that a fit has not seen."""
    rows = [
        "| left out of the fit | decode median | worst | prefill median | worst |",
        "| --- | --- | --- | --- | --- |",
    ]
    document = json.loads((ROOT / "results" / "gpu" / "fit.json").read_text())
    for row in document["left_out"]:
        cells = [f"{row[key]:.1%}" for key in ("decode_median", "decode_worst", "prefill_median", "prefill_worst")]
        rows.append(f"| {row['sample']} | {' | '.join(cells)} |")
    return rows


def loads(samples: list[Measured], kind: str) -> tuple[list[str], dict[str, list[float]]]:
    """One row per load of that kind (``concurrency`` or ``request_rate_per_s``), and the absolute errors."""
    rows = [
        f"| model | input, output | {kind.replace('_', ' ')} | TTFT ms: measured, predicted | TPOT ms | requests/s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    sizes: dict[str, list[float]] = {"TTFT": [], "TPOT": [], "requests/s": []}
    for sample in samples:
        for loop in sample.document["loops"]:
            if kind not in loop:
                continue
            found = sample.observed(loop)
            pairs = {
                "TTFT": (loop["mean_ttft_ms"], (found.ttft_s or 0.0) * 1e3),
                "TPOT": (loop["mean_tpot_ms"], found.tpot_s * 1e3),
                "requests/s": (loop["requests_per_s"], found.requests_per_s),
            }
            cells = []
            for name, (real, predicted) in pairs.items():
                sizes[name].append(abs(predicted / real - 1))
                cells.append(f"{real:.4g}, {predicted:.4g} ({predicted / real - 1:+.0%})")
            mark = " (past the KV limit)" if sample.past_the_kv_limit(loop) else ""
            rows.append(
                f"| {sample.label} | {loop['input_tokens']}, {loop['output_tokens']} | {loop[kind]:g}{mark} | {' | '.join(cells)} |"
            )
    return rows, sizes


def aims(name: str, sizes: dict[str, list[float]], wanted: dict[str, float]) -> list[str]:
    """Median error against the aim."""
    rows = [f"| {name}, median error | aim | seen | |", "| --- | --- | --- | --- |"]
    for key, limit in wanted.items():
        seen = median(sizes[key])
        rows.append(f"| {key} | {limit:.0%} | {seen:.1%} | {'met' if seen <= limit else '**missed**'} |")
    return rows


def page() -> str:
    """The whole document."""
    fitted, foreign, repeated = ours(), reference(), again()
    parts = [HEAD, "## Single steps and KV capacity: fitted\n", *steps(fitted)]
    if foreign:
        sizes = {phase: [abs(e) for sample in foreign for e in sample.errors(phase)] for phase in ("decode", "prefill")}
        parts += ["\n## Single steps and KV capacity: not fitted (reference data)\n", *steps(foreign), ""]
        parts += aims("points not fitted", sizes, {"decode": 0.05, "prefill": 0.08})
    parts += ["\n## A model of a size or precision that was never fitted\n", *left_out()]
    parts += [
        "\nMissed: Llama-3-8B fp8 on the H100, whose prompts of 16 to 512 tokens all took 9 to 13 ms on that host (launch-bound there, not on the H200)."
    ]
    parts += ["\n## The same models on another H100 host: not fitted\n", *steps(repeated)]
    parts += [
        "\nMissed: prompts of up to 1024 tokens, alone in the engine, took 5 to 13 ms more on that host than on the one fitted, with the same GPU, image and "
        "driver: the host's work per request, which the GPU waits for. Under load it is hidden (closed loops below). The range of `request_overhead` "
        "covers it; measure a host of your own where single short prompts matter."
    ]
    two = pair()
    parts += [
        "\n## Tensor parallelism over two H100 of one host (NVLink): not fitted, nothing of several GPUs ever was\n",
        *steps(two),
    ]
    sizes = {phase: [abs(e) for sample in two for e in sample.errors(phase)] for phase in ("decode", "prefill")}
    rows, found = loads(two, "concurrency")
    parts += ["", *aims("two GPUs", sizes, {"decode": 0.05, "prefill": 0.08}), "", *rows, ""]
    parts += aims("closed loops on two GPUs", found, {"TTFT": 0.20, "TPOT": 0.12, "requests/s": 0.06})
    parts += [
        "\nMissed: short prompts of the 8B model (9 to 14 ms measured, 8 to 12 predicted): the host's work per request, as on one GPU of that kind of host. The "
        "KV cache of the 70B model is what is left of a full GPU (3.85 GiB); 0.28 GiB more was left than predicted."
    ]
    two = pair("pipeline")
    parts += ["\n## A pipeline over two H100 of one host (NVLink): not fitted\n", *steps(two)]
    sizes = {phase: [abs(e) for sample in two for e in sample.errors(phase)] for phase in ("decode", "prefill")}
    rows, found = loads(two, "concurrency")
    parts += ["", *aims("two stages", sizes, {"decode": 0.05, "prefill": 0.08}), "", *rows, ""]
    parts += aims("closed loops through two stages", found, {"TTFT": 0.20, "TPOT": 0.12, "requests/s": 0.06})
    parts += [
        "\nMissed: with several requests a real pipeline of GPUs is slower than predicted, by 4 to 13 % in single steps and by 6 to 30 % in loops. vLLM plans pipelines "
        "on GPUs one step further ahead than the replay does, and the handing over between its processes is counted once per step, not per stage. The lab's pipelines "
        "(below) do not show it: there a step takes ten times longer. Until it is modelled, take the worse end of the range for pipelines."
    ]
    rows, sizes = loads([*fitted, *repeated, *foreign], "concurrency")
    parts += ["\n## Closed loops: never fitted, all requests counted\n", *rows, ""]
    parts += aims("closed loops", sizes, {"TTFT": 0.20, "TPOT": 0.12, "requests/s": 0.06})
    rows, sizes = loads([*fitted, *repeated], "request_rate_per_s")
    parts += ["\n## Poisson arrivals: never fitted\n", *rows, ""]
    parts += aims("Poisson arrivals", sizes, {"TTFT": 0.20, "TPOT": 0.12})
    parts += [
        "\nKnown gap: where every prompt has a step of its own, real steps are slower than ours (a 3B model: 17 to 19 ms for a prompt of 1024 tokens "
        "beside running requests, 15.5 ms alone), and the measuring process took arrivals only between steps, which adds to its TTFT. Loads of two "
        "models are too few to fit this.",
    ]
    parts += lab_section()
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "accuracy.md").write_text(page())
    print("wrote docs/accuracy.md")
