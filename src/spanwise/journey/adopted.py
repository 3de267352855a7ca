"""What runs, read out of a RayService, a Serve config or a vLLM command: per model its layout, and what was not said. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from spanwise.errors import ManifestError
from spanwise.lab.wiring import HOST_LABEL, LAB_LABEL
from spanwise.plan.load import parse_plan
from spanwise.plan.types import Plan
from spanwise.render.lint.documents import read_text
from spanwise.render.lint.report import items, mapping, whole
from spanwise.render.manifest import Application, Manifest, read_manifest
from spanwise.render.manifest_groups import Group
from spanwise.render.server_command import ServerCommand, is_command, server_commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that adopting had to say.

    Attributes:
        kind: ``assumed``: the source does not say it, a value was chosen; ``unknown``: nobody said it and nothing was chosen;
            ``not_kept``: the source says it, and plan and intent have no place for it.
        what: The key it concerns.
        text: One sentence.
    """

    kind: Literal["assumed", "unknown", "not_kept"]
    what: str
    text: str


@dataclass(slots=True, kw_only=True)
class Found:
    """One model that runs.

    Attributes:
        name: What clients ask for.
        source: Where its weights come from; empty where nobody says.
        where: Its place in the source.
        tensor: tensor_parallel_size.
        pipeline: pipeline_parallel_size.
        replicas: Replicas.
        arguments: Engine arguments as given.
        environment: Variables of its ranks.
        accelerator: Ray's accelerator type; None where it is not said.
        gpus_per_node: GPUs of a host, where the source says it.
        nodes: Hosts, where the source says it.
        hosts: Their names, where a running cluster says them.
        one_host: True where a replica cannot span hosts.
        plan: A plan of ours that it is served from.
        notes: What was not said.
    """

    name: str
    source: str
    where: str
    tensor: int = 1
    pipeline: int = 1
    replicas: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    accelerator: str | None = None
    gpus_per_node: int | None = None
    nodes: int | None = None
    hosts: tuple[str, ...] | None = None
    one_host: bool = False
    plan: Plan | None = None
    notes: list[Note] = field(default_factory=list)


def found_in(data: bytes, file: str) -> list[Found]:
    """The models of a file.

    Raises:
        ManifestError: Neither a RayService, a Serve config nor a vLLM command, or one that serves nothing.
    """
    text = read_text(data, file)
    if is_command(text):
        return [_of_command(command, file) for command in server_commands(text, file)]
    return _of_manifest(read_manifest(data, file, lenient=True))


def found_on(described: Mapping[str, Any], address: str) -> list[Found]:
    """The models of a running cluster, as the driver describes it.

    Args:
        described: ``nodes`` and ``applications`` (serve/config.py); one that `spanwise up` deployed has ``plans`` (serve/driver.py).
        address: The cluster, for messages.

    Raises:
        ManifestError: It serves nothing that has a config.
    """
    configs = [item["config"] for item in described["applications"] if item["config"]]
    ours, silent = _of_gangs(described["applications"], address)
    without = [
        str(item["name"])[:60] for item in described["applications"] if not item["config"] and not item.get("plans")
    ]
    if not configs and not ours:
        raise ManifestError(
            f"the gangs {', '.join(silent)} do not say what they serve"
            if silent
            else f"Ray Serve keeps no config of {', '.join(without)}: a program deployed it"
            if without
            else "Ray Serve serves nothing there",
            where=address,
            remedy="wait until `spanwise status` says that they serve; a gang deployed before spanwise kept the plan says nothing"
            if silent
            else "adopt the file that it was deployed from (`spanwise adopt FILE`)"
            if without
            else "check the address, or adopt a file",
        )
    data = json.dumps({"applications": configs}, default=str).encode()
    models = ours + (_of_manifest(read_manifest(data, address, lenient=True)) if configs else [])
    hosts = [node for node in described["nodes"] if node["resources"].get("GPU")]
    types = {kind for node in hosts if (kind := _accelerator(node))}
    for model in models:
        model.gpus_per_node = max((int(node["resources"]["GPU"]) for node in hosts), default=None)
        model.nodes = len(hosts) or None
        model.hosts = (
            tuple(node["labels"].get(HOST_LABEL, node["labels"].get(LAB_LABEL, node["host"])) for node in hosts) or None
        )
        model.accelerator = model.accelerator or (types.pop() if len(types) == 1 else None)
        model.notes += [
            Note(
                kind="not_kept",
                what=f"application {name}",
                text="deployed by a program: Ray Serve keeps no config of it",
            )
            for name in without
        ]
        model.notes += [
            Note(kind="unknown", what=f"gang {name}", text="did not say what it serves: it starts, or it is dead")
            for name in silent
        ]
    return models


def _of_gangs(applications: list[Mapping[str, Any]], address: str) -> tuple[list[Found], list[str]]:
    """The plans that `spanwise up` deployed, as the gangs themselves carry them, and the gangs that did not answer."""
    found, silent = [], []
    for application in applications:
        for index, document in enumerate(items(application.get("plans"))):
            where = f"{address}: application {str(application['name'])[:60]}"
            plan = parse_plan(mapping(document), f"{where}.plans[{index}]")
            found.append(Found(name=plan.model.served_name, source=plan.model.source, where=where, plan=plan))
        silent += [str(name)[:60] for name in items(application.get("silent"))]
    return found, silent


def _accelerator(node: Mapping[str, Any]) -> str | None:
    label = node["labels"].get("ray.io/accelerator-type")
    resource = next((name for name in node["resources"] if name.startswith("accelerator_type:")), None)
    return label or (resource.partition(":")[2] if resource else None)


def _of_manifest(manifest: Manifest) -> list[Found]:
    found: list[Found] = []
    for application in manifest.applications:
        found += _of_application(application, manifest.groups)
    if not found:
        raise ManifestError("names no model", where=manifest.file, remedy="see `spanwise lint`")
    notes = [
        Note(kind="not_kept", what=remark.where, text=f"{remark.what}: {remark.reason}")
        for remark in manifest.remarks
        if remark.kind == "not_run"
    ]
    if manifest.ray_version is not None:
        notes.append(Note(kind="not_kept", what="rayVersion", text=f"it says Ray {manifest.ray_version}"))
    for model in found:
        model.notes += notes
    return found


def _of_application(application: Application, groups: tuple[Group, ...]) -> list[Found]:
    if application.runtime == "spanwise":
        plans = [
            parse_plan(mapping(document), f"{application.where}.plans[{index}]")
            for index, document in enumerate(items(application.args.get("plans")))
        ]
        return [
            Found(name=plan.model.served_name, source=plan.model.source, where=application.where, plan=plan)
            for plan in plans
        ]
    found = []
    for index, item in enumerate(items(application.args.get("llm_configs"))):
        where = f"{application.where}.llm_configs[{index}]"
        if not isinstance(item, dict):
            raise ManifestError(
                "a model's config is no mapping", where=where, remedy="write it out: files in images are not read"
            )
        found.append(_of_config(item, where, groups))
    return found


def _of_config(config: dict[str, Any], where: str, groups: tuple[Group, ...]) -> Found:
    loading = mapping(config.get("model_loading_config"))
    name = loading.get("model_id")
    if not isinstance(name, str) or not name.strip():
        raise ManifestError("the model has no model_id", where=where, remedy="see `spanwise lint`")
    source = loading.get("model_source", name)
    arguments = mapping(config.get("engine_kwargs"))
    placement = mapping(config.get("placement_group_config"))
    deployment = mapping(config.get("deployment_config"))
    model = Found(
        name=name,
        source=source if isinstance(source, str) else "",
        where=where,
        tensor=_size(arguments, "tensor_parallel_size", where),
        pipeline=_size(arguments, "pipeline_parallel_size", where),
        arguments=dict(arguments),
        environment={
            str(key): str(value) for key, value in mapping(mapping(config.get("runtime_env")).get("env_vars")).items()
        },
        accelerator=config["accelerator_type"] if isinstance(config.get("accelerator_type"), str) else None,
        one_host=placement.get("strategy") == "STRICT_PACK",
    )
    if not isinstance(source, str):
        model.notes.append(Note(kind="unknown", what="model", text="its weights come from a bucket, not from a hub"))
    scaling = mapping(deployment.get("autoscaling_config"))
    if scaling or deployment.get("num_replicas") == "auto":
        model.replicas = max(1, whole(scaling.get("min_replicas")) or 1)
        model.notes.append(
            Note(
                kind="assumed", what="replicas", text=f"Serve scales it; its least number, {model.replicas}, was taken"
            )
        )
    else:
        model.replicas = max(1, whole(deployment.get("num_replicas")) or 1)
    wanted = set(mapping(placement.get("bundle_per_worker"))) - {"GPU", "CPU", "memory"}
    own = [group for group in groups if group.gpus and wanted <= set(group.resources)]
    usable = own or [group for group in groups if group.gpus]
    if usable:
        model.gpus_per_node = max(group.gpus for group in usable)
        model.nodes = sum(group.hosts for group in usable) or None
    return model


def _size(arguments: Mapping[str, Any], key: str, where: str) -> int:
    size = arguments.get(key, 1)
    if whole(size) is None or not 1 <= int(size) <= 1024:
        raise ManifestError(f"{str(size)[:40]!r} is no {key}", where=where, remedy="give 1 to 1024")
    return int(size)


def _of_command(command: ServerCommand, file: str) -> Found:
    where = f"{file}:{command.line}"
    arguments = dict(command.arguments)
    names = arguments.pop("served_model_name", None)
    name = str(names[0] if isinstance(names, list) and names else names or command.model)
    model = Found(
        name=name,
        source=command.model,
        where=where,
        tensor=_size(arguments, "tensor_parallel_size", where),
        pipeline=_size(arguments, "pipeline_parallel_size", where),
        arguments=arguments,
        environment=dict(command.environment),
        one_host=arguments.get("distributed_executor_backend") != "ray" and whole(arguments.get("nnodes")) in (None, 1),
    )
    if not command.model:
        raise ManifestError("names no model that can be read", where=where, remedy="write the model's name out")
    model.notes += [
        Note(kind="unknown", what=what, text="could not be read from the command")
        for what in dict.fromkeys(command.unknown)
    ]
    ranks = model.tensor * model.pipeline
    if model.one_host:
        model.gpus_per_node, model.nodes = ranks, 1
        visible = command.environment.get("CUDA_VISIBLE_DEVICES", "")
        if visible and "$" not in visible:
            model.gpus_per_node = max(ranks, len([part for part in visible.split(",") if part.strip()]))
        model.notes.append(
            Note(
                kind="assumed",
                what="hardware.gpus_per_node",
                text=f"the command does not say; the {ranks} that it uses",
            )
        )
    elif (nodes := whole(arguments.get("nnodes"))) and nodes > 1 and ranks % nodes == 0:
        model.gpus_per_node, model.nodes = ranks // nodes, nodes
    return model
