"""`spanwise demo`: the whole journey on this machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanwise.cli import frame
from spanwise.cli.frame import JsonFlag

if TYPE_CHECKING:
    from spanwise.journey.demo import Report


def demo(
    tensor_parallel_size: Annotated[
        int, typer.Option("--tensor-parallel-size", min=1, help="Ranks per stage: 1 or 3 for this model.")
    ] = 1,
    pipeline_parallel_size: Annotated[int, typer.Option("--pipeline-parallel-size", min=1, help="Stages.")] = 2,
    hosts: Annotated[int, typer.Option("--hosts", min=1, max=16, help="Emulated hosts.")] = 2,
    rate: Annotated[
        str | None, typer.Option("--rate", help="Rate of each host's link, like 100mbit; default: not limited.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Loopback port of the door; 0: a free one.")
    ] = 0,
    isolation: Annotated[
        str | None, typer.Option("--isolation", help="userns, root or loopback; default: the best.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print how to ask it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Decide, plan, serve a real model split over emulated hosts, prove that its output is unchanged, and ask it.

    Exit 1 when the split layout says anything else than one rank. Takes about four to eight minutes on two cores, depending
    on what else they do; the limit is 5 minutes on an otherwise idle machine.

    Example: spanwise demo --rate 100mbit --keep
    """
    frame.wants_json(as_json)
    from spanwise.cli import live
    from spanwise.journey.demo import Options
    from spanwise.journey.demo import demo as run
    from spanwise.lab.isolation import require_linux
    from spanwise.lab.request import parse_isolation
    from spanwise.lab.spec import parse_rate
    from spanwise.serve.compat import require_engine

    require_linux()
    require_engine()
    options = Options(
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        hosts=hosts,
        rate_bit_per_s=parse_rate(rate, key="--rate") if rate else None,
        isolation=parse_isolation(isolation),
        port=port,
        keep=keep,
    )
    with live.progress() as say:
        report = run(options, say, say.tick, settle=frame.settle)
    if as_json:
        frame.print_json(document(report))
    else:
        frame.echo(summary(report))


def document(report: Report) -> dict[str, Any]:
    """The report as one JSON document."""
    return {
        "schema": "spanwise.demo/1",
        "article": report.article.as_json(),
        "verdict": report.verdict.as_json(),
        "plan_hash": report.plan.hash,
        "plan_model": report.plan.model.source,
        "plans": [plan.model_dump(mode="json", by_alias=True) for plan in (report.plan, report.reference)],
        "layout": report.plan.layout.model_dump(),
        "isolation": report.lab.isolation,
        "cannot_show": list(report.lab.cannot_show),
        "gangs": report.gangs,
        "equivalence": {
            "equivalent": report.judgement.equivalent,
            "rule": report.judgement.rule,
            "noise": dataclasses.asdict(report.judgement.noise),
            "score_movement": report.judgement.movement,
            "prompts": [dataclasses.asdict(comparison) for comparison in report.judgement.comparisons],
        },
        "client": dataclasses.asdict(report.conversation),
        "link_bytes": report.link_bytes,
        "phases_s": report.phases_s,
        "peak_memory_bytes": report.peak_memory_bytes,
        "endpoint": report.lab.endpoint if report.kept else None,
    }


def summary(report: Report) -> str:
    """The report for people."""
    from spanwise.journey.prompts import QUESTION

    layout, judgement = report.plan.layout, report.judgement
    tokens = sum(comparison.tokens for comparison in judgement.comparisons)
    kinds = [comparison.verdict for comparison in judgement.comparisons]
    lines = [
        "",
        "Llama-3-70B on 2 hosts of 4 x H100 over 10GbE: " + _headline(report.article),
        *(f"  {reason.code}: {reason.text}" for reason in report.article.reasons[:2]),
        *(
            f"  {item.code}: {item.text}"
            for item in report.article.rejected
            if item.code == "tensor_parallel_crosses_slow_fabric"
        ),
        "",
        "this model on the lab: " + _headline(report.verdict),
        *(f"  {reason.code}: {reason.text}" for reason in report.verdict.reasons[:3]),
        "",
        f"served: {report.plan.model.served_name}, tensor {layout.tensor_parallel_size} x pipeline {layout.pipeline_parallel_size},"
        f" plan {report.plan.hash}, isolation {report.lab.isolation}",
    ]
    for gang in report.gangs:
        for rank in gang["ranks"]:
            lines.append(
                f"  {gang['id']:<34} rank {rank['rank']}  stage {rank['stage']}  tensor rank {rank['tensor_rank']}"
                f"  {rank['host']} ({rank['address']}), pid {rank['pid']} there"
            )
    lines += [
        "",
        f"PASS: in {len(kinds) - kinds.count('wrong')} of {len(kinds)} prompts the split model says what one rank says",
        f"output: {len(kinds)} prompts, {tokens} tokens, rule {judgement.rule}: {kinds.count('equal')} equal,"
        f" {kinds.count('noise')} within noise,"
        f" {kinds.count('wrong')} wrong",
        f"  scores of the same text: moved {judgement.movement or 0:.4f} nats on average;"
        f" one rank's own noise moves them {judgement.noise.movement:.4f}",
        f"  the openai client asked: {report.conversation.answer.strip()!r}",
        f"  and streamed {report.conversation.stream_chunks} chunks: {report.conversation.streamed.strip()!r}",
        "",
        "bytes over the links while comparing and asking: "
        + (
            ", ".join(f"{host} sent {way['sent'] / 1e6:.1f} MB" for host, way in report.link_bytes.items())
            or "not measurable here"
        ),
        "time: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.phases_s.items()),
        f"memory: {report.peak_memory_bytes / 2**30:.1f} GiB at most (sampled every 2 s, shared pages counted once)",
    ]
    lines += [f"this kind of lab cannot show {line}" for line in report.lab.cannot_show]
    if report.kept:
        lines += [
            "",
            "it is still running; ask it, and take it down with `spanwise lab down`:",
            f"  curl {report.lab.endpoint}/v1/chat/completions -H 'content-type: application/json' \\",
            f'    -d \'{{"model": "{report.plan.model.served_name}", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\'',
        ]
    return "\n".join(lines)


def _headline(verdict: Any) -> str:
    chosen = verdict.chosen
    if chosen is None:
        return "infeasible"
    justified = "justified" if verdict.justified else "not justified"
    return (
        f"{verdict.verdict}, tensor {chosen.tensor_parallel_size} x pipeline {chosen.pipeline_parallel_size} x {chosen.replicas} replicas"
        f" on {chosen.nodes} node{'s' if chosen.nodes > 1 else ''}; the spread is {justified}"
    )
