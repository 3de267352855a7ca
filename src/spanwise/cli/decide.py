"""``spanwise decide``: is spreading this model justified?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from spanwise.cli import frame
from spanwise.cli.explain import explain as explain_code
from spanwise.errors import InputError

if TYPE_CHECKING:
    from spanwise.decide.types import Failure, Predicted, Verdict
    from spanwise.intent.types import Intent


def decide(
    intent_file: Annotated[
        str | None, typer.Argument(metavar="INTENT.yaml", help="What is asked: model, hardware, workload; - is stdin.")
    ] = None,
    facts: Annotated[
        str | None, typer.Option("--facts", help="Facts that beat the catalogue (spanwise.facts/1).")
    ] = None,
    tensor_parallel_size: Annotated[int | None, typer.Option(min=1, help="Insist on this size.")] = None,
    pipeline_parallel_size: Annotated[int | None, typer.Option(min=1, help="Insist on this size.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Insist on this number.")] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="CODE", help="Say what a code in a verdict means, and stop.")
    ] = None,
    as_json: frame.JsonFlag = False,
) -> None:
    """Say whether one GPU, one node or several nodes are right, with budget, predictions, alternatives and reasons.

    Example: spanwise decide examples/llama-3-70b-10gbe.yaml
    """
    frame.wants_json(as_json)
    if explain is not None:
        explain_code(explain, as_json=as_json)
        return
    if intent_file is None:
        raise InputError(
            "INTENT.yaml is missing",
            where="decide",
            remedy="name an intent file, or `-` for standard input; see `spanwise decide --help`",
        )
    from pathlib import Path

    from spanwise.checkpoints.resolve import resolve_config
    from spanwise.decide import PinnedLayout
    from spanwise.decide import decide as judge
    from spanwise.facts.architectures import model_facts
    from spanwise.facts.book import load_facts
    from spanwise.intent.load import load_intent

    intent = load_intent(intent_file)
    book = load_facts(facts)
    found = resolve_config(intent.model, intent.revision, base=Path(intent_file).parent)
    pinned = PinnedLayout(
        tensor_parallel_size=tensor_parallel_size, pipeline_parallel_size=pipeline_parallel_size, replicas=replicas
    )
    verdict = judge(intent, model_facts(found.config, name=intent.model), book, pinned=pinned)
    _note_prices(intent)
    if as_json:
        frame.print_json(verdict.as_json())
    else:
        frame.echo(show(intent, verdict, found.source))


def _note_prices(intent: Intent) -> None:
    gpu = intent.hardware.gpu
    name = gpu if isinstance(gpu, str) else gpu.name
    prices = intent.prices_per_gpu_hour
    if prices and name not in prices:
        frame.note(
            f"prices_per_gpu_hour prices {', '.join(prices)[:200]}, not {name} (hardware.gpu): its cost is not shown"
        )


# Times from here on are shown in seconds.
_SECONDS_FROM_MS = 10_000
_HEADLINES = {
    "one_gpu": "one GPU per replica",
    "one_node": "one node per replica",
    "multi_node": "several nodes per replica",
    "infeasible": "infeasible on this hardware",
}


def show(intent: Intent, verdict: Verdict, source: str) -> str:
    """The verdict as plain aligned text, the sentence first."""
    lines = [_sentence(intent, verdict), ""]
    lines += [f"  {reason.code}: {reason.text}" for reason in verdict.reasons]
    lines += _budget(verdict)
    if verdict.predicted is not None:
        lines += ["", "predicted (range: every rate at its best and at its worst)", *_figures(verdict.predicted)]
    if len(verdict.pareto) > 1:
        lines += ["", "not beaten in latency, throughput and GPUs at once (Pareto front)", *_front(verdict)]
    if verdict.failure is not None:
        lines += ["", *_failure(verdict.failure)]
    if verdict.rejected:
        lines += ["", "rejected"]
        lines += [f"  {item.role.replace('_', ' ')}: [{item.code}] {item.text}" for item in verdict.rejected]
    if verdict.flips:
        lines += ["", "what would change the verdict"]
        lines += [
            f"  {item.what} {_plain(item.from_)} -> {_plain(item.to)} ({item.verdict}): {item.text}"
            for item in verdict.flips
        ]
    lines += ["", f"facts (model: config.json from {source})"]
    sources = list(dict.fromkeys(f"{fact.source} ({fact.date})" for fact in verdict.facts))
    width = max((len(fact.name) for fact in verdict.facts), default=0)
    for fact in verdict.facts:
        spread = "" if fact.low is None or fact.high is None else f" ({fact.low:.4g} to {fact.high:.4g})"
        mark = sources.index(f"{fact.source} ({fact.date})") + 1
        unit = "" if fact.unit == "1" else f" {fact.unit}"  # a share or a factor
        lines.append(f"  {fact.name:<{width}}  {fact.value:.5g}{unit}{spread}, {fact.kind} [{mark}]")
    return "\n".join([*lines, *(f"  [{number}] {source}" for number, source in enumerate(sources, 1))])


def _sentence(intent: Intent, verdict: Verdict) -> str:
    hardware = intent.hardware
    gpu = hardware.gpu if isinstance(hardware.gpu, str) else hardware.gpu.name
    at_hand = f"{hardware.nodes} x {hardware.gpus_per_node} x {gpu}"
    if hardware.fabric is not None and hardware.nodes > 1:
        at_hand += f" over {hardware.fabric if isinstance(hardware.fabric, str) else 'the fabric given'}"
    head = f"{intent.model} on {at_hand}: {_HEADLINES[verdict.verdict]}"
    chosen = verdict.chosen
    if chosen is None:
        return head
    layout = (
        f"tensor {chosen.tensor_parallel_size} x pipeline {chosen.pipeline_parallel_size} x {chosen.replicas} "
        f"replica{'s' if chosen.replicas > 1 else ''} = {_gpus(chosen.gpus)}"
    )
    if verdict.justified:
        why = "spreading is justified"
    elif chosen.gpus == 1:
        why = "spreading is not justified"
    else:
        why = "this spread is not justified"
    spares = 0 if verdict.failure is None else verdict.failure.spares
    spare = (
        f", plus {spares} spare replica{'s' if spares > 1 else ''} ({_gpus(spares * chosen.world_size)})"
        if spares
        else ""
    )
    return f"{head}, {layout} in {chosen.dtype}{spare}; {why}"


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"


def _gib(size: int) -> str:
    return f"{size / 2**30:8.2f} GiB"


def _budget(verdict: Verdict) -> list[str]:
    memory = verdict.memory
    if memory is None:
        return []
    over = memory.usable_bytes - (
        memory.weights_bytes_per_gpu + memory.activation_bytes_per_gpu + memory.reserve_bytes_per_gpu
    )
    rows = [
        ("usable", _gib(memory.usable_bytes), f"of {memory.gpu_memory_bytes / 2**30:.1f} GiB"),
        ("weights", _gib(memory.weights_bytes_per_gpu), ""),
        ("activations", _gib(memory.activation_bytes_per_gpu), ""),
        ("reserve", _gib(memory.reserve_bytes_per_gpu), ""),
    ]
    if over >= 0:
        note = f"{memory.kv_capacity_tokens} tokens per replica, {memory.kv_needed_tokens} needed"
        rows.append(("KV cache", _gib(memory.kv_bytes_per_gpu), note))
    else:
        rows.append(("missing", _gib(-over), ""))
    return ["", "memory of the tightest GPU", *(f"  {name:<12}{size}  {note}".rstrip() for name, size, note in rows)]


def _figures(predicted: Predicted) -> list[str]:
    rows = [
        ("TTFT", predicted.ttft_ms, "ttft_ms", "ms"),
        ("TTFT p95", predicted.ttft_p95_ms, "ttft_p95_ms", "ms"),
        ("TPOT", predicted.tpot_ms, "tpot_ms", "ms"),
        ("TPOT p95", predicted.tpot_p95_ms, "tpot_p95_ms", "ms"),
        ("output", predicted.output_tokens_per_s, "output_tokens_per_s", "tokens/s"),
        ("requests", predicted.requests_per_s, "requests_per_s", "1/s"),
        ("saturation", predicted.max_requests_per_s, "max_requests_per_s", "1/s"),
    ]
    if predicted.steady_ttft_p95_ms is not None:  # a closed loop: what an objective is held against
        rows.insert(2, ("  steady", predicted.steady_ttft_p95_ms, "steady_ttft_p95_ms", "ms"))
    lines = []
    for name, value, key, unit in rows:
        lines.append(_figure(name, value, predicted.uncertainty.get(key), unit))
    if predicted.cost_per_hour is not None and predicted.cost_per_million_output_tokens is not None:
        per_million = predicted.cost_per_million_output_tokens
        lines.append(
            f"  {'cost':<12}{predicted.cost_per_hour:>10.4g} per hour, {per_million:.4g} per million output tokens"
        )
    return lines + [f"  note: {caveat}" for caveat in predicted.caveats]


def _figure(name: str, value: float | None, spread: tuple[float, float] | None, unit: str) -> str:
    if value is None:
        return f"  {name:<12}{'grows':>10} without end"
    low, high = spread or (value, value)
    scale = 1.0
    if unit == "ms" and max(value, high) >= _SECONDS_FROM_MS:
        scale, unit = 1e-3, "s"
    between = "" if spread is None else f"  {_four(low * scale)} to {_four(high * scale)}"
    return f"  {name:<12}{_four(value * scale):>10} {unit:<9}{between}".rstrip()


def _four(value: float) -> str:
    """About four digits, large figures without an exponent."""
    return f"{value:.4g}" if abs(value) < 9999.5 else f"{value:.0f}"


def _front(verdict: Verdict) -> list[str]:
    priced = verdict.pareto[0].cost_per_hour is not None
    rows = [("layout", "GPUs", "TPOT ms", "TTFT ms", "requests/s", "cost/h" if priced else "", "")]
    for point in verdict.pareto:
        layout = f"{point.tensor_parallel_size} x {point.pipeline_parallel_size} x {point.replicas}"
        notes = ["chosen"] if point.chosen else []
        notes += [f"{point.nodes_per_replica} nodes each"] if point.nodes_per_replica > 1 else []
        notes += ["+".join(map(str, point.uneven_stage_layers)) + " layers"] if point.uneven_stage_layers else []
        notes += [] if point.keeps_objectives else ["misses what is asked"]
        ttft = "grows" if point.ttft_ms is None else _four(point.ttft_ms)
        cost = "" if point.cost_per_hour is None else f"{point.cost_per_hour:.4g}"
        rows.append(
            (
                layout,
                str(point.gpus),
                _four(point.tpot_ms),
                ttft,
                _four(point.requests_per_s),
                cost,
                ", ".join(notes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        f"  {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:6], widths[1:], strict=True) if width)
        + (f"  {row[6]}" if row[6] else "")
        for row in rows
    ]


def _failure(failure: Failure) -> list[str]:
    gone, spares = failure.one_host_takes_replicas, failure.spares
    takes = f"{gone} replica{'s' if gone > 1 else ''} with it"
    takes += f", {spares} spare{'s' if spares > 1 else ''} counted" if spares else ""
    lines = [
        "failure domains",
        f"  one host takes {takes}, {failure.one_host_takes_share:.0%} of the capacity; "
        f"the whole load is carried {failure.availability:.3%} of the time (a host up {failure.host_availability:g} of it)",
    ]
    if failure.target is not None:
        spare = failure.spares_for_target
        need = (
            "cannot be reached with spares"
            if spare is None
            else f"needs {spare} spare replica{'' if spare == 1 else 's'}"
        )
        lines.append(f"  availability {failure.target:g} {need}")
    return lines


def _plain(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
