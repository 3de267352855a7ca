"""`spanwise up`, `status` and `down`: run plans on the lab or on a Ray cluster, see them, stop them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spanwise.cli import frame
from spanwise.cli.frame import JsonFlag

RayFlag = Annotated[
    str | None,
    typer.Option("--ray", help="Address of a Ray cluster this machine belongs to (host:port, auto); default: the lab."),
]


def up(
    files: Annotated[list[Path], typer.Argument(metavar="PLAN|INTENT", help="Plans (JSON) or intents (YAML).")],
    ray: RayFlag = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Loopback port of the door (new lab only); 0: a free one.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Serve plans behind one OpenAI-compatible door. Without --ray, plans for `lab-cpu` run on the lab, brought up if there is none.

    Example: spanwise up plan.json
    """
    frame.wants_json(as_json)
    from spanwise.cli import live
    from spanwise.journey.up import load, serve
    from spanwise.lab.isolation import require_linux
    from spanwise.serve.compat import require_engine

    require_linux()  # the engine and the lab exist there only
    require_engine()
    plans = load(files, ray_address=ray)
    with live.progress() as say:
        target, gangs = serve(plans, ray_address=ray, port=port, progress=say, settle=frame.settle)
    models = [plan.model.served_name for plan in plans]
    if as_json:
        frame.print_json({"endpoint": target.endpoint, "models": models, "gangs": gangs})
        return
    frame.echo(f"serving {', '.join(models)} at {target.endpoint}/v1")
    _table(gangs)
    frame.echo(f"ask it: curl {target.endpoint}/v1/models    stop it: spanwise down")


def status(ray: RayFlag = None, as_json: JsonFlag = False) -> None:
    """What runs: gangs, where their ranks are, the endpoint. Exit 1 when nothing runs or a gang is not healthy.

    Example: spanwise status --json
    """
    frame.wants_json(as_json)
    from spanwise.journey import deploy
    from spanwise.journey.up import existing_target

    target = existing_target(ray)
    if target is None:
        if as_json:
            frame.print_json({"endpoint": None, "models": [], "gangs": []})
        frame.note("nothing runs: no lab is up (`spanwise up`), and no --ray ADDRESS was given")
        raise typer.Exit(1)
    found = deploy.status(target)
    document = {
        "endpoint": target.endpoint if found["gangs"] else None,
        "models": found["models"],
        "gangs": found["gangs"],
    }
    if as_json:
        frame.print_json(document)
    elif found["gangs"]:
        frame.echo(f"endpoint {target.endpoint}/v1, models: {', '.join(found['models']) or 'none ready'}")
        _table(found["gangs"])
    else:
        frame.note("nothing is served; start something with `spanwise up`")
    if any(gang["state"] == "starting" for gang in found["gangs"]):
        frame.note(
            "not ready yet: gangs are starting (one to three minutes are usual); ask again, or follow `spanwise up`"
        )
    if not found["gangs"] or any(gang["state"] != "healthy" for gang in found["gangs"]):
        raise typer.Exit(1)


def down(ray: RayFlag = None, as_json: JsonFlag = False) -> None:
    """Stop what `up` started; a lab that `up` brought up goes too.

    Example: spanwise down
    """
    frame.wants_json(as_json)
    from spanwise.journey.up import stop

    stopped = stop(ray)
    if as_json:
        frame.print_json(stopped)
    frame.note(
        "; ".join(text for text, done in (("models stopped", stopped["models"]), ("lab down", stopped["lab"])) if done)
        or "nothing ran"
    )
    if stopped["lab_left"]:
        frame.note("the lab is still up; take it down with `spanwise lab down`")


def _table(gangs: list[dict[str, Any]]) -> None:
    frame.echo(f"{'gang':<36}{'rank':>5}{'stage':>7}  {'host':<12}{'address':<14}{'pid':>8}")
    for gang in gangs:
        for rank in gang["ranks"]:
            frame.echo(
                f"{gang['id']:<36}{rank['rank']:>5}{rank['stage']:>7}  {rank['host']:<12}{rank['address']:<14}{rank['pid']:>8}"
            )
        if not gang["ranks"]:
            frame.echo(f"{gang['id']:<36} {gang.get('state', 'unknown')}")
