"""``spanwise plan``: a verdict made concrete, as a file that other commands read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanwise.cli import frame
from spanwise.cli.files import folder_to_make, write_file

if TYPE_CHECKING:
    from spanwise.checkpoints.resolve import ResolvedConfig
    from spanwise.decide.types import Verdict
    from spanwise.plan.types import Plan


def plan(
    intent: Annotated[str, typer.Argument(metavar="INTENT.yaml", help="What is asked.")],
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the plan here.")] = None,
    facts: Annotated[str | None, typer.Option(help="Facts that beat the catalogue (spanwise.facts/1).")] = None,
    tensor_parallel_size: Annotated[int | None, typer.Option(min=1, help="Insist on this size.")] = None,
    pipeline_parallel_size: Annotated[int | None, typer.Option(min=1, help="Insist on this size.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Insist on this number.")] = None,
    served_model_name: Annotated[str | None, typer.Option(help="What clients ask for; else the model's name.")] = None,
    interface: Annotated[
        str | None, typer.Option(help="Network interface that joins the hosts, by its name on all of them.")
    ] = None,
    as_json: frame.JsonFlag = False,
) -> None:
    """Make a verdict concrete: layout, which rank runs on which host, engine arguments, settings, hash.

    An infeasible intent has no plan: the verdict is printed (with --json as a verdict document). Without -o the exit
    code is 0, because the question was answered; with -o it is 1, because no file was written: one that is there
    belongs to an earlier plan, and what follows (render, up) must not take it for this one.

    Example: spanwise plan examples/llama-3-70b-10gbe.yaml -o plan.json
    """
    frame.wants_json(as_json)
    from spanwise.checkpoints.resolve import resolve_config
    from spanwise.decide import decide
    from spanwise.decide.types import PinnedLayout
    from spanwise.facts.architectures import model_facts
    from spanwise.facts.book import FactBook, book_from, read_facts
    from spanwise.intent.load import load_intent
    from spanwise.plan.make import plan as make_plan
    from spanwise.plan.network import network_settings

    asked = load_intent(intent)
    resolved = resolve_config(asked.model, asked.revision, base=Path(intent).parent)
    model = model_facts(resolved.config, name=asked.model)
    known = None if facts is None else read_facts(facts)  # once: it may be a pipe
    book = FactBook() if facts is None else book_from(known, where=facts)
    pinned = PinnedLayout(
        tensor_parallel_size=tensor_parallel_size, pipeline_parallel_size=pipeline_parallel_size, replicas=replicas
    )
    verdict = decide(asked, model, book, pinned=pinned)
    if verdict.chosen is None:
        _explain_infeasible(verdict, output, as_json=as_json)
        raise typer.Exit(0 if output is None else 1)
    made = make_plan(
        asked,
        model,
        verdict,
        source=engine_source(resolved),
        config=resolved.config,
        revision=None if resolved.source == "path" else resolved.revision or asked.revision,
        served_name=served_model_name,
        interface=interface,
        # What a probe left beside its facts, which were checked above.
        network=() if known is None else network_settings(known),
    )
    document = made.model_dump(mode="json", by_alias=True)
    if output is not None:
        folder = folder_to_make(Path(output))
        write_file(Path(output), json.dumps(document, indent=2, allow_nan=False) + "\n")
        if folder is not None:
            frame.note(f"made folder {folder}")
    if as_json:
        frame.print_json(document)
        return
    _show(made, verdict.chosen.max_model_len)
    if output is None:
        frame.note("not written: give -o plan.json to keep this plan")
    else:
        frame.note(f"wrote {output}")


def engine_source(resolved: ResolvedConfig) -> str:
    """Where the engine finds the weights: the directory of a config.json that the user named, else the hub's name."""
    if resolved.source == "path" and resolved.path is not None:
        # Absolute, but symbolic links stay: people point them at the version in use, and hosts may differ behind them.
        return os.path.abspath(resolved.path.parent)  # noqa: PTH100
    return resolved.name


def _explain_infeasible(verdict: Verdict, output: str | None, *, as_json: bool) -> None:
    if as_json:
        frame.print_json(verdict.as_json())
    else:
        frame.echo(f"verdict  {verdict.verdict}")
        for reason in verdict.reasons:
            frame.echo(f"  {reason.code}: {reason.text}")
    if output is not None:
        # os.path: a name that no file can have is simply not there.
        left = " (the file that is there belongs to an earlier plan)" if os.path.exists(output) else ""  # noqa: PTH110
        frame.note(f"no plan was written to {output}{left}: there is none for this intent")


def _why_longer(planned: int, counted: int) -> str:
    if planned == counted:
        return ""
    return f" (the model's own, which vLLM takes by itself; the KV cache holds it. The verdict asks for {counted})"


def _show(plan: Plan, counted: int) -> None:
    layout = plan.layout
    rows = [
        ("plan", f"{plan.name} {plan.hash}"),
        ("verdict", f"{plan.verdict}, {'justified' if plan.justified else 'not justified'}: {', '.join(plan.reasons)}"),
        ("model", f"{plan.model.source}, served as {plan.model.served_name}"),
        (
            "layout",
            f"tensor_parallel_size {layout.tensor_parallel_size} x pipeline_parallel_size "
            f"{layout.pipeline_parallel_size} x replicas {layout.replicas}, {layout.dtype}, "
            f"max_model_len {layout.max_model_len}{_why_longer(layout.max_model_len, counted)}",
        ),
    ]
    for gang in plan.gangs:
        places = [f"{host}: {_ranges([r.rank for r in gang.ranks if r.host == host])}" for host in gang.hosts]
        rows.append((f"gang {gang.id}", "; ".join(places)))
    rows += [("environment", f"{item.name}={item.value} ({item.reason})") for item in plan.environment]
    rows.append(("facts", f"{plan.expected.facts_kind}: {plan.expected.gpu}, fabric {plan.expected.fabric}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        frame.echo(f"{name:<{width}}  {text}")


def _ranges(numbers: list[int]) -> str:
    """``ranks 0-3`` for consecutive ranks; a gang's ranks on one host always are."""
    return f"rank {numbers[0]}" if len(numbers) == 1 else f"ranks {numbers[0]}-{numbers[-1]}"
