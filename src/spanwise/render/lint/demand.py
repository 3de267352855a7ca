"""GPUs that a Serve config asks for: per replica what its bundles reserve, and between how many replicas Serve may choose.

Ray 2.60: ``PlacementGroupConfig`` and ``VLLMEngineConfig.placement_bundles`` of Ray Serve LLM; vLLM 0.32 takes one device bundle a
rank and refuses any other number below, or more than one GPU in one of them (vllm/v1/executor/ray_utils.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.engine import size
from spanwise.render.lint.report import Report, items, mapping, whole

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path

_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
# AutoscalingConfig.default(), which `num_replicas: auto` means.
_AUTO = {"min_replicas": 1, "max_replicas": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """One deployment: GPUs of a replica, and the least and most replicas of it."""

    gpus: int
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the applications of a Serve config ask for.

    Attributes:
        deployments: Those whose GPUs can be read.
        complete: True where there is no other: a program of somebody's own may use any number of GPUs.
    """

    deployments: tuple[Replicas, ...] = ()
    complete: bool = True

    @property
    def least(self) -> int:
        """GPUs without which a replica waits for ever."""
        return sum(item.gpus * item.least for item in self.deployments)

    @property
    def most(self) -> int:
        """GPUs that Serve may come to ask for."""
        return sum(item.gpus * item.most for item in self.deployments)

    def __add__(self, other: Demand) -> Demand:
        return Demand(deployments=(*self.deployments, *other.deployments), complete=self.complete and other.complete)


def of_model(
    report: Report, config: dict[str, Any], override: dict[str, Any], path: Path, gpus_per_host: int | None
) -> Demand:
    """What one entry of ``llm_configs`` asks for; says what is wrong with its bundles and its scaling.

    Args:
        report: Where findings go.
        config: The entry.
        override: The application's own words on that deployment (an item of ``deployments``), which beat the entry's.
        path: Where the entry stands.
        gpus_per_host: GPUs of one host; None when unknown.
    """
    arguments = mapping(config.get("engine_kwargs"))
    ranks = size(arguments.get("tensor_parallel_size"), 1) * size(arguments.get("pipeline_parallel_size"), 1)
    gpus = ranks
    if "placement_group_config" in config:
        gpus = _bundles(
            report, config["placement_group_config"], (*path, "placement_group_config"), ranks, on_gpus=_on_gpus(config)
        )
    deployment = mapping(config.get("deployment_config"))
    if "num_replicas" in override or "autoscaling_config" in override:
        deployment = override
    return of_replicas(report, deployment, (*path, "deployment_config"), gpus, gpus_per_host)


def of_deployment(report: Report, deployment: dict[str, Any], path: Path, gpus_per_host: int | None) -> None:
    """Scaling of a deployment of somebody's own, where its bundles show that a replica spans hosts."""
    bundles = items(deployment.get("placement_group_bundles"))
    gpus = math.ceil(sum(_gpus(mapping(bundle)) for bundle in bundles))
    of_replicas(report, deployment, path, gpus, gpus_per_host)


def of_plans(plans: Any) -> Demand:
    """What plans ask for that are served by spanwise's own runtime: one GPU a rank, each gang once."""
    ranks = sum(
        len(items(mapping(gang).get("ranks"))) for plan in items(plans) for gang in items(mapping(plan).get("gangs"))
    )
    return Demand(deployments=(Replicas(gpus=ranks, least=1, most=1),)) if ranks else Demand(complete=False)


def of_replicas(report: Report, deployment: dict[str, Any], path: Path, gpus: int, gpus_per_host: int | None) -> Demand:
    """Between how many replicas Serve may choose.

    Args:
        report: Where findings go.
        deployment: ``num_replicas`` and ``autoscaling_config``.
        path: Where they stand.
        gpus: GPUs of one replica.
        gpus_per_host: GPUs of one host; None when unknown.
    """
    auto = deployment.get("num_replicas") == "auto"
    scaling = {**(_AUTO if auto else {}), **mapping(deployment.get("autoscaling_config"))}
    if not scaling:
        count = size(deployment.get("num_replicas"), 1)
        return Demand(deployments=(Replicas(gpus=gpus, least=count, most=count),))
    # A model that may shrink to nothing needs its GPUs all the same, as soon as somebody asks.
    low, high = size(scaling.get("min_replicas"), 1), size(scaling.get("max_replicas"), 1)
    if high > low and gpus_per_host and gpus > gpus_per_host:
        where = (*path, "num_replicas") if auto else (*path, "autoscaling_config", "max_replicas")
        report.add(
            "replicas_scaled_across_hosts",
            "info",
            where,
            f"a replica has {gpus} ranks on hosts of {gpus_per_host} GPUs, and Serve scales replicas ({low} to {high}) without regard "
            "to hosts",
            "add whole groups of hosts before replicas, or keep min_replicas = max_replicas",
        )
    return Demand(deployments=(Replicas(gpus=gpus, least=low, most=max(low, high)),))


def _on_gpus(config: dict[str, Any]) -> bool:
    """True where the entry says itself that it runs on GPUs."""
    kind = mapping(config.get("accelerator_config")).get("kind")
    accelerator = config.get("accelerator_type")
    return kind in (None, "gpu") and isinstance(accelerator, str) and not accelerator.startswith("TPU")


def _gpus(bundle: dict[str, Any]) -> float:
    amount = bundle.get("GPU", 0)
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    return float(amount) if number and math.isfinite(amount) and 0 < amount < 2**20 else 0.0


def _bundles(report: Report, config: Any, path: Path, ranks: int, *, on_gpus: bool) -> int:
    """GPUs that one replica reserves; says what Ray Serve LLM or vLLM refuses in its bundles."""

    def refuse(key: str, message: str, fix: str) -> None:
        report.add("bundles_refused", "error", (*path, key) if key else path, message, fix)

    if config is None:
        return ranks
    if not isinstance(config, dict):
        refuse(
            "", "placement_group_config is no mapping; Ray Serve LLM refuses that", "give bundle_per_worker: {GPU: 1}"
        )
        return ranks
    each, listed = config.get("bundle_per_worker"), config.get("bundles")
    if (each is None) == (listed is None):
        which = "neither bundle_per_worker nor bundles" if each is None else "both bundle_per_worker and bundles"
        refuse("", f"placement_group_config has {which}; Ray Serve LLM refuses that", "give bundle_per_worker alone")
        return ranks
    if config.get("strategy", "PACK") not in _STRATEGIES:
        refuse(
            "strategy",
            f"{str(config.get('strategy'))[:40]!r} is no strategy; Ray Serve LLM refuses that",
            f"use one of {', '.join(_STRATEGIES)}",
        )
    key = "bundles" if each is None else "bundle_per_worker"
    bundles = items(listed) if each is None else [each] * ranks
    amounts = [_gpus(mapping(bundle)) for bundle in bundles]
    devices = [amount for amount in amounts if amount]
    if not devices and not (on_gpus and bundles):  # CPUs, TPUs: nothing here knows what a rank takes
        return 0 if bundles else ranks
    if devices and max(devices) > 1:
        refuse(
            key,
            f"a bundle has {max(devices):g} GPUs; vLLM refuses more than one in a bundle",
            "write one bundle {GPU: 1} for each rank (bundle_per_worker repeats it)",
        )
    elif len(devices) < ranks:
        report.add(
            "bundles_not_ranks",
            "error",
            (*path, key),
            f"{len(devices)} bundles have a GPU and the model has {ranks} ranks; vLLM refuses that",
            f"give {ranks} bundles, or `bundle_per_worker: {{GPU: 1}}`, which follows the ranks",
        )
    elif len(devices) > ranks:
        report.add(
            "bundles_not_ranks",
            "warning",
            (*path, key),
            f"{len(devices)} bundles have a GPU and the model has {ranks} ranks: the others are reserved and idle",
            f"give {ranks} bundles, or `bundle_per_worker: {{GPU: 1}}`, which follows the ranks",
        )
    return math.ceil(sum(devices))


def override_for(application: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The item of the application's ``deployments`` that is about this model, by the name that Ray Serve LLM gives it."""
    model = mapping(config.get("model_loading_config")).get("model_id")
    name = mapping(config.get("deployment_config")).get("name") or str(model).replace("/", "--").replace(".", "_")
    for item in items(application.get("deployments")):
        if str(mapping(item).get("name")).partition(":")[2] == name:
            return mapping(item)
    return {}


def hosts_of(replicas: Replicas, gpus_per_host: int) -> int:
    """Hosts of that size that one replica takes."""
    return math.ceil(replicas.gpus / gpus_per_host)


def counts(group: dict[str, Any], field: str, default: int) -> int:
    """Replicas of a worker group when ``field`` says how many, inside the group's bounds; in hosts."""
    hosts = whole(group.get("numOfHosts")) or 1
    count = whole(group.get(field))
    low, high = whole(group.get("minReplicas")) or 0, whole(group.get("maxReplicas"))
    count = max(default if count is None else count, low)
    return hosts * (count if high is None else min(count, high))
