#!/usr/bin/env python3
"""Predictions against real vLLM on the lab: calibrate, predict (and commit), then measure. Needs Linux, two cores, and root for steady figures.

    python tools/measure_lab.py calibrate   # one rank's steps and the link, as facts      -> results/lab/calibration.json, facts.json
    python tools/measure_lab.py fit         # the facts again, from the same calibration
    python tools/measure_lab.py predict     # every cell, setting and bubble, from those   -> results/lab/predicted.json
    git commit results/lab                  # frozen: what is measured comes after
    python tools/measure_lab.py measure     # the same, with real engines                  -> results/lab/measured.json
    make accuracy                           # both, side by side                           -> docs/accuracy.md

Fitted are single steps of one rank, a ping over the link, and single steps of two ranks of a third model (what a gang costs beside its
work); no load is fitted, and no layout of several ranks of the models that are predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab_cells import BATCHED_TOKENS, CONFIGS, Bubble, Cell, accuracy_cells, bubbles, choice_cells, engines
from lab_fit import fit, predict_bubble, predict_cell
from lab_session import Engine, Lab
from provenance import cpu_name, git, save

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "lab"  # --results names another one
DECODE = [(1, 32), (1, 400), (2, 64), (4, 32), (4, 200), (8, 32), (16, 32)]
PREFILL = [4, 16, 32, 64, 128, 256]
PING_BYTES = (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
PING_RATES = (0, 100, 20)
SEED = 20261124


def write(name: str, document: dict[str, Any]) -> None:
    """One results file, whole or not at all."""
    save(RESULTS / name, document)


def conditions() -> dict[str, Any]:
    """Where and with what this is measured."""
    flags = [
        name
        for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if f" {name} " in Path("/proc/cpuinfo").read_text()
    ]
    load = Path("/proc/loadavg").read_text().split()[:3]
    return {
        "commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "src", "tools")), "date": time.strftime("%Y-%m-%d"),
        "processor": cpu_name(), "cores": len(os.sched_getaffinity(0)), "instructions": flags, "kernel": platform.release(),
        "load_average_at_start": load, "seed": SEED, "max_num_batched_tokens": BATCHED_TOKENS,
    }  # fmt: skip


def config_file(model: str, directory: Path) -> Path:
    """Its config.json, where the lab's hosts read it."""
    path = directory / f"{model}.json"
    path.write_text(json.dumps(CONFIGS[model]))
    return path


def start(lab: Lab, model: str, tensor: int, pipeline: int, directory: Path) -> Engine:
    """An engine of the lab, up."""
    engine = Engine(
        lab.state, config_file(model, directory), log=directory / f"{model}-{tensor}-{pipeline}.log",
        tensor=tensor, pipeline=pipeline, batched_tokens=BATCHED_TOKENS,
    )  # fmt: skip
    engine.said = engine.ready()
    print(f"{model} TP{tensor} PP{pipeline} up: {engine.said}", flush=True)
    return engine


def merged(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Two passes as one: every run is kept, and the middle of all counts. A machine's pace drifts from one quarter of an hour to the next."""
    for row, again in zip(earlier["ping"], later["ping"], strict=True):
        row["ms"] += again["ms"]
    for key in ("points", "gangs"):
        for row, again in zip(earlier[key], later[key], strict=True):
            row["all_ms"] += again["all_ms"]
            row["time_ms"] = round(statistics.median(row["all_ms"]), 3)
    return earlier | {
        "passes": [*earlier.get("passes", [{k: earlier[k] for k in _WHEN}]), {k: later[k] for k in _WHEN}]
    }


_WHEN = ("commit", "dirty", "date", "load_average_at_start")


def calibrate(directory: Path, *, again: bool) -> None:
    """One rank's steps of both models, the link between two hosts, and two ranks of a third model."""
    document: dict[str, Any] = conditions() | {"points": [], "ping": [], "gangs": []}
    with Lab(2) as lab:
        for rate in PING_RATES:
            lab.rate(rate or None)
            for size, times in lab.ping(PING_BYTES).items():
                document["ping"].append({"rate_mbit": rate, "bytes": size, "ms": times})
        lab.rate(None)
        for model in ("even", "smollm2"):
            with start(lab, model, 1, 1, directory) as engine:
                document.setdefault("engines", []).append({"model": model, **engine.said})
                for tokens in PREFILL:
                    found = engine.order("prefill", batch=1, tokens=tokens)
                    document["points"].append(
                        {
                            "model": model,
                            "phase": "prefill",
                            "batch": 1,
                            "context_tokens": 0,
                            "new_tokens": tokens,
                            **found,
                        }
                    )
                for batch, prompt in DECODE:
                    found = engine.order("decode", batch=batch, prompt=prompt)
                    document["points"].append(
                        {"model": model, "phase": "decode", "batch": batch, "new_tokens": 1, **found}
                    )
            print(f"{model}: {len(document['points'])} points", flush=True)
        # What several ranks cost beside their work: from a model that is not among those predicted.
        for tensor, pipeline in ((2, 1), (1, 2)):
            with start(lab, "small", tensor, pipeline, directory) as engine:
                for rate in PING_RATES:
                    lab.rate(rate or None)
                    where = {"model": "small", "tensor": tensor, "pipeline": pipeline, "rate_mbit": rate}
                    # Of eight requests a pipeline has two steps under way: no core is idle.
                    for batch in (1, 8):
                        found = engine.order("decode", batch=batch, prompt=32)
                        document["gangs"].append({**where, "phase": "decode", "batch": batch, "new_tokens": 1, **found})
                    for tokens in (16, 32, 64, 128):
                        found = engine.order("prefill", batch=1, tokens=tokens)
                        document["gangs"].append(
                            {
                                **where,
                                "phase": "prefill",
                                "batch": 1,
                                "context_tokens": 0,
                                "new_tokens": tokens,
                                **found,
                            }
                        )
            lab.rate(None)
    if again:
        document = merged(json.loads((RESULTS / "calibration.json").read_text()), document)
    write("calibration.json", document)
    write("facts.json", fit(document))


def predict() -> None:
    """Everything that `measure` will measure."""
    facts = RESULTS / "facts.json"
    document: dict[str, Any] = conditions()
    document["cells"] = {cell.name: predict_cell(cell, facts) for cell in sorted({*choice_cells(), *accuracy_cells()})}
    document["bubbles"] = {bubble.name: predict_bubble(bubble, facts) for bubble in bubbles()}
    write("predicted.json", document)
    print(f"{len(document['cells'])} cells and {len(document['bubbles'])} bubbles predicted")


def measure(directory: Path, repeats: int, only: str, pattern: str) -> None:
    """Every cell and bubble, ``repeats`` times in a new order each time; engine after engine. With a pattern only cells whose name has it."""
    draw = random.Random(SEED)
    cells = [cell for cell in sorted({*choice_cells(), *accuracy_cells()}) if re.search(pattern, cell.name)]
    document: dict[str, Any] = conditions() | {"repeats": repeats, "engines": [], "cells": {}, "bubbles": {}}
    if only and (RESULTS / "measured.json").exists():
        document = json.loads((RESULTS / "measured.json").read_text())
    with Lab(3) as lab:
        for model, tensor, pipeline in engines():
            mine: list[Cell | Bubble] = [
                c for c in cells if (c.model, c.tensor, c.pipeline) == (model, tensor, pipeline)
            ]
            if tensor == 1 and not pattern:
                mine += [b for b in bubbles() if (b.model, b.pipeline) == (model, pipeline)]
            if not mine or (only and only not in f"{model}-TP{tensor}-PP{pipeline}"):
                continue
            lab.rate(None)
            with start(lab, model, tensor, pipeline, directory) as engine:
                document["engines"].append({"model": model, "tensor": tensor, "pipeline": pipeline, **engine.said})
                engine.order("loop", prompt=32, output=4, concurrency=2, requests=4)  # warms up
                for _ in range(repeats):
                    for item in sorted(mine, key=lambda _: draw.random()):
                        one_of(lab, engine, item, document)
                        write("measured.json", document)


def one_of(lab: Lab, engine: Engine, item: Cell | Bubble, document: dict[str, Any]) -> None:
    """One run of one cell or bubble, kept beside the earlier ones."""
    if isinstance(item, Bubble):
        lab.rate(None)
        found = engine.order("prefill", batch=1, tokens=item.chunks * BATCHED_TOKENS)
        document["bubbles"].setdefault(item.name, {**asdict(item), "runs": []})["runs"].append(found)
    else:
        lab.rate(item.rate or None)
        found = engine.order(
            "loop", prompt=item.prompt, output=item.output, concurrency=item.concurrency, requests=item.requests
        )
        document["cells"].setdefault(item.name, {**asdict(item), "runs": []})["runs"].append(found)
    shown = {
        key: found[key]
        for key in ("time_ms", "requests_per_s", "mean_ttft_ms", "mean_tpot_ms", "took_s")
        if key in found
    }
    print(f"{item.name}: {shown}", flush=True)


def main() -> None:
    """Which step."""
    global RESULTS  # noqa: PLW0603 - one round per run
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("step", choices=["calibrate", "fit", "predict", "measure"])
    ask.add_argument("--repeats", type=int, default=2)
    ask.add_argument(
        "--only",
        default="",
        help="measure: only engines whose name (even-TP1-PP2) contains this, into the file that is there",
    )
    ask.add_argument(
        "--cells", default="", metavar="PATTERN", help="measure: only cells whose name matches, no bubbles"
    )
    ask.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="calibration, facts, predictions and measurements of a round",
    )
    ask.add_argument("--again", action="store_true", help="calibrate: a further pass, added to those that are there")
    args = ask.parse_args()
    RESULTS = args.results
    directory = Path(tempfile.mkdtemp(prefix="spanwise-lab-"))
    print(f"logs in {directory}", file=sys.stderr)
    if args.step == "calibrate":
        calibrate(directory, again=args.again)
    elif args.step == "fit":
        write("facts.json", fit(json.loads((RESULTS / "calibration.json").read_text())))
    elif args.step == "predict":
        predict()
    else:
        measure(directory, args.repeats, args.only, args.cells)


if __name__ == "__main__":
    main()
