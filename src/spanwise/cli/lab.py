"""`spanwise lab`: emulated hosts on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from spanwise.cli import frame
from spanwise.cli.frame import JsonFlag
from spanwise.cli.helptext import PlainCommand
from spanwise.cli.lab_run import run

if TYPE_CHECKING:
    from spanwise.lab.spec import LabState

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def lab() -> None:
    """Emulated hosts on this machine: own network, address, /dev/shm, processes; a real Ray cluster over them.

    Example: spanwise lab up --hosts 2 --gpus 1 --link ethernet-10g --scale 100
    """


@app.command(cls=PlainCommand)
def up(
    hosts: Annotated[int, typer.Option("--hosts", min=1, max=16, help="Emulated hosts.")] = 2,
    gpus: Annotated[
        int, typer.Option("--gpus", min=1, max=64, help="Logical GPUs per host; each runs one CPU rank.")
    ] = 1,
    link: Annotated[str, typer.Option("--link", help="Fabric name from the catalogue, or 'unlimited'.")] = "unlimited",
    scale: Annotated[float, typer.Option("--scale", min=1, help="Divide the fabric's rate by this.")] = 1.0,
    rate: Annotated[str | None, typer.Option("--rate", help="A rate instead of a fabric: 100mbit, 1gbit.")] = None,
    shm_size: Annotated[str, typer.Option("--shm-size", help="Size of each host's /dev/shm.")] = "2G",
    domains: Annotated[
        int,
        typer.Option(
            "--domains",
            min=1,
            max=16,
            help="Failure domains (hosts that share a fabric and fail together); hosts are dealt to them in turn.",
        ),
    ] = 1,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Loopback port of the door; 0: a free one.")
    ] = 0,
    isolation: Annotated[
        str | None, typer.Option("--isolation", help="userns, root or loopback; default: the best.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring up emulated hosts, their links and Ray.

    Example: spanwise lab up --hosts 2 --rate 100mbit
    """
    frame.wants_json(as_json)
    from spanwise.cli import live
    from spanwise.lab import bring
    from spanwise.lab.isolation import require_linux
    from spanwise.lab.request import lab_spec, parse_isolation

    require_linux()
    spec = lab_spec(hosts=hosts, gpus=gpus, link=link, scale=scale, rate=rate, shm_size=shm_size, domains=domains)
    wanted = parse_isolation(isolation)
    with live.progress() as say:
        leash = bring.up(spec, port=port, wanted=wanted, progress=say)
        frame.settle()
        leash.commit()
    _show(leash.state, as_json)


@app.command(cls=PlainCommand)
def status(as_json: JsonFlag = False) -> None:
    """What is up, and what its links carried. Exit 1 when no lab is up.

    Example: spanwise lab status --json
    """
    frame.wants_json(as_json)
    from spanwise.lab import state as state_file
    from spanwise.lab.isolation import require_linux

    require_linux()
    state = state_file.read()
    if state is None:
        if as_json:
            frame.print_json({"up": False})
        frame.note("no lab is up; start one with `spanwise lab up`")
        raise typer.Exit(1)
    _show(state, as_json)
    if not all(host.alive for host in state.hosts):
        frame.note("a host is gone; take the lab down and up again: `spanwise lab down`")
        raise typer.Exit(1)


@app.command(cls=PlainCommand)
def down(as_json: JsonFlag = False) -> None:
    """Take the lab down; nothing of it is left.

    Example: spanwise lab down
    """
    frame.wants_json(as_json)
    from spanwise.lab import bring
    from spanwise.lab.isolation import require_linux

    require_linux()
    was = bring.down()
    if as_json:
        frame.print_json({"was_up": was is not None, "hosts": len(was.hosts) if was else 0})
    frame.note(f"lab of {len(was.hosts)} hosts is down" if was else "no lab was up")


@app.command(cls=PlainCommand, short_help="Another rate for all links of the running lab.")
def rate(
    rate: Annotated[str, typer.Argument(metavar="RATE", help="100mbit, 1gbit, or 'unlimited'.")],
    as_json: JsonFlag = False,
) -> None:
    """Give every link of the running lab another rate, in both directions; what is served goes on.

    Example: spanwise lab rate 20mbit
    """
    frame.wants_json(as_json)
    from spanwise.lab.isolation import require_linux
    from spanwise.lab.rate import change_rate
    from spanwise.lab.spec import parse_rate

    require_linux()
    bits = None if rate == "unlimited" else parse_rate(rate, key="RATE")
    _show(change_rate(_the_lab(), bits), as_json)


app.command("run", cls=PlainCommand, short_help="A manifest on emulated hosts, asked and taken down.")(run)


@app.command(
    "exec",
    cls=PlainCommand,
    short_help="Run a command on an emulated host.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def execute(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name of the host, for example host-1.")],
) -> None:
    """Run a command on an emulated host; its exit status becomes ours.

    Example: spanwise lab exec host-2 ip address
    """
    from spanwise.errors import InputError
    from spanwise.lab import enter
    from spanwise.lab.isolation import require_linux

    require_linux()
    state = _the_lab()
    where = state.host(host)
    command = context.args[1:] if context.args[:1] == ["--"] else context.args
    if not command:
        raise InputError(
            "no command given", where="lab exec", remedy=f"for example: spanwise lab exec {host} ip address"
        )
    enter.check_command(state, where, command[0])
    process = enter.start(state, where, list(command))
    try:
        code = process.wait()
    finally:
        enter.end(process)
    raise typer.Exit(code if code >= 0 else 128 - code)  # a signal's number as shells report it


@app.command(cls=PlainCommand, short_help="The last lines of a host's engine and Serve logs.")
def logs(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name of the host, for example host-1.")],
    lines: Annotated[int, typer.Option("--lines", min=1, max=100_000, help="Last lines of each file.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """The last lines of the engine and Serve logs of one host, each under the name of its file.

    Example: spanwise lab logs host-1 --lines 50
    """
    from spanwise.lab.isolation import require_linux
    from spanwise.lab.logs import raw

    require_linux()
    text = raw(_the_lab(), host, lines)
    if as_json:
        frame.print_json({"host": host, "lines": text.splitlines()})
    else:
        frame.echo(text, nl=False)
    if not text:
        frame.note(f"no engine has written a log on {host} yet; logs come with `spanwise up` or the demo")


def _the_lab() -> LabState:
    from spanwise.errors import InputError
    from spanwise.lab import state as state_file

    state = state_file.read()
    if state is None:
        raise InputError("no lab is up", where="lab", remedy="start one with `spanwise lab up`")
    return state


def _show(state: LabState, as_json: bool) -> None:
    from spanwise.lab.links import link_bytes

    links = link_bytes(state)
    if as_json:
        document = state.model_dump(mode="json", by_alias=True)
        gone = [host.name for host in state.hosts if not host.alive]
        frame.print_json({"up": not gone, **document, "link_bytes": links, "hosts_gone": gone})
        return
    rate = f"{state.spec.rate_bit_per_s / 1e6:g} Mbit/s" if state.spec.rate_bit_per_s else "not limited"
    scaled = (
        f" ({state.spec.link} divided by {state.spec.scale:g})" if state.spec.scale != 1 else f" ({state.spec.link})"
    )
    frame.echo(f"lab of {len(state.hosts)} hosts, isolation {state.isolation}, link rate {rate}{scaled}")
    frame.echo(f"Ray {state.ray_address} inside the lab; door {state.endpoint} once something is served")
    frame.echo(f"{'host':<10}{'address':<14}{'domain':<12}{'GPUs':>5}{'sent':>12}{'received':>12}")
    for host in state.hosts:
        carried = links.get(host.name)
        sent, received = (f"{carried[k] / 1e6:.1f} MB" for k in ("sent", "received")) if carried else ("-", "-")
        mark = "" if host.alive else "  gone"
        frame.echo(f"{host.name:<10}{host.address:<14}{host.domain:<12}{host.gpus:>5}{sent:>12}{received:>12}{mark}")
    for line in state.cannot_show:
        frame.echo(f"this kind of lab cannot show {line}")
