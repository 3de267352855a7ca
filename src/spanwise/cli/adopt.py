"""`spanwise adopt`: what runs, as an intent and a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanwise.cli import frame
from spanwise.cli.files import folder, write_files
from spanwise.cli.frame import JsonFlag

if TYPE_CHECKING:
    from spanwise.journey.adopt import Adopted


def adopt(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A RayService, a Serve config or a vLLM command; - for standard input."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Ask a running Ray cluster instead (host:port, auto)."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="DIR", help="Write intent.yaml and plan.json here.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, where the source names a place that is not here.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU of the hosts, by its name in the catalogue.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(min=1, max=1024, help="GPUs of a host.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, max=100_000, help="Hosts.")] = None,
    fabric: Annotated[str | None, typer.Option(help="What joins the hosts, by its name in the catalogue.")] = None,
    input_tokens: Annotated[int | None, typer.Option(min=1, max=100_000_000, help="Of a mean request.")] = None,
    output_tokens: Annotated[int | None, typer.Option(min=1, max=100_000_000, help="Of a mean answer.")] = None,
    request_rate_per_s: Annotated[float | None, typer.Option(min=1e-6, max=1e7, help="Requests per second.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Requests at once.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn what runs into an intent and a plan of the same layout. Only reads: nothing is changed on a cluster.

    What the source does not say is taken from the options, else assumed, and every assumption is listed; so is what could not be known.

    Example: spanwise adopt rayservice.yaml --fabric ib-ndr-400g -o adopted
    """
    frame.wants_json(as_json)
    from spanwise.errors import InputError
    from spanwise.journey.adopt import Given, adopt_cluster, adopt_file

    if (file is None) == (ray is None):
        raise InputError("give a FILE or --ray ADDRESS", where="adopt", remedy="one of the two")
    if request_rate_per_s is not None and concurrency is not None:
        raise InputError("both loads are given", where="--concurrency", remedy="give a rate or a concurrency")
    place = None if output is None else folder(output)
    given = Given(
        model=model,
        gpu=gpu,
        gpus_per_node=gpus_per_node,
        nodes=nodes,
        fabric=fabric,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        request_rate_per_s=request_rate_per_s,
        concurrency=concurrency,
    )
    if ray is not None:
        from spanwise.serve.compat import require_engine

        require_engine()
        adopted = adopt_cluster(ray, given)
    else:
        adopted = adopt_file(_read(str(file)), str(file), given)
    written = _write(adopted, place) if place is not None else [[] for _ in adopted]
    if as_json:
        frame.print_json(
            {
                "schema": "spanwise.adopt/1",
                "source": file if ray is None else ray,
                "models": [_json(item, files) for item, files in zip(adopted, written, strict=True)],
            }
        )
        return
    for item, files in zip(adopted, written, strict=True):
        _show(item, files)
    if output is None:
        frame.note("not written: give -o DIR to keep intent.yaml and plan.json")


def _read(file: str) -> bytes:
    from spanwise.errors import ManifestError
    from spanwise.reading import read_file
    from spanwise.render.lint.documents import MAX_BYTES

    return read_file(file, most_bytes=MAX_BYTES, what="a manifest or a command", error=ManifestError)


def _write(adopted: list[Adopted], directory: Path) -> list[list[str]]:
    """One pair of files per model; with several models their names carry the model's."""
    from spanwise.plan.make import slug
    from spanwise.render.yaml_text import yaml_text

    names = [f"{slug(item.name)}." if len(adopted) > 1 else "" for item in adopted]
    names = [f"{index}.{name}" if names.count(name) > 1 else name for index, name in enumerate(names)]
    files: list[tuple[Path, str, bool]] = []
    counts: list[int] = []
    stale: list[Path] = []
    for name, item in zip(names, adopted, strict=True):
        header = [f"Adopted from {item.where}."] + [f"{note.kind}: {note.what}: {note.text}" for note in item.notes]
        plain = [" ".join("".join(c if c.isprintable() else " " for c in line).split()) for line in header]
        files.append((directory / f"{name}intent.yaml", yaml_text(item.intent, plain), False))
        counts.append(1 if item.plan is None else 2)
        beside = directory / f"{name}plan.json"
        if item.plan is not None:
            text = json.dumps(item.plan.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False) + "\n"
            files.append((beside, text, False))
        elif beside.exists():
            stale.append(beside)
    paths = iter([str(path) for path in write_files(files)])
    for path in stale:
        frame.note(f"{path} is from an earlier run: no plan could be made of what runs now")
    return [[next(paths) for _ in range(count)] for count in counts]


def _json(item: Adopted, files: list[str]) -> dict[str, Any]:
    return {
        "name": item.name,
        "where": item.where,
        "intent": item.intent,
        "plan": None if item.plan is None else item.plan.model_dump(mode="json", by_alias=True),
        "notes": [{"kind": note.kind, "what": note.what, "text": note.text} for note in item.notes],
        "files": files,
    }


def _show(item: Adopted, files: list[str]) -> None:
    frame.echo(f"model    {item.name}  ({item.where})")
    if item.plan is not None:
        layout = item.plan.layout
        frame.echo(
            f"plan     {item.plan.name} {item.plan.hash}: tensor_parallel_size {layout.tensor_parallel_size} x pipeline_parallel_size "
            f"{layout.pipeline_parallel_size} x replicas {layout.replicas} on {', '.join(item.plan.expected.hosts)}"
        )
    else:
        frame.echo("plan     none could be made")
    for note in item.notes:
        frame.echo(f"{note.kind.replace('_', ' '):<9}{note.what}: {note.text}")
    for path in files:
        frame.echo(f"wrote    {path}")
