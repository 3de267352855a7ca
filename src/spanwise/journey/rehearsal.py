"""A manifest made ready for the lab: which hosts, which models, which Serve config, and every difference with its reason. Pure.

Nothing is started here, and nothing of the manifest is run: it is read (render/manifest.py), carried by allowlist
(journey/carried.py), and put together anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanwise.checkpoints.small import Shape
from spanwise.errors import LayoutError, ManifestError
from spanwise.journey.rehearsed_models import Model, models_of
from spanwise.lab.ray_node import package_parent
from spanwise.lab.sandbox import CODE_DIR
from spanwise.lab.spec import HostShape
from spanwise.lab.wiring import MAX_GPUS, MAX_HOSTS
from spanwise.plan.make import config_sha256
from spanwise.plan.types import Plan
from spanwise.render.manifest import Application, Manifest
from spanwise.render.reading import Code, Remark
from spanwise.render.upstream import RAY_VERSION, SPANWISE_IMPORT_PATH, STOCK_IMPORT_PATH
from spanwise.serve.inventory import PIN_PREFIX

# A worker process, the server with its engine core, what a host's Ray takes, the door. Generous: measured with vLLM 0.32, four ranks of a
# generated model on two hosts took 7.2 GiB together, three of SmolLM2 on one 6.9, three ranks of two models on four hosts 8.5 to 9.6.
RANK_BYTES, SERVER_BYTES = 3 * 2**29, 3 * 2**29
HOST_BYTES, DOOR_BYTES = 3 * 2**27, 2**30
# More hosts are not looked at, not even to leave most of them out.
_MOST_CONSIDERED, _MOST_RANKS = 128, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What the lab will run of a manifest."""

    manifest: Manifest
    hosts: tuple[HostShape, ...]
    models: tuple[Model, ...]
    remarks: tuple[Remark, ...]
    code: tuple[Code, ...] | None = None
    """Code of the manifest's own that will be run; None where none may be."""
    code_dir: str = ""
    """Directory that it is imported from."""

    @property
    def foreign(self) -> tuple[Application, ...]:
        """Applications of the manifest's own code."""
        return tuple(application for application in self.manifest.applications if application.foreign is not None)

    @property
    def ranks(self) -> int:
        """Ranks of all replicas of all models."""
        return sum(
            model.shape.tensor_parallel_size * model.shape.pipeline_parallel_size * model.replicas
            for model in self.models
        )

    @property
    def memory_bytes(self) -> int:
        """What the machine must have free, generously."""
        replicas = sum(model.replicas for model in self.models)
        doors = len(self.manifest.applications)
        return self.ranks * RANK_BYTES + replicas * SERVER_BYTES + len(self.hosts) * HOST_BYTES + doors * DOOR_BYTES


def rehearse(manifest: Manifest, *, dtype: str, shrink: bool = False, code_dir: str = "") -> Rehearsal:
    """Decide what is run of ``manifest``.

    Args:
        manifest: As read.
        dtype: The precision that this machine computes quickly.
        shrink: One replica of each model, and no more hosts than those need; tensor and pipeline sizes stay.
        code_dir: Directory of the manifest's own code, where it may be run.

    Raises:
        ManifestError: It asks for code, or contradicts itself.
        LayoutError: It needs more hosts than a lab has.
    """
    remarks = list(manifest.remarks)
    if manifest.ray_version not in (None, RAY_VERSION):
        remarks.append(
            Remark(
                kind="changed",
                where="spec.rayClusterConfig.rayVersion",
                what=str(manifest.ray_version),
                now=RAY_VERSION,
                reason="the lab runs this version only",
            )
        )
    code = None if manifest.code is None else list(manifest.code)
    models = [model for application in manifest.applications for model in models_of(application, dtype, remarks, code)]
    seen: set[tuple[str, str]] = set()
    for model in models:
        if (model.application, model.name) in seen:
            raise ManifestError(
                f"two models are called {model.name!r}", where=manifest.file, remedy="give each model its own model_id"
            )
        seen.add((model.application, model.name))
    if shrink:
        models = [_one_replica(model, remarks) for model in models]
    ranks = sum(
        model.shape.tensor_parallel_size * model.shape.pipeline_parallel_size * model.replicas for model in models
    )
    if ranks > _MOST_RANKS:
        raise LayoutError(
            f"the manifest asks for {ranks} ranks",
            where=manifest.file,
            remedy="--shrink runs one replica of each model",
        )
    models = [_pinned(model, manifest) for model in models]
    shapes = _hosts(manifest, models, remarks)
    foreign = [application for application in manifest.applications if application.foreign is not None]
    if shrink and not foreign:  # what foreign code asks of its hosts is known only once it runs
        shapes = _fewer(shapes, models, remarks)
    if len(shapes) > MAX_HOSTS or max((shape.gpus for shape in shapes), default=0) > MAX_GPUS:
        raise LayoutError(
            f"the manifest needs {len(shapes)} hosts of up to {max(shape.gpus for shape in shapes)} GPUs;"
            f" a lab has at most {MAX_HOSTS} hosts of {MAX_GPUS}",
            where=manifest.file,
            remedy="--shrink runs one replica of each model",
        )
    if missing := lacking(shapes, models):
        raise ManifestError(
            missing, where=manifest.file, remedy="raise the replicas or GPUs of a worker group, or lower the models'"
        )
    return Rehearsal(
        manifest=manifest,
        hosts=tuple(shapes),
        models=tuple(models),
        remarks=tuple(remarks),
        code=None if code is None else tuple(code),
        code_dir=code_dir,
    )


def _pinned(model: Model, manifest: Manifest) -> Model:
    """With the pin of its plan's worker groups, where the manifest has such groups (serve/inventory.py finds hosts by it)."""
    if model.plan is None:
        return model
    pin = f"{PIN_PREFIX}{model.plan.name}"
    return dataclasses.replace(model, pin=pin) if any(pin in group.resources for group in manifest.groups) else model


def _one_replica(model: Model, remarks: list[Remark]) -> Model:
    if model.replicas == 1:
        return model
    remarks.append(
        Remark(
            kind="changed",
            where=f"{model.where} replicas",
            what=str(model.replicas),
            now="1",
            reason="--shrink was given",
        )
    )
    return dataclasses.replace(model, replicas=1)


def _hosts(manifest: Manifest, models: list[Model], remarks: list[Remark]) -> list[HostShape]:
    """One host per pod, the head first; for a Serve config, which names none, as many as its models fill.

    Raises:
        LayoutError: Far more hosts than a lab has, or hosts that are far larger.
    """
    if manifest.groups:
        most = sum(group.hosts for group in manifest.groups)
        largest = max(group.gpus for group in manifest.groups)
        if most > _MOST_CONSIDERED or largest > MAX_GPUS:
            raise LayoutError(
                f"the manifest has {most} hosts of up to {largest} GPUs; a lab has at most {MAX_HOSTS} hosts of {MAX_GPUS}",
                where=manifest.file,
                remedy="run a smaller manifest of the same form",
            )
        return [
            HostShape(
                group=group.name, gpus=group.gpus, cpus=group.cpus, resources=group.resources, labels=group.labels
            )
            for group in sorted(manifest.groups, key=lambda group: not group.head)
            for _ in range(group.hosts)
        ]
    plans = [
        model.plan.model_copy(update={"gangs": model.plan.gangs[: model.replicas]}) for model in models if model.plan
    ]
    wanted = _gpus_of_hosts(plans)
    for model in models:
        if model.plan is None:
            wanted += model.gpus_of_hosts() * model.replicas
    wanted = wanted or [1]  # only foreign applications, which say nothing of hosts
    remarks.append(
        Remark(
            kind="changed",
            where="hosts",
            what="not stated",
            now=f"{len(wanted)} with {', '.join(map(str, wanted[:MAX_HOSTS]))} GPUs",
            reason="a Serve config names no hosts; its models get those that they fill",
        )
    )
    return [HostShape(group="", gpus=min(gpus, MAX_GPUS)) for gpus in wanted[:_MOST_CONSIDERED]]


def _gpus_of_hosts(plans: list[Plan]) -> list[int]:
    """GPUs in use on the plans' own hosts, which they may share."""
    needed: dict[str, int] = {}
    for plan in plans:
        for gang in plan.gangs:
            for rank in gang.ranks:
                needed[rank.host] = needed.get(rank.host, 0) + 1
    return list(needed.values())


def _fewer(shapes: list[HostShape], models: list[Model], remarks: list[Remark]) -> list[HostShape]:
    """Without the hosts that the models can do without, from the last."""
    left = list(shapes)
    for index in range(len(shapes) - 1, 0, -1):
        without = left[:index] + left[index + 1 :]
        if not lacking(without, models) and _stages_fit(without, models):
            left = without
    if len(left) != len(shapes):
        remarks.append(
            Remark(
                kind="changed", where="hosts", what=str(len(shapes)), now=str(len(left)), reason="--shrink was given"
            )
        )
    return left


def _stages_fit(shapes: list[HostShape], models: list[Model]) -> bool:
    """True where every bundle of every model finds a host, taken one after the other; a plan's hosts stay apart."""
    free = [_amounts(shape) for shape in shapes]
    for model in models:
        used: set[int] = set()
        for bundle in model.all_bundles():
            fitting = [
                index
                for index, host in enumerate(free)
                if (model.plan is None or index not in used)
                and all(host.get(name, 0.0) >= need for name, need in bundle.items())
            ]
            if not fitting:
                return False
            used.add(fitting[0])
            for name, need in bundle.items():
                free[fitting[0]][name] -= need
    return True


def _amounts(shape: HostShape) -> dict[str, float]:
    return {**shape.resources, "GPU": float(shape.gpus), "CPU": shape.cpus}


def lacking(shapes: list[HostShape], models: list[Model]) -> str:
    """What the hosts cannot give the models, as a sentence; empty where nothing is known to be missing.

    Necessary conditions only: totals per resource, and one host for a replica that must not be spread. Ray finds the places.
    """
    have: dict[str, float] = {}
    for shape in shapes:
        for name, amount in _amounts(shape).items():
            have[name] = have.get(name, 0.0) + amount
    need: dict[str, float] = {}
    for model in models:
        for bundle in model.all_bundles():
            for name, amount in bundle.items():
                need[name] = need.get(name, 0.0) + amount
    for name, amount in need.items():
        if amount > have.get(name, 0.0) + 1e-6:
            return f"the models ask for {amount:g} {name} and the hosts have {have.get(name, 0.0):g}: replicas would wait for ever"
    for model in models:
        if model.strategy != "STRICT_PACK":
            continue
        one: dict[str, float] = {}
        for bundle in model.bundles:
            for name, amount in bundle.items():
                one[name] = one.get(name, 0.0) + amount
        hosts = [_amounts(shape) for shape in shapes]
        if not any(all(host.get(name, 0.0) >= amount for name, amount in one.items()) for host in hosts):
            asked = ", ".join(f"{amount:g} {name}" for name, amount in one.items())
            return f"a replica of {model.name} must stand on one host with {asked}, and there is none"
    return ""


def serve_config(
    rehearsal: Rehearsal, directories: Mapping[Shape, Path], configs: Mapping[Shape, dict[str, Any]]
) -> dict[str, Any]:
    """The Serve config that is applied: known import paths, and what was carried.

    Args:
        rehearsal: What was decided.
        directories: Where the model that stands in for each shape is.
        configs: Its config.json.
    """
    return {
        "applications": [
            _application(
                application,
                [model for model in rehearsal.models if model.application == application.name],
                directories,
                configs,
                rehearsal.code_dir,
            )
            for application in rehearsal.manifest.applications
        ]
    }


def _application(
    application: Application,
    models: list[Model],
    directories: Mapping[Shape, Path],
    configs: Mapping[Shape, dict[str, Any]],
    code_dir: str,
) -> dict[str, Any]:
    path = _python_path() if code_dir else {}
    common: dict[str, Any] = {"name": application.name, "route_prefix": application.route_prefix or None}
    if (foreign := application.foreign) is not None:
        environment = foreign.runtime_env
        return {
            **common,
            "import_path": foreign.import_path,
            "args": application.args,
            "runtime_env": {
                "env_vars": environment.variables | path,
                **({"worker_process_setup_hook": environment.hook} if environment.hook else {}),
            },
            **({"deployments": list(foreign.deployments)} if foreign.deployments else {}),
        }
    if path:
        common["runtime_env"] = {"env_vars": path}
    if application.runtime == "spanwise":
        plans = [_plan(model, str(directories[model.shape]), configs[model.shape]) for model in models]
        return {
            **common,
            "import_path": SPANWISE_IMPORT_PATH,
            # The lab's hosts are all there before anything is applied: what is missing now stays missing.
            "args": {
                "plans": [plan.model_dump(mode="json", by_alias=True) for plan in plans],
                "wait_for_hosts_s": 0,
            },
        }
    llm_configs = [
        {
            **model.llm_config,
            "deployment_config": {**model.llm_config["deployment_config"], "num_replicas": model.replicas},
            "model_loading_config": {"model_id": model.name, "model_source": str(directories[model.shape])},
            **({"runtime_env": {"env_vars": model.environment | path}} if path else {}),
        }
        for model in models
    ]
    return {**common, "import_path": STOCK_IMPORT_PATH, "args": {"llm_configs": llm_configs}}


def _python_path() -> dict[str, str]:
    """Where Python looks for the manifest's own code: after the rights are gone, and nowhere before (lab/confine.py)."""
    return {"PYTHONPATH": ":".join(filter(None, (CODE_DIR, package_parent())))}


def _plan(model: Model, source: str, config: dict[str, Any]) -> Plan:
    """The plan with the small model in the place of its own, sealed again."""
    plan = model.plan
    assert plan is not None
    gangs = plan.gangs[: model.replicas]
    hosts = tuple(host for host in plan.expected.hosts if any(host in gang.hosts for gang in gangs))
    arguments = {**model.llm_config["engine_kwargs"], "model": source, "served_model_name": model.name}
    return plan.model_copy(
        update={
            "model": plan.model.model_copy(
                update={"source": source, "revision": None, "config_sha256": config_sha256(config)}
            ),
            "layout": plan.layout.model_copy(
                update={
                    "replicas": len(gangs),
                    "dtype": arguments["dtype"],
                    "gpu_memory_utilization": arguments["gpu_memory_utilization"],
                    "max_model_len": arguments["max_model_len"],
                }
            ),
            "gangs": gangs,
            "engine_args": arguments,
            "environment": tuple(setting for setting in plan.environment if setting.name in model.environment),
            "expected": plan.expected.model_copy(update={"hosts": hosts}),
        }
    ).sealed()


def check_size(rehearsal: Rehearsal, *, free_bytes: int, max_ranks: int | None) -> None:
    """Refuse what this machine cannot hold, before anything is started.

    Raises:
        LayoutError: Names what is needed and what is there.
    """
    if max_ranks is not None and rehearsal.ranks > max_ranks:
        raise LayoutError(
            f"the manifest needs {rehearsal.ranks} ranks; --max-ranks allows {max_ranks}",
            where=rehearsal.manifest.file,
            remedy="allow more, or --shrink: one replica of each model, tensor and pipeline sizes as they are",
        )
    if max_ranks is None and rehearsal.memory_bytes > free_bytes:
        replicas = sum(model.replicas for model in rehearsal.models)
        raise LayoutError(
            f"{rehearsal.ranks} ranks of {replicas} replicas on {len(rehearsal.hosts)} hosts need about"
            f" {math.ceil(rehearsal.memory_bytes / 2**30)} GiB; this machine has {free_bytes // 2**30} GiB free",
            where=rehearsal.manifest.file,
            remedy="--shrink runs one replica of each model; --max-ranks N insists (what does not fit is killed by the system)",
        )
