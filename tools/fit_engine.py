#!/usr/bin/env python3
"""Fit the engine's efficiencies (src/spanwise/facts/engines.yaml) to measured points, and judge the fit on what it has not seen.

    python tools/fit_engine.py results/gpu/*/*.json --leave-one-out --out results/gpu/fit.json

The model of time is the product's own (spanwise.estimate.points); only its constants vary. Least squares on the logarithm of predicted
over measured, soft in outliers, with a weak pull towards the start values so that a constant which the data does not say stays put.
``--leave-one-out`` fits again without each model in turn and reports the error on the one left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from spanwise.estimate.layout import Layout
from spanwise.estimate.points import Point, seconds
from spanwise.estimate.rates import rates
from spanwise.estimate.step import costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.dtypes import weight_format

# quantity: (start, least, most, one value for both precisions)
SPACE: dict[str, tuple[float, float, float, bool]] = {
    "memory_efficiency": (0.86, 0.5, 1.0, False),
    "kv_efficiency": (0.91, 0.5, 1.0, True),
    "small_compute_efficiency": (0.70, 0.3, 1.0, False),
    "large_compute_efficiency": (0.63, 0.3, 0.9, False),
    "expert_efficiency": (0.48, 0.2, 0.9, True),
    "attention_efficiency": (0.60, 0.3, 0.95, True),
    "blend": (2.2, 1.2, 6.0, True),
    "mid_batch_penalty": (1.3, 1.0, 1.6, False),
    "activation_traffic": (20.0, 0.0, 200.0, False),
    "layer_overhead": (35e-6, 5e-6, 80e-6, True),
    "step_overhead": (0.2e-3, 0.0, 1e-3, True),
    "request_overhead": (3.8e-3, 2e-3, 6e-3, True),
    "sequence_overhead": (4e-6, 0.0, 2e-5, True),
}
FIXED = {("sixteen", "mid_batch_penalty"): 1.0}
GPU_NAMES = {"NVIDIA H200": "H200-141GB-SXM", "NVIDIA H100 80GB HBM3": "H100-80GB-SXM"}
PULL = 0.02


def names() -> list[tuple[str, ...]]:
    """Every free constant: (quantity,) shared, or (quantity, precision)."""
    found: list[tuple[str, ...]] = []
    for quantity, (_, _, _, shared) in SPACE.items():
        if shared:
            found.append((quantity,))
        else:
            found += [(quantity, kind) for kind in ("sixteen", "eight") if (kind, quantity) not in FIXED]
    return found


class Sample:
    """Points of one model on one GPU."""

    def __init__(self, document: dict[str, Any], path: str) -> None:
        self.path, self.model, self.dtype = path, document["model"], document["dtype"]
        self.gpu_name = GPU_NAMES[document.get("gpu_before", {}).get("name", "NVIDIA H200")]
        self.gpu, self.weights = FactBook().gpu(self.gpu_name), weight_format(self.dtype)
        self.cut = costs(model_facts(document["config"]), self.weights, Layout(1, 1, 1))
        self.points = document["points"]

    @property
    def label(self) -> str:
        """Model, precision and GPU."""
        return f"{self.model} {self.dtype} on {self.gpu_name}"

    def predict(self, constants: dict[tuple[str, ...], float]) -> list[float]:
        """Milliseconds per point under these constants."""
        engine = {}
        for kind, facts in self.gpu.engine.items():
            engine[kind] = {
                name: replace(
                    fact,
                    value=FIXED.get((kind, name), constants.get((name,), constants.get((name, kind), fact.value))),
                )
                for name, fact in facts.items()
            }
        used = rates(replace(self.gpu, engine=engine), None, self.weights, "expected")
        return [
            seconds(
                used, self.cut, Point(**{k: p[k] for k in ("phase", "batch", "context_tokens", "new_tokens")}), 8192
            )
            * 1e3
            for p in self.points
        ]

    def weight(self, point: dict[str, Any]) -> float:
        """Several prompts at once measure how the engine groups them as they arrive; tiny prompts measure the host."""
        if point["phase"] == "decode":
            return 1.0
        if point["batch"] > 1:
            return 0.1
        return 0.3 if point["new_tokens"] < 300 else 1.0


def fit(samples: list[Sample]) -> dict[tuple[str, ...], float]:
    """The constants that fit these samples best."""
    free = names()
    start = np.array([SPACE[name[0]][0] for name in free])
    low, high = (np.array([SPACE[name[0]][index] for name in free]) for index in (1, 2))

    def residuals(values: np.ndarray) -> np.ndarray:
        constants = dict(zip(free, values, strict=True))
        found = []
        for sample in samples:
            for predicted, point in zip(sample.predict(constants), sample.points, strict=True):
                found.append(sample.weight(point) * np.log(predicted / point["time_ms"]))
        return np.array(found + list(PULL * (values - start) / start))

    answer = least_squares(
        residuals, start, bounds=(low, high), x_scale=start, loss="soft_l1", f_scale=0.02, diff_step=1e-4
    )
    return dict(zip(free, map(float, answer.x), strict=True))


def errors(sample: Sample, constants: dict[tuple[str, ...], float]) -> dict[str, Any]:
    """Signed relative errors of one sample, and the median absolute one per phase (single prompts)."""
    rows = [
        {**{k: p[k] for k in ("phase", "batch", "context_tokens", "new_tokens")}, "measured_ms": p["time_ms"],
         "predicted_ms": round(predicted, 3), "error": round(predicted / p["time_ms"] - 1, 4)}
        for predicted, p in zip(sample.predict(constants), sample.points, strict=True)
    ]  # fmt: skip
    found: dict[str, Any] = {"sample": sample.label, "file": sample.path}
    for phase in ("decode", "prefill"):
        picked = [
            abs(row["error"]) for row in rows if row["phase"] == phase and (phase == "decode" or row["batch"] == 1)
        ]
        if picked:
            found[f"{phase}_median"] = round(statistics.median(picked), 4)
            found[f"{phase}_worst"] = round(max(picked), 4)
    return found | {"points": rows}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """One line per sample."""
    print(title)
    for row in rows:
        shown = "  ".join(
            f"{key} {row[key]:.1%}"
            for key in ("decode_median", "decode_worst", "prefill_median", "prefill_worst")
            if key in row
        )
        print(f"  {row['sample']:<46} {shown}")


def main() -> None:
    """Fit, judge, print, write."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("files", nargs="+", type=Path)
    ask.add_argument("--leave-one-out", action="store_true")
    ask.add_argument("--out", type=Path)
    args = ask.parse_args()
    samples = [Sample(json.loads(path.read_text()), path.as_posix()) for path in args.files]
    constants = fit(samples)
    for name, value in constants.items():
        print(f"  {'.'.join(name):<36} {value:.4g}")
    seen = [errors(sample, constants) for sample in samples]
    show("fitted", seen)
    unseen = []
    if args.leave_one_out:
        for model, dtype in sorted({(sample.model, sample.dtype) for sample in samples}):
            others = fit([sample for sample in samples if (sample.model, sample.dtype) != (model, dtype)])
            unseen += [errors(sample, others) for sample in samples if (sample.model, sample.dtype) == (model, dtype)]
        show("left out of the fit", unseen)
    if args.out:
        document = {
            "constants": {".".join(k): v for k, v in constants.items()},
            "fitted": seen,
            "left_out": unseen,
        }
        args.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
