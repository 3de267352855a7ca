"""`spanwise lab run`: a manifest, proved by running it on emulated hosts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanwise.cli import frame
from spanwise.cli.frame import JsonFlag
from spanwise.errors import InputError

if TYPE_CHECKING:
    from spanwise.journey.lab_run import Asked, Report
    from spanwise.journey.rehearsal import Rehearsal
    from spanwise.render.reading import Remark


def run(
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="A RayService, a Serve config or a vLLM command.")
    ],
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="One replica of each model and only the hosts they need; TP and PP stay."),
    ] = False,
    max_ranks: Annotated[
        int | None,
        typer.Option("--max-ranks", min=1, max=1024, help="Allow so many ranks; default: what fits the free memory."),
    ] = None,
    isolation: Annotated[
        str | None, typer.Option("--isolation", help="userns, root or loopback; default: the best.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Loopback port of the door; 0: a free one.")
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print how to ask it.")] = False,
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Run the manifest's own code too, without rights; what it is stands first."),
    ] = False,
    code: Annotated[
        str | None,
        typer.Option(
            "--code", metavar="DIR", help="With --allow-code: where that code is; stands for any working_dir."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a manifest on emulated hosts with small models in the place of its own, ask every model, take it down.

    Hosts, logical GPUs, custom resources and labels are those of its groups. Nothing of the manifest is executed: only the two known
    import paths are served, commands, hooks and packages are refused or listed as not run, the environment goes by allowlist. Exit 1
    when a model did not answer.

    With --allow-code what the manifest names is run as well: other applications, classes, variables. It is listed first; then hosts
    are brought up on which everything runs as another user, without capabilities, files, tokens or a network beside the lab's own.

    Example: spanwise lab run out/manifests/rayservice.yaml
    """
    frame.wants_json(as_json)
    from spanwise.cli import live
    from spanwise.journey.lab_run import Options, load, prepare
    from spanwise.journey.lab_run import run as run_it
    from spanwise.lab.isolation import choose, require_linux
    from spanwise.lab.request import parse_isolation
    from spanwise.serve.compat import require_engine

    require_linux()
    if code is not None and not allow_code:
        raise InputError("no code is run", where="--code", remedy="give --allow-code too")
    if keep and allow_code:
        raise InputError(
            "foreign code does not outlive the command that allowed it", where="--keep", remedy="leave --keep away"
        )
    kind = parse_isolation(isolation)
    options = Options(
        shrink=shrink, max_ranks=max_ranks, isolation=kind, port=port, keep=keep, allow_code=allow_code, code=code
    )
    rehearsal = prepare(load(manifest), manifest, options)
    require_engine()
    if allow_code:
        choose(kind, confined=True)
        for line in code_lines(rehearsal):
            frame.note(line)
    with live.progress() as say:
        report = run_it(rehearsal, options, say, settle=frame.settle)
    if as_json:
        frame.print_json(document(report))
    else:
        frame.echo(summary(report))
    if not report.all_answered:
        raise typer.Exit(1)


def code_lines(rehearsal: Rehearsal) -> list[str]:
    """What of the manifest's own code will be run, and what keeps it."""
    from spanwise.journey.foreign import CONFINED, NOT_CONFINED

    listed = [f"  {item.what}  ({item.where})" for item in rehearsal.code or ()]
    return [
        "code of the manifest's own that will be run:" if listed else "the manifest names no code of its own",
        *listed,
        f"it is imported from {rehearsal.code_dir or 'what is installed with spanwise: no directory was named'}",
        "pods' commands, hooks, init containers and sidecars are not run: they are written for images that emulated hosts have not",
        "it runs with nothing but:",
        *(f"  {line}" for line in CONFINED),
        "not confined:",
        *(f"  {line}" for line in NOT_CONFINED),
    ]


def document(report: Report) -> dict[str, Any]:
    """The report as one JSON document."""
    rehearsal = report.rehearsal
    return {
        "schema": "spanwise.lab-run/1",
        "manifest": rehearsal.manifest.file,
        "kind": rehearsal.manifest.kind,
        "name": rehearsal.manifest.name,
        "isolation": report.lab.isolation,
        "cannot_show": list(report.lab.cannot_show),
        "hosts": [
            {
                "name": host.name,
                "group": shape.group,
                "gpus": shape.gpus,
                "resources": shape.resources,
                "labels": shape.labels,
            }
            for host, shape in zip(report.lab.hosts, rehearsal.hosts, strict=True)
        ],
        "ranks": rehearsal.ranks,
        "models": [_model(asked, rehearsal) for asked in report.asked],
        "all_answered": report.all_answered,
        "code": _code(report),
        "differences": [remark_json(remark) for remark in rehearsal.remarks],
        "phases_s": report.phases_s,
        "peak_memory_bytes": report.peak_memory_bytes,
        "endpoint": report.lab.endpoint if report.kept else None,
    }


def _code(report: Report) -> dict[str, Any] | None:
    """What was run of the manifest's own code, and what it was left with; None where nothing could be."""
    from spanwise.journey.foreign import CONFINED, NOT_CONFINED

    if report.rehearsal.code is None:
        return None
    return {
        "run": [{"where": item.where, "what": item.what} for item in report.rehearsal.code],
        "directory": report.rehearsal.code_dir or None,
        "left_with": report.left_with,
        "confined": list(CONFINED),
        "not_confined": list(NOT_CONFINED),
        "applications": [
            {
                "name": found.name,
                "import_path": found.import_path,
                "route_prefix": found.route_prefix or None,
                "answered": not found.error,
                "http_status": found.status or None,
                "answer": found.text or None,
                "took_s": found.took_s,
                "error": found.error or None,
            }
            for found in report.answers
        ],
    }


def _model(asked: Asked, rehearsal: Any) -> dict[str, Any]:
    model, reply = asked.model, asked.reply
    runtime = next(item.runtime for item in rehearsal.manifest.applications if item.name == model.application)
    return {
        "name": model.name,
        "application": model.application,
        "runtime": runtime,
        "tensor_parallel_size": model.shape.tensor_parallel_size,
        "pipeline_parallel_size": model.shape.pipeline_parallel_size,
        "replicas": model.replicas,
        "replica_hosts": asked.replicas,
        "stands_in": asked.stands_in,
        "answered": reply is not None,
        "answer": reply.answer if reply else None,
        "finish_reason": reply.finish_reason if reply else None,
        "completion_tokens": reply.completion_tokens if reply else 0,
        "took_s": reply.took_s if reply else None,
        "error": asked.error or None,
    }


def remark_json(remark: Remark) -> dict[str, str]:
    """One difference."""
    return {
        "kind": remark.kind,
        "where": remark.where,
        "what": remark.what,
        "now": remark.now,
        "reason": remark.reason,
    }


_WORDS = {"changed": "changed", "left_out": "left out", "not_run": "not run"}


def summary(report: Report) -> str:
    """The report for people."""
    rehearsal = report.rehearsal
    lines = [
        "",
        f"{rehearsal.manifest.kind} {rehearsal.manifest.name}: {len(rehearsal.hosts)} hosts, isolation {report.lab.isolation}",
    ]
    for host, shape in zip(report.lab.hosts, rehearsal.hosts, strict=True):
        extra = ", ".join(f"{name} {amount:g}" for name, amount in shape.resources.items())
        lines.append(f"  {host.name:<9} {shape.group:<40} {shape.gpus} GPUs{', ' + extra if extra else ''}")
    lines.append("")
    for asked in report.asked:
        model, reply = asked.model, asked.reply
        cut = model.shape
        layout = f"TP {cut.tensor_parallel_size} x PP {cut.pipeline_parallel_size} x {model.replicas}"
        places = "; ".join(",".join(hosts) for hosts in asked.replicas)
        lines.append(
            f"{'answered' if reply else 'SILENT  '}  {model.name}  {layout}  on {places or 'no host'}  ({asked.stands_in})"
        )
        if reply:
            lines.append(
                f"          {reply.completion_tokens} tokens, {reply.finish_reason}, {reply.took_s:.1f} s: {reply.answer.strip()[:100]!r}"
            )
        else:
            lines.append(f"          {asked.error}")
    for found in report.answers:
        how = (
            f"HTTP {found.status}: {found.text.strip()[:100]!r}"
            if found.status
            else "runs; it has no address of its own"
        )
        lines.append(f"{'SILENT  ' if found.error else 'answered'}  {found.name}  {found.import_path}  foreign code")
        lines.append(f"          {found.error or how}")
    lines += ["", "what differs from the manifest, and why:"]
    lines += [f"  {line}" for line in differences(rehearsal.remarks)]
    lines += [
        "",
        "time: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.phases_s.items()),
        f"memory: {report.peak_memory_bytes / 2**30:.1f} GiB at most (sampled every 2 s, shared pages counted once)",
    ]
    lines += [f"this kind of lab cannot show {line}" for line in report.lab.cannot_show]
    if report.kept:
        lines += ["", f"it is still running at {report.lab.endpoint}; take it down with `spanwise lab down`"]
    return "\n".join(lines)


# A model's or a pod's own place: what is said of several alike is said once.
_OWN = re.compile(r"^.*?(?:llm_configs|plans|workerGroupSpecs|initContainers|containers)\[\d+\]\.|\[\d+\]")


def differences(remarks: tuple[Remark, ...]) -> list[str]:
    """One line per difference, the same one on several models or groups in one."""
    counted: dict[tuple[str, str, str, str, str], int] = {}
    for remark in remarks:
        place = _OWN.sub("", remark.where).rpartition("template.spec.")[2] or remark.where
        key = (remark.kind, place, remark.what, remark.now, remark.reason)
        counted[key] = counted.get(key, 0) + 1
    return [
        f"{_WORDS[kind]:<9} {place}: {what}{f' -> {now}' if now else ''} ({reason}){f' [{times} times]' if times > 1 else ''}"
        for (kind, place, what, now, reason), times in counted.items()
    ]
