"""``spanwise render``: plans as files for others to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spanwise.cli import frame
from spanwise.cli.files import folder, write_files

_MODEL = "The model and its secrets (kuberay)"
_PODS = "Where pods run (kuberay)"
_CLUSTER = "The Ray cluster (kuberay)"


def render(
    plans: Annotated[list[str], typer.Argument(metavar="PLAN", help="Plans; several are served together.")],
    target: Annotated[Literal["vllm", "ray", "kuberay"], typer.Option(help="Who runs the files.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into; made if needed.")],
    runtime: Annotated[
        Literal["stock", "spanwise"],
        typer.Option(
            help="stock: Ray Serve LLM as it is. spanwise: supervised gangs, from an image with spanwise in it."
        ),
    ] = "stock",
    image: Annotated[
        str | None, typer.Option(help="Container image, with a tag or a digest (kuberay).", metavar="NAME:TAG")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the RayService (kuberay).")] = None,
    kustomize: Annotated[
        bool,
        typer.Option("--kustomize", help="A Kustomize base and an example overlay in place of plain files (kuberay)."),
    ] = False,
    model_volume: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            rich_help_panel=_MODEL,
            help="Where the weights are: pvc:NAME[:/mount], hostPath:/dir, or s3://bucket/prefix (also for ray). A plan that "
            "names a folder needs it in the volume; one that names a hub model takes the volume as the hub's cache.",
        ),
    ] = None,
    offline: Annotated[
        bool | None,
        typer.Option(
            "--offline/--no-offline",
            rich_help_panel=_MODEL,
            help="Never ask the model hub (HF_HUB_OFFLINE). Default: where there is a model volume; --no-offline fills it.",
        ),
    ] = None,
    token_secret: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=_MODEL, help="Secret with the model hub's token.")
    ] = "hf-token",  # noqa: S107 - a name
    token_key: Annotated[str, typer.Option(metavar="KEY", rich_help_panel=_MODEL, help="Its key.")] = "token",  # noqa: S107 - a name
    env_secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_MODEL,
            help="Secret whose keys all become environment variables, such as a bucket's access keys. Repeatable.",
        ),
    ] = None,
    image_pull_secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", rich_help_panel=_MODEL, help="Secret of the image's registry. Repeatable."),
    ] = None,
    cpu_per_host: Annotated[
        int | None, typer.Option(min=1, max=4096, rich_help_panel=_PODS, help="CPUs of a worker pod.")
    ] = None,
    memory_gib_per_host: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, rich_help_panel=_PODS, help="GiB of memory of a worker pod.")
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", rich_help_panel=_PODS, help="Label of nodes for workers. Repeatable."),
    ] = None,
    domain_label: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            rich_help_panel=_PODS,
            help="Node label that holds the plan's domains, such as topology.kubernetes.io/zone: keeps a worker group in its own.",
        ),
    ] = None,
    toleration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=VALUE][:EFFECT]",
            rich_help_panel=_PODS,
            help="Taint that pods put up with, beside the GPU's. Repeatable.",
        ),
    ] = None,
    rdma_resource: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_PODS, help="RDMA device for each worker, such as rdma/hca; adds IPC_LOCK."
        ),
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_PODS, help="An existing service account; else one is rendered."),
    ] = None,
    gang_scheduler: Annotated[
        Literal["none", "kueue", "volcano"],
        typer.Option(rich_help_panel=_CLUSTER, help="Who starts all pods together or none."),
    ] = "none",
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=_CLUSTER, help="Its queue; kueue needs one.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            rich_help_panel=_CLUSTER,
            help="Redis that keeps Ray's control store, so that the service outlives its head.",
        ),
    ] = None,
    redis_secret: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY]", rich_help_panel=_CLUSTER, help="Secret with its password; the key is `password`."
        ),
    ] = None,
    ray_auth: Annotated[
        Literal["token", "none"],
        typer.Option(rich_help_panel=_CLUSTER, help="token: Ray's own API asks for the token that KubeRay makes."),
    ] = "token",
    serve_from: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE",
            rich_help_panel=_CLUSTER,
            help="Label of the namespaces whose pods may ask the models; else only the RayService's own.",
        ),
    ] = None,
    as_json: frame.JsonFlag = False,
) -> None:
    """Plans as a vLLM command per host, a Ray Serve config, or a complete RayService.

    Example: spanwise render plan.json --target kuberay -o manifests
    """
    frame.wants_json(as_json)
    place = folder(output)
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
            model_volume=model_volume,
            offline=offline,
            env_secrets=tuple(env_secret or ()),
            image_pull_secrets=tuple(image_pull_secret or ()),
            service_account=service_account,
            tolerations=tuple(toleration or ()),
            node_selectors=tuple(node_selector or ()),
            domain_label=domain_label,
            rdma_resource=rdma_resource,
            gang_scheduler=gang_scheduler,
            queue=queue,
            redis=redis,
            redis_secret=redis_secret,
            ray_auth=ray_auth,
            serve_from=serve_from,
            kustomize=kustomize,
        ),
    )
    written = write_files([(place / file.name, file.text, file.executable) for file in files])
    left = _left(place.resolve(), written)
    if as_json:
        frame.print_json(
            {
                "schema": "spanwise.render/1",
                "target": target,
                "runtime": runtime,
                "files": [str(path) for path in written],
                "left": [str(path) for path in left],
            }
        )
        return
    for path in written:
        frame.echo(str(path))
    if left:
        frame.note(
            f"left there from an earlier render: {', '.join(str(path.relative_to(place.resolve())) for path in left)}; delete what you no "
            "longer need before you apply or copy the folder"
        )


def _left(place: Path, written: list[Path]) -> list[Path]:
    """Files of an earlier render that this one did not write again; `kubectl apply -f FOLDER` would take them too."""
    folders = [place, place / "base"]
    found = [
        path for each in folders for kind in ("*.yaml", "*.sh") for path in sorted(each.glob(kind)) if path.is_file()
    ]
    return [path for path in found if path.resolve() not in written and _ours(path)]


def _ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as lines:
            return any("Written by spanwise" in lines.readline(500) for _ in range(2))
    except (OSError, ValueError):
        return False
