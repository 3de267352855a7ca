"""From the lab's calibration to facts, and from facts to what is predicted for a cell: the product's own estimator throughout."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lab_cells import BATCHED_TOKENS, CONFIGS, Bubble, Cell
from scipy.optimize import least_squares

from spanwise.estimate.layout import Layout, stage_layers
from spanwise.estimate.memory import kv_bytes_per_rank
from spanwise.estimate.points import Point, seconds
from spanwise.estimate.rates import Link, Rates, rates
from spanwise.estimate.replay import BLOCK_TOKENS, replay
from spanwise.estimate.serving import Load
from spanwise.estimate.step import Costs, costs, prefill
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook, load_facts
from spanwise.facts.dtypes import weight_format
from spanwise.intent.types import InlineFabric
from spanwise.lab.wiring import PACKET_BYTES, shaping

FLOAT32 = weight_format("float32")
KV_BYTES, MAX_SEQUENCES = 256 << 20, 64
# Peaks that the efficiencies are shares of: 25 GB/s of one core, and two AVX2 multiply-adds per cycle at 3 GHz, doubled because the
# estimator halves the 16-bit peak for float32. Only their products with the fitted shares mean anything.
PEAKS = {"memory_bandwidth": (25e9, "B/s"), "bf16_flops": (192e9, "FLOP/s")}
# quantity: (field of Rates, start, least, most, unit)
SPACE: dict[str, tuple[str, float, float, float, str]] = {
    "memory_efficiency": ("memory", 0.7, 0.1, 1.0, "1"),
    "kv_efficiency": ("kv", 0.3, 0.01, 1.0, "1"),
    "small_compute_efficiency": ("small_compute", 0.7, 0.1, 1.0, "1"),
    "attention_efficiency": ("attention", 0.2, 0.01, 1.0, "1"),
    "blend": ("blend", 1.2, 1.0, 6.0, "1"),
    "layer_overhead": ("layer_overhead", 1e-3, 1e-5, 1e-2, "s"),
    "step_overhead": ("step_overhead", 3e-3, 1e-5, 5e-2, "s"),
    "request_overhead": ("request_overhead", 1e-3, 1e-5, 0.1, "s"),
    "sequence_overhead": ("sequence_overhead", 1e-4, 1e-6, 1e-2, "s"),
}


def _cut(model: str, layout: Layout) -> Costs:
    return costs(model_facts(CONFIGS[model]), FLOAT32, layout)


def _with(base: Rates, values: dict[str, float]) -> Rates:
    """``base`` with these efficiencies."""
    bandwidth, flops = PEAKS["memory_bandwidth"][0], PEAKS["bf16_flops"][0] / 2
    peak = {"memory": bandwidth, "kv": bandwidth, "small_compute": flops, "attention": 2 * flops}
    found = {SPACE[name][0]: value * peak.get(SPACE[name][0], 1.0) for name, value in values.items()}
    return replace(
        base, head_memory=found["memory"], large_compute=found["small_compute"], head_compute=found["small_compute"], **found
    )  # fmt: skip


def fit(calibration: dict[str, Any]) -> dict[str, Any]:
    """A facts file: what one rank makes of a core, and what the link is."""
    base = rates(FactBook().gpu("lab-cpu"), None, FLOAT32, "expected")
    cuts = {model: _cut(model, Layout(1, 1, 1)) for model in CONFIGS}
    points = calibration["points"]
    start = np.array([row[1] for row in SPACE.values()])

    def residuals(logs: np.ndarray) -> np.ndarray:
        used = _with(base, dict(zip(SPACE, np.exp(logs), strict=True)))
        found = [
            np.log(seconds(used, cuts[p["model"]], _point(p), BATCHED_TOKENS) * 1e3 / p["time_ms"]) for p in points
        ]
        return np.array(found + list(0.005 * (logs - np.log(start))))

    bounds = ([np.log(row[2]) for row in SPACE.values()], [np.log(row[3]) for row in SPACE.values()])
    answer = least_squares(residuals, np.log(start), bounds=bounds, loss="soft_l1", f_scale=0.03, diff_step=1e-4)
    values = dict(zip(SPACE, map(float, np.exp(answer.x)), strict=True))
    errors = residuals(answer.x)[: len(points)]
    spread = float(np.std(errors))
    used = _with(base, values)
    for p, error in zip(points, errors, strict=True):
        print(f"  {p['model']:<8} {p['phase']:<8} {p['batch']:>3} x {p['new_tokens']:>4} at {p['context_tokens']:>4}: "
              f"{p['time_ms']:8.2f} ms, fitted {seconds(used, cuts[p['model']], _point(p), BATCHED_TOKENS) * 1e3:8.2f} ({np.expm1(error):+.1%})")  # fmt: skip
    print(f"  residuals: median {np.median(np.abs(errors)):.1%}")
    facts = [_fact(f"lab-cpu.{name}", value, unit, value, value) for name, (value, unit) in PEAKS.items()]
    facts += [
        _fact(
            f"lab-cpu.{name}",
            value,
            SPACE[name][4],
            value * (1 - 2 * spread),
            min(value * (1 + 2 * spread), SPACE[name][3]),
        )
        for name, value in values.items()
    ]
    facts.append(_fact("lab-cpu.large_compute_efficiency", values["small_compute_efficiency"], "1", None, None))
    facts.append(_fact("lab-cpu.shared_cores", float(calibration["cores"]), "1", None, None))
    return {
        "schema": "spanwise.facts/1",
        "facts": facts + _gangs(replace(used, shared_cores=calibration["cores"]), calibration),
    }


def _point(p: dict[str, Any]) -> Point:
    return Point(phase=p["phase"], batch=p["batch"], context_tokens=p["context_tokens"], new_tokens=p["new_tokens"])


def _link(ping: list[dict[str, Any]]) -> tuple[float, float, list[float]]:
    """Hop, bytes per second where no rate is set, shares of a set rate. Two ranks: an all-reduce is two hops and each byte once."""
    middle = {(row["rate_mbit"], row["bytes"]): statistics.median(row["ms"]) / 1e3 for row in ping}
    # Sizes that the engine's all-reduces have; a megabyte at 20 Mbit/s was once held up by half a second.
    small, large = 1 << 14, 1 << 18
    free = (large - small) / (middle[0, large] - middle[0, small])
    shares = sorted(
        (large - small) / (middle[rate, large] - middle[rate, small]) / (rate * 1e6 / 8)
        for rate in {r for r, _ in middle if r}
    )
    return (middle[0, small] - small / free) / 2, free, shares


def _gangs(used: Rates, calibration: dict[str, Any]) -> list[dict[str, Any]]:
    """What several ranks cost beside their work: the hop as the engine sees it, and the overhead per step."""
    ping_hop, free, shares = _link(calibration["ping"])
    points = calibration["gangs"]
    cuts = {(p["tensor"], p["pipeline"]): _cut("small", Layout(p["tensor"], p["pipeline"], 1)) for p in points}

    def predicted(p: dict[str, Any], logs: np.ndarray) -> float:
        hop, overhead, share, speed, taken = np.exp(logs)
        far = _shaped(p["rate_mbit"], hop, share, speed)
        point = seconds(
            replace(used, far=far, gang_overhead=overhead, engine_cpu=taken),
            cuts[p["tensor"], p["pipeline"]],
            _point(p),
            BATCHED_TOKENS,
        )
        return float(point * 1e3)

    start = np.log([ping_hop, 5e-3, statistics.fmean(shares), free / 2, 5e-3])
    bounds = (np.log([ping_hop / 3, 1e-4, 0.5, free / 20, 1e-4]), np.log([ping_hop * 5, 5e-2, 1.0, free, 5e-2]))
    answer = least_squares(
        lambda logs: np.array([np.log(predicted(p, logs) / p["time_ms"]) for p in points]),
        start, bounds=bounds, loss="soft_l1", f_scale=0.03, diff_step=1e-4,
    )  # fmt: skip
    hop, overhead, share, speed, taken = map(float, np.exp(answer.x))
    for p in points:
        print(f"  small TP{p['tensor']} PP{p['pipeline']} @ {p['rate_mbit']:>3} {p['phase']:<8} {p['new_tokens']:>4}: {p['time_ms']:8.2f} ms, "
              f"fitted {predicted(p, answer.x):8.2f} ({predicted(p, answer.x) / p['time_ms'] - 1:+.1%})")  # fmt: skip
    print(
        f"  hop {hop * 1e6:.0f} us (ping {ping_hop * 1e6:.0f}), gang {overhead * 1e3:.1f} ms, engine {taken * 1e3:.1f} ms, share {share:.3f} (ping {shares}), free {free * 8e-9:.2f} Gbit/s"
    )
    return [
        _fact("inline.hop", hop, "s", 0.7 * hop, 1.5 * hop),
        _fact("inline.efficiency", share, "1", min(share, *shares), max(share, *shares)),
        _fact("lab-cpu.gang_overhead", overhead, "s", 0.6 * overhead, 1.5 * overhead),
        _fact("lab-cpu.engine_cpu", taken, "s", 0.5 * taken, 2 * taken),
        _fact("lab-shared-memory.bandwidth", speed, "B/s", 0.5 * speed, max(free, 1.5 * speed)),
    ]


def _shaped(rate_mbit: float, hop: float, share: float, free: float) -> Link:
    """A link of the lab: shaped to a rate, with the bucket that it is shaped with; or free."""
    if not rate_mbit:
        return Link(hop=hop, bytes_per_s=free, allreduce_floor=None, per_gpu=False)
    words = shaping(rate_mbit * 1e6)
    burst = float(words[words.index("burst") + 1].removesuffix("b"))
    # A bucket of one packet saves nothing measurable (ping: 16 KB at 20 Mbit/s).
    burst = burst if burst >= 2 * PACKET_BYTES else 0.0
    return Link(hop=hop, bytes_per_s=share * rate_mbit * 1e6 / 8, allreduce_floor=None, per_gpu=False, burst=burst)


def _fact(name: str, value: float, unit: str, low: float | None, high: float | None) -> dict[str, Any]:
    found = {"name": name, "value": value, "unit": unit, "source": "tools/measure_lab.py calibrate", "date": time.strftime("%Y-%m-%d"),
             "kind": "measured"}  # fmt: skip
    return found if low is None else found | {"low": low, "high": high}


def lab_rates(facts: Path, rate_mbit: float) -> Rates:
    """The lab's core and its link at this rate; 0 is not limited."""
    book = load_facts(facts)
    link = book.fabric(InlineFabric(latency_us=1, bandwidth_gbit_per_s=1))
    base = rates(book.gpu("lab-cpu"), None, FLOAT32, "expected")
    free = book.fabric("lab-shared-memory").bandwidth.value
    return replace(base, far=_shaped(rate_mbit, link.hop.value, link.efficiency.value, free))


def kv_capacity(model: str, layout: Layout) -> int:
    """Tokens of KV cache of the whole replica: the stage with the most layers decides."""
    layers = model_facts(CONFIGS[model]).layer_facts
    first, least = 0, 1 << 60
    for count in stage_layers(len(layers), layout.pipeline_parallel_size):
        each = sum(
            kv_bytes_per_rank(layer, FLOAT32, layout.tensor_parallel_size) for layer in layers[first : first + count]
        )
        least, first = min(least, KV_BYTES // each), first + count
    return least // BLOCK_TOKENS * BLOCK_TOKENS


def predict_cell(cell: Cell, facts: Path) -> dict[str, float]:
    """What the clients of the closed loop will see."""
    layout = Layout(cell.tensor, cell.pipeline, 1)
    capacity = kv_capacity(cell.model, layout)
    seen = replay(
        lab_rates(facts, cell.rate), _cut(cell.model, layout),
        Load(input_tokens=cell.prompt, output_tokens=cell.output, concurrency=cell.concurrency),
        kv_capacity_tokens=capacity, batched_tokens=BATCHED_TOKENS, max_sequences=MAX_SEQUENCES, requests=cell.requests,
    )  # fmt: skip
    return {
        "requests_per_s": round(seen.requests_per_s, 5),
        "mean_ttft_ms": round(seen.mean_ttft_s() * 1e3, 2),
        "mean_tpot_ms": round(seen.mean_tpot_s() * 1e3, 3),
        "kv_capacity_tokens": capacity,
        # More requests than this at once find no room for their prompts in the token budget: the saturation point.
        "slots": min(
            MAX_SEQUENCES,
            capacity // (cell.prompt + cell.output),
            round(BATCHED_TOKENS / (1 + cell.prompt / cell.output), 1),
        ),
    }


def predict_bubble(bubble: Bubble, facts: Path) -> dict[str, float]:
    """Milliseconds of one prompt of that many chunks."""
    used, layout = lab_rates(facts, 0), Layout(1, bubble.pipeline, 1)
    step = prefill(used, _cut(bubble.model, layout), bubble.chunks * BATCHED_TOKENS, batched_tokens=BATCHED_TOKENS)
    return {"time_ms": round((step.latency + used.request_overhead) * 1e3, 3)}
