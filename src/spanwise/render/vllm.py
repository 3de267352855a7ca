"""Plans as shell commands: for each gang one file per host. One host needs vLLM alone; several are joined by Ray."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from spanwise.errors import LayoutError, PlanError
from spanwise.render.engine_flags import flag_table, to_flags
from spanwise.render.options import RenderedFile
from spanwise.render.upstream import gpu_resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import GangPlan, Plan

_SERVER = "python -m vllm.entrypoints.openai.api_server"
_FIRST_PORT = 8000  # vLLM's own default
_RAY_PORT = 6379  # Ray's own default


def render_vllm(plans: Sequence[Plan]) -> tuple[RenderedFile, ...]:
    """One file per gang and host, named ``GANG.HOST.sh``.

    Raises:
        PlanError: Plans that together ask for more GPUs than a host has.
        LayoutError: Gangs over several hosts that share one: commands alone cannot keep their ranks apart.
    """
    devices = _devices(plans)
    files: list[RenderedFile] = []
    ports: dict[str, int] = {}
    for plan in plans:
        for gang in plan.gangs:
            _refuse_shared(plan, gang, plans)
            first = gang.hosts[0]
            port = ports.get(first, _FIRST_PORT)
            ports[first] = port + 1
            files += [_file(plan, gang, host, devices[gang.id, host], port) for host in gang.hosts]
    return tuple(files)


def _devices(plans: Sequence[Plan]) -> dict[tuple[str, str], tuple[int, ...]]:
    """GPU indices of every gang on every host, counted up in the order of the plans."""
    used: dict[str, int] = {}
    owners: dict[str, list[str]] = {}
    result: dict[tuple[str, str], tuple[int, ...]] = {}
    for plan in plans:
        for gang in plan.gangs:
            for host in gang.hosts:
                count = sum(rank.host == host for rank in gang.ranks)
                start = used.get(host, 0)
                used[host] = start + count
                owners.setdefault(host, []).append(gang.id)
                if used[host] > plan.expected.gpus_per_node:
                    raise PlanError(
                        f"{host} has {plan.expected.gpus_per_node} GPUs and {used[host]} are asked for, "
                        f"by {', '.join(owners[host])}",
                        remedy="plan with other hosts (`hardware.hosts` in the intent), or render the plans apart",
                    )
                result[gang.id, host] = tuple(range(start, start + count))
    return result


def _refuse_shared(plan: Plan, gang: GangPlan, plans: Sequence[Plan]) -> None:
    if len(gang.hosts) == 1:
        return
    for other in (item for one in plans for item in one.gangs if item.id != gang.id):
        shared = sorted(set(gang.hosts) & set(other.hosts))
        if shared:
            raise LayoutError(
                f"gang {gang.id} spans {', '.join(gang.hosts)} and shares {shared[0]} with {other.id}: "
                "vLLM's commands cannot say which ranks go where",
                where=plan.name,
                remedy="use `--target kuberay` or `spanwise up`, or a layout whose replicas fill whole hosts",
            )


def _file(plan: Plan, gang: GangPlan, host: str, devices: tuple[int, ...], port: int) -> RenderedFile:
    ranks = [rank.rank for rank in gang.ranks if rank.host == host]
    lines = [
        "#!/bin/sh",
        f"# Written by spanwise {plan.spanwise_version} from plan {plan.name} {plan.hash}.",
        f"# Gang {gang.id} on {host}: rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}.",
    ]
    if host == gang.hosts[0] and "max_model_len" not in plan.engine_args:
        lines.append(
            f"# Longest request: the model's own, {plan.layout.max_model_len} tokens, which vLLM takes from config.json."
        )
    # Quoted where the value begins with '=': NAME==value would be read as a slip.
    lines += [f"export {setting.name}={_quoted(setting.value)}  # {setting.reason}" for setting in plan.environment]
    if len(devices) < plan.expected.gpus_per_node and not plan.expected.gpu.startswith("lab-"):
        variable = (
            "HIP_VISIBLE_DEVICES" if gpu_resource(plan.expected.gpu).startswith("amd") else "CUDA_VISIBLE_DEVICES"
        )
        lines.append(f"export {variable}={','.join(map(str, devices))}")
    lines += _commands(plan, gang, host, port)
    return RenderedFile(name=f"{gang.id}.{host}.sh", text="\n".join(lines) + "\n", executable=True)


def _quoted(value: str) -> str:
    return f"'{value}'" if shlex.quote(value) == value and value.startswith("=") else shlex.quote(value)


def _commands(plan: Plan, gang: GangPlan, host: str, port: int) -> list[str]:
    if len(gang.hosts) == 1:
        return [server_command(plan, port, spans=False)]
    first = gang.hosts[0]
    if host != first:
        return [f"ray start --address={first}:{_RAY_PORT} --block"]
    return [
        f"# {', '.join(gang.hosts[1:])} may join before or after this; vLLM waits for the GPUs. It puts the ranks of",
        "# this host first, then those of the others in the order of their addresses.",
        f"ray start --head --port={_RAY_PORT} && {server_command(plan, port, spans=True)}",
    ]


def server_command(plan: Plan, port: int, *, spans: bool) -> str:
    """The server's command with the flags that differ from vLLM's defaults, in the founding article's form.

    Args:
        plan: What to run.
        port: Where to listen; left out where it is vLLM's default.
        spans: True where the gang has several hosts, which only the Ray executor joins.
    """
    arguments = dict(plan.engine_args)
    arguments.pop("distributed_executor_backend", None)
    if spans:
        arguments["distributed_executor_backend"] = "ray"
    if arguments.get("served_model_name") == arguments.get("model"):
        arguments.pop("served_model_name", None)
    if port != flag_table().flags["port"].default:
        arguments["port"] = port
    unknown = [name for name in arguments if name not in flag_table().keywords]
    if unknown:
        raise PlanError(
            f"engine argument {unknown[0]!r} is unknown to vLLM {flag_table().version}",
            where=plan.name,
            remedy="plan again with this version of spanwise",
        )
    words = [shlex.quote(word) for flag in to_flags(arguments) for word in flag]
    return " ".join([_SERVER, *words])
