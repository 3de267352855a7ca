"""``spanwise lint``: findings on manifests and commands."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from spanwise import __version__
from spanwise.cli import frame
from spanwise.errors import InputError
from spanwise.reading import read_file

FailOn = Literal["error", "warning", "info"]


def lint(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Manifests, Serve configs, commands; - is stdin.")],
    crd: Annotated[
        str | None, typer.Option(help="KubeRay's CRD (YAML) to check against, instead of our own; - is stdin.")
    ] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, max=1024, help="GPUs of one host, where the file does not show it.")
    ] = None,
    fail_on: Annotated[FailOn, typer.Option(help="Exit 1 when there is a finding this bad or worse.")] = "error",
    as_sarif: Annotated[
        bool, typer.Option("--sarif", help="Print one SARIF 2.1.0 document, for code hosts and CI systems.")
    ] = False,
    as_json: frame.JsonFlag = False,
) -> None:
    """What is wrong with a RayService, RayCluster, Serve config or vLLM command, and what to do about each thing.

    Example: spanwise lint rayservice.yaml --fail-on warning
    """
    frame.wants_json(as_json)
    from spanwise.render.lint import Finding, Options, from_crd, in_order, kinds_of
    from spanwise.render.lint import lint as judge
    from spanwise.render.lint.documents import read_text

    if as_json and as_sarif:
        raise InputError("--sarif and --json both ask for the one document", where="--sarif", remedy="choose one")
    if crd == "-" and "-" in files:
        raise InputError(
            "standard input cannot be both the CRD and a file to check", where="--crd", remedy="name one of them"
        )
    fields = None if crd is None else from_crd(read_text(_read(crd), crd), crd)
    contents = {file: _read(file) for file in dict.fromkeys(files)}
    # A protection may stand in a file of its own: what is given together is judged together.
    kinds = frozenset[str]().union(*(kinds_of(data, file) for file, data in contents.items()))
    options = Options(gpus_per_node=gpus_per_node, kinds_beside=kinds if len(contents) > 1 else frozenset())
    found: list[Finding] = []
    for file, data in contents.items():
        found += judge(data, file, options, fields)
    findings = in_order(found)
    failed = any(finding.at_least(fail_on) for finding in findings)
    counts = {name: sum(finding.severity == name for finding in findings) for name in ("error", "warning", "info")}
    if as_sarif:
        from spanwise.render.lint.sarif import sarif

        frame.print_json(sarif(findings, version=__version__, root=os.getcwd()))  # noqa: PTH109 - a name, as text
    elif as_json:
        frame.print_json(
            {
                "schema": "spanwise.lint/1",
                "files": list(dict.fromkeys(files)),
                "counts": counts,
                "fail_on": fail_on,
                "failed": failed,
                "findings": [finding.as_json() for finding in findings],
            }
        )
    else:
        for finding in findings:
            frame.echo(f"{finding.file}:{finding.line}: {finding.severity} {finding.code}: {finding.message}")
            frame.echo(f"    -> {finding.fix}")
        frame.echo(", ".join(f"{count} {name}{_plural(name, count)}" for name, count in counts.items()))
    if failed:
        raise typer.Exit(1)


def _plural(name: str, count: int) -> str:
    return "" if name == "info" or count == 1 else "s"


def _read(file: str) -> bytes:
    """The bytes of ``file``.

    Raises:
        InputError: It cannot be read, or is larger than lint accepts.
    """
    from spanwise.render.lint.documents import MAX_BYTES

    return read_file(file, most_bytes=MAX_BYTES, what="a manifest or command", error=InputError)
