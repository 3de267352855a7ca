"""``spanwise render``: plans as files for others to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spanwise.cli import frame
from spanwise.cli.files import write_file


def render(
    plans: Annotated[list[str], typer.Argument(metavar="PLAN", help="Plans; several are served together.")],
    target: Annotated[Literal["vllm", "ray", "kuberay"], typer.Option(help="Who runs the files.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into; made if needed.")
    ],
    runtime: Annotated[
        Literal["stock", "spanwise"],
        typer.Option(
            help="stock: Ray Serve LLM as it is. spanwise: supervised gangs, from an image with spanwise in it."
        ),
    ] = "stock",
    image: Annotated[str | None, typer.Option(help="Container image (kuberay).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the RayService (kuberay).")] = None,
    cpu_per_host: Annotated[int | None, typer.Option(min=1, max=4096, help="CPUs of a worker pod (kuberay).")] = None,
    memory_gib_per_host: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="GiB of memory of a worker pod (kuberay).")
    ] = None,
    token_secret: Annotated[str, typer.Option(help="Secret with the model hub's token (kuberay).")] = "hf-token",  # noqa: S107 - a name
    token_key: Annotated[str, typer.Option(help="Its key (kuberay).")] = "token",  # noqa: S107 - a name
    as_json: frame.JsonFlag = False,
) -> None:
    """Plans as a vLLM command per host, a Ray Serve config, or a complete RayService.

    Example: spanwise render plan.json --target kuberay -o manifests
    """
    frame.wants_json(as_json)
    from spanwise.plan.load import load_plan
    from spanwise.render import RenderOptions
    from spanwise.render import render as rendered

    files = rendered(
        [load_plan(path) for path in plans],
        target,
        RenderOptions(
            runtime=runtime,
            image=image,
            name=name,
            cpu_per_host=cpu_per_host,
            memory_gib_per_host=memory_gib_per_host,
            token_secret=token_secret,
            token_key=token_key,
        ),
    )
    written = [write_file(Path(output) / file.name, file.text, executable=file.executable) for file in files]
    if as_json:
        frame.print_json(
            {
                "schema": "spanwise.render/1",
                "target": target,
                "runtime": runtime,
                "files": [str(path) for path in written],
            }
        )
        return
    for path in written:
        frame.echo(str(path))
