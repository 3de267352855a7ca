"""`up`: plans (or intents, planned on the spot) onto the lab or a Ray cluster, sharing one inventory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spanwise.checkpoints.resolve import resolve_config
from spanwise.checkpoints.weights import check_safetensors
from spanwise.cluster.address import ray_address as checked_address
from spanwise.decide import decide
from spanwise.errors import InputError, Interrupted, LayoutError, PlanError, StalePlanError
from spanwise.facts.architectures import model_facts
from spanwise.intent.load import load_intent
from spanwise.journey.deploy import Target, deploy, remove
from spanwise.lab import bring
from spanwise.lab import state as lab_state
from spanwise.lab.spec import LabSpec
from spanwise.lab.wiring import MAX_GPUS, MAX_HOSTS
from spanwise.plan.arguments import check_arguments
from spanwise.plan.environment import check_environment
from spanwise.plan.load import load_plan
from spanwise.plan.make import config_sha256, plan
from spanwise.plan.types import Plan

Progress = Callable[[str], None]


def load(files: list[Path], *, ray_address: str | None) -> list[Plan]:
    """Plans from plan files and intents, checked against the checkpoint they name and against each other.

    Args:
        files: Plans (JSON) and intents (YAML).
        ray_address: The cluster they will run on; None for the lab.

    Raises:
        InputError: A file cannot be used, two plans serve one name, or an intent is infeasible.
        StalePlanError: The model's config.json is no longer the one that was planned.
        ModelError: A checkpoint is damaged.
    """
    plans = [_one(file) for file in files]
    for file, found in zip(files, plans, strict=True):
        check_environment([found], str(file))
        check_arguments([found], str(file))
    if ray_address is None:
        _check_lab(plans)
    names: dict[str, Path] = {}
    for file, found in zip(files, plans, strict=True):
        other = names.setdefault(found.model.served_name, file)
        if other is not file:
            raise PlanError(
                f"{other} and {file} both serve {found.model.served_name!r}",
                where="up",
                remedy="leave one of them away, or give it another name",
            )
        _check_model(found, file)
    return plans


def _one(file: Path) -> Plan:
    if file.suffix == ".json":
        return load_plan(file)
    intent = load_intent(file)
    resolved = resolve_config(intent.model, intent.revision, base=file.parent)
    facts = model_facts(resolved.config, name=intent.model)
    verdict = decide(intent, facts)
    if verdict.chosen is None:
        raise LayoutError(
            "this intent is infeasible on its hardware", where=str(file), remedy=f"see: spanwise decide {file}"
        )
    source = str(resolved.path.parent) if resolved.path is not None and resolved.source == "path" else intent.model
    return plan(intent, facts, verdict, source=source, config=resolved.config)


def _check_model(found: Plan, file: Path) -> None:
    directory = Path(found.model.source)
    if not directory.is_absolute():
        return  # a hub name: the engine fetches it, pinned by its revision
    if not directory.is_dir():
        raise StalePlanError(
            f"the model directory {directory} is not there", where=str(file), remedy="put the model back, or plan again"
        )
    if config_sha256(resolve_config(str(directory)).config) != found.model.config_sha256:
        raise StalePlanError(
            f"config.json in {directory} is not the one this plan was made from", where=str(file), remedy="plan again"
        )
    check_safetensors(directory)


def existing_target(ray_address: str | None) -> Target | None:
    """The cluster named, else the lab that is up, else None."""
    if ray_address is not None:
        return Target(ray_address=checked_address(ray_address))
    lab = lab_state.read()
    return Target(lab=lab) if lab is not None else None


def _check_lab(plans: list[Plan]) -> None:
    """The lab runs plans for its own hosts only.

    Raises:
        InputError: A plan is for real GPUs.
    """
    if real := [found for found in plans if not found.expected.gpu.startswith("lab-")]:
        raise InputError(
            f"{real[0].name} is planned for {real[0].expected.gpu}, and no Ray cluster was named",
            where="up",
            remedy="start Ray on its hosts (`ray start`) and pass --ray ADDRESS; the lab runs plans for lab-cpu",
        )
    for found in plans:
        if not Path(found.model.source).is_absolute():
            raise InputError(
                f"{found.model.source} is a hub name, and the lab's hosts reach no hub",
                where=found.name,
                remedy="download the model and name its directory in the intent",
            )


def _lab_for(plans: list[Plan], port: int, progress: Progress) -> bring.Leash:
    """A lab with the hosts and GPUs that the plans were made for.

    Raises:
        StalePlanError: The plans together ask a host for more GPUs than it has.
    """
    hosts = max(
        int(host.rsplit("-", 1)[-1]) if host.rsplit("-", 1)[-1].isdigit() else 1
        for found in plans
        for host in found.expected.hosts
    )
    ranks: dict[str, int] = {}
    for found in plans:
        for gang in found.gangs:
            for rank in gang.ranks:
                ranks[rank.host] = ranks.get(rank.host, 0) + 1
    gpus = max(found.expected.gpus_per_node for found in plans)
    if crowded := {host: count for host, count in ranks.items() if count > gpus}:
        host, count = next(iter(crowded.items()))
        raise StalePlanError(
            f"{host} has {gpus} GPUs and the plans put {count} ranks there: {', '.join(found.name for found in plans)}",
            where="up",
            remedy="plan one of them for other hosts (hardware.hosts), or for more GPUs per node",
        )
    if hosts > MAX_HOSTS or gpus > MAX_GPUS:
        raise InputError(
            f"the plans need {hosts} hosts of {gpus} GPUs; a lab has at most {MAX_HOSTS} hosts of {MAX_GPUS}",
            where="up",
            remedy="plan for fewer hosts (hardware.hosts: host-1, host-2, ...), or use a Ray cluster with --ray",
        )
    if hosts > 1 and (words := links_words(plans)):
        progress(words)
    spec = LabSpec(hosts=hosts, gpus_per_host=gpus, link="unlimited", made_by="up")
    return bring.up(spec, port=port, progress=progress)


def links_words(plans: list[Plan]) -> str:
    """What to say about fabrics that the plans name and a lab made for them does not imitate; empty where they name none."""
    fabrics = sorted({found.expected.fabric for found in plans} - {"none"})
    if not fabrics:
        return ""
    return (
        f"the lab's links are not limited, the plan names {', '.join(fabrics)}: "
        "`spanwise lab up --link NAME --scale S` first to shape them"
    )


def serve(
    plans: list[Plan],
    *,
    ray_address: str | None,
    port: int,
    progress: Progress,
    settle: Callable[[], None] = lambda: None,
) -> tuple[Target, list[dict[str, Any]]]:
    """Run the plans; what this call started is gone again when it fails.

    Raises:
        SpanwiseError: As `deploy`, and what bringing up a lab raises.
        Interrupted: Says what was taken down.
    """
    target = existing_target(ray_address)
    if target is not None:
        return target, deploy(target, plans, progress, clean_up=True)
    leash = None
    try:
        leash = _lab_for(plans, port, progress)
        target = Target(lab=leash.state)
        gangs = deploy(target, plans, progress)
        settle()
        leash.commit()
    except BaseException as error:
        if leash is not None:
            bring.down()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted; the lab that was brought up for these plans was taken down again") from None
        raise
    return target, gangs


def stop(ray_address: str | None) -> dict[str, bool]:
    """Stop the models; the lab too where `up` or the demo made it. ``lab_left``: one is up that somebody made by hand."""
    target = existing_target(ray_address)
    if target is None:
        return {"models": False, "lab": False, "lab_left": False}
    if target.lab is not None and target.lab.spec.made_by != "lab":
        bring.down()
        return {"models": True, "lab": True, "lab_left": False}
    return {"models": remove(target), "lab": False, "lab_left": target.lab is not None}
