"""The models of a Serve application, as they are carried into the lab: stock Ray Serve LLM's configs, and our plans. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spanwise.checkpoints.small import Shape
from spanwise.errors import ManifestError
from spanwise.journey.carried import PARTITION, Carried
from spanwise.plan.load import parse_plan
from spanwise.plan.types import Plan
from spanwise.render.manifest import Application
from spanwise.render.reading import Code, Remark
from spanwise.render.serve_config import SERVE_OWNED

MOST_RANKS_OF_A_REPLICA = 1024
_MOST_REPLICAS = 100_000
_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_CARRIED = (
    "model_loading_config", "engine_kwargs", "placement_group_config", "deployment_config", "runtime_env", "experimental_configs",
    "log_engine_metrics", "llm_engine",
)  # fmt: skip
_IMPORTS = ("server_cls", "callback_config")
_LEFT_OUT = {
    "accelerator_type": "emulated hosts have no accelerator of a type",
    "accelerator_config": "emulated hosts have no accelerator of a type",
    "lora_config": "the lab has no adapters, and reaches no store",
}
_DEPLOYMENT_NUMBERS = frozenset(
    {
        "max_ongoing_requests", "max_queued_requests", "health_check_period_s", "health_check_timeout_s", "graceful_shutdown_timeout_s",
        "graceful_shutdown_wait_loop_s",
    }
)  # fmt: skip
_EXPERIMENTAL_NUMBERS = frozenset({"stream_batching_interval_ms", "num_ingress_replicas"})
# Guard: without it Ray Serve LLM starts a process with an engine on every host to fetch weights, also where they are a directory.
_LOCAL_WEIGHTS = {"callback_class": "spanwise.serve.gang.LocalWeights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model that the lab will serve.

    Attributes:
        application: Name of its Serve application.
        name: What clients ask for.
        where: Its place in the manifest.
        source: The weights that the manifest names; they are not used.
        shape: What the model that stands in must allow.
        replicas: How many.
        bundles: What each rank of one replica asks of its host (stock); empty for a plan.
        strategy: How Ray may spread them.
        llm_config: What is carried; of a plan only ``engine_kwargs``.
        environment: Variables for its ranks.
        plan: The plan, in our own runtime.
        pin: Custom resource that only the plan's hosts have; empty where there is none.
    """

    application: str
    name: str
    where: str
    source: str
    shape: Shape
    replicas: int
    bundles: tuple[dict[str, float], ...]
    strategy: str
    llm_config: dict[str, Any]
    environment: dict[str, str]
    plan: Plan | None = None
    pin: str = ""

    def all_bundles(self) -> list[dict[str, float]]:
        """What all replicas ask for, each of one host: a rank's bundle, or all of a plan's ranks on one of its hosts."""
        if self.plan is None:
            return list(self.bundles) * self.replicas
        needed: dict[str, int] = {}
        for gang in self.plan.gangs[: self.replicas]:
            for rank in gang.ranks:
                needed[rank.host] = needed.get(rank.host, 0) + 1
        pin = {self.pin: 1.0} if self.pin else {}
        return [{"GPU": float(count)} | dict.fromkeys(pin, float(count)) for count in needed.values()]

    def gpus_of_hosts(self) -> list[int]:
        """GPUs of the hosts that one replica fills: one host where it must not be spread, else one per stage."""
        stages, tensor = self.shape.pipeline_parallel_size, self.shape.tensor_parallel_size
        return [tensor * stages] if self.strategy == "STRICT_PACK" else [tensor] * stages


def models_of(
    application: Application, dtype: str, remarks: list[Remark], code: list[Code] | None = None
) -> list[Model]:
    """The models of one application.

    Args:
        application: As read.
        dtype: The precision that this machine computes quickly.
        remarks: Where differences are noted.
        code: Where code that will be run is listed; None: it is refused.

    Raises:
        ManifestError: It asks for code, or is none that its runtime takes.
        PlanError: A plan in it is damaged, or sets what it may not.
    """
    key = "plans" if application.runtime == "spanwise" else "llm_configs"
    if application.foreign is not None:
        return []
    carried = Carried(application.where, remarks, code)
    for name, value in application.args.items():
        if name == key:
            continue
        if name == "ingress_cls_config" and isinstance(value, Mapping) and value.get("ingress_cls"):
            if application.runtime == "stock" and carried.runs(name, f"the ingress {str(value['ingress_cls'])[:120]}"):
                continue
            carried.refuse(name, "ingress_cls imports a class by name", "leave it out")
        if application.runtime == "spanwise" or name not in ("ingress_cls_config", "ingress_deployment_config"):
            carried.refuse(str(name)[:60], f"is no argument of {application.runtime} applications", f"give {key}")
        carried.left_out(name, name, "the door is the runtime's own")
    listed = application.args.get(key)
    if not isinstance(listed, list) or not listed:
        carried.refuse(key, "names no model", f"give `{key}:` with one entry per model")
    if application.runtime == "spanwise":
        return [
            _of_plan(application, item, Carried(f"{application.where}.plans[{index}]", remarks, code), dtype)
            for index, item in enumerate(listed)
        ]
    return [
        _of_config(application, item, Carried(f"{application.where}.llm_configs[{index}]", remarks, code), dtype)
        for index, item in enumerate(listed)
    ]


def _of_plan(application: Application, document: Any, carried: Carried, dtype: str) -> Model:
    where = carried.where
    if not isinstance(document, dict):
        raise ManifestError(
            "a plan is a mapping", where=where, remedy="use what `spanwise render --runtime spanwise` writes"
        )
    plan = parse_plan(document, where)
    asked = {name: value for name, value in plan.engine_args.items() if name not in ("model", "served_model_name")}
    arguments = carried.engine_arguments(asked, dtype=dtype, prefix="engine_args")
    environment = carried.environment(
        {setting.name: setting.value for setting in plan.environment}, prefix="environment"
    )
    carried.changed(
        "model.source", plan.model.source, "a small model", "a model that CPU ranks can hold, with the same limits"
    )
    return Model(
        application=application.name,
        name=plan.model.served_name,
        where=where,
        source=plan.model.source,
        shape=_shape(carried, arguments, environment),
        replicas=plan.layout.replicas,
        bundles=(),
        strategy="PACK",
        llm_config={"engine_kwargs": arguments},
        environment=environment,
        plan=plan,
    )


def _shape(carried: Carried, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Shape:
    tensor, stages = arguments.get("tensor_parallel_size", 1), arguments.get("pipeline_parallel_size", 1)
    if tensor * stages > MOST_RANKS_OF_A_REPLICA:
        carried.refuse(
            "engine_kwargs", f"{tensor * stages} ranks of one replica", f"give at most {MOST_RANKS_OF_A_REPLICA}"
        )
    layers = None
    if partition := environment.get(PARTITION):
        lengths = [int(part) for part in partition.split(",")]
        if len(lengths) != stages or min(lengths) < 1:
            carried.refuse(PARTITION, f"{len(lengths)} stage lengths for {stages} stages", "give one length per stage")
        layers = sum(lengths)
    return Shape(tensor, stages, layers)


def _of_config(application: Application, config: Any, carried: Carried, dtype: str) -> Model:
    if not isinstance(config, dict):
        carried.refuse("", "is no mapping (a file in the cluster's images is not read)", "write the model's config out")
    classes: dict[str, Any] = {}
    for key, value in config.items():
        if key in _CARRIED or value is None:
            continue
        if key in _IMPORTS:
            named = value.get("callback_class") if isinstance(value, dict) else value
            if isinstance(named, str) and carried.runs(key, f"the class {named[:120]}"):
                classes[key] = value
                continue
            carried.refuse(key, f"{key} imports a class by name, and no foreign code is run", "leave it out")
        if key not in _LEFT_OUT:
            carried.refuse(str(key)[:60], f"Ray Serve LLM has no field {str(key)[:60]!r}", "see `spanwise lint`")
        carried.left_out(key, str(value)[:60] if key == "accelerator_type" else key, _LEFT_OUT[key])
    if config.get("llm_engine") not in (None, "vLLM"):
        carried.refuse("llm_engine", f"{str(config['llm_engine'])[:40]!r} is not run here", "the lab runs vLLM")
    name, source = _loading(config.get("model_loading_config"), carried)
    given = _mapping(config.get("engine_kwargs"), carried, "engine_kwargs")
    for owned in SERVE_OWNED[:2]:
        if owned in given:
            carried.refuse(f"engine_kwargs.{owned}", f"Ray Serve LLM refuses {owned} here", "use model_loading_config")
    arguments = carried.engine_arguments(given, dtype=dtype)
    environment = _environment(config.get("runtime_env"), carried)
    shape = _shape(carried, arguments, environment)
    deployment, replicas = _deployment(config.get("deployment_config"), carried)
    placement, bundles, strategy = _placement(config.get("placement_group_config"), carried, shape)
    return Model(
        application=application.name,
        name=name,
        where=carried.where,
        source=source,
        shape=shape,
        replicas=replicas,
        bundles=bundles,
        strategy=strategy,
        llm_config={
            "engine_kwargs": arguments,
            "deployment_config": deployment,
            **({"placement_group_config": placement} if placement else {}),
            **({"runtime_env": {"env_vars": environment}} if environment else {}),
            **_experimental(config, carried),
            "callback_config": _LOCAL_WEIGHTS,
            **classes,
        },
        environment=environment,
    )


def _mapping(value: Any, carried: Carried, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        carried.refuse(key, "is no mapping", "see `spanwise lint`")
    return value


def _loading(value: Any, carried: Carried) -> tuple[str, str]:
    loading = _mapping(value, carried, "model_loading_config")
    name = loading.get("model_id")
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        carried.refuse(
            "model_loading_config.model_id", "the model has no name that clients can ask for", "add model_id"
        )
    source = loading.get("model_source", name)
    shown = source if isinstance(source, str) else "a bucket"
    carried.changed(
        "model_loading_config.model_source",
        shown,
        "a small model",
        "a model that CPU ranks can hold, with the same limits",
    )
    for key in loading:
        if key not in ("model_id", "model_source"):
            carried.left_out(f"model_loading_config.{str(key)[:60]}", str(key), "the model that stands in has its own")
    return name, source if isinstance(source, str) else ""


def _environment(value: Any, carried: Carried) -> dict[str, str]:
    runtime_env = _mapping(value, carried, "runtime_env")
    for key in runtime_env:
        if key != "env_vars" and runtime_env[key]:
            # Guard: of a model only variables, also where code is allowed: Ray would fetch or install the rest.
            carried.refuse(
                f"runtime_env.{str(key)[:60]}",
                f"runtime_env.{str(key)[:60]} brings code, packages or commands, and none are run",
                "build them into the image, or leave it out for the lab",
            )
    variables = _mapping(runtime_env.get("env_vars"), carried, "runtime_env.env_vars")
    if bad := [name for name, text in variables.items() if isinstance(text, dict | list) or text is None]:
        carried.refuse(f"runtime_env.env_vars.{str(bad[0])[:60]}", "has a value that is not text", "quote the value")
    return carried.environment({str(name): str(text) for name, text in variables.items()})


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e9


def _deployment(value: Any, carried: Carried) -> tuple[dict[str, Any], int]:
    """Serve's own numbers, and how many replicas: a fixed number, the least where the manifest lets Serve scale."""
    given = _mapping(value, carried, "deployment_config")
    found = {key: given[key] for key in given if key in _DEPLOYMENT_NUMBERS and _number(given[key])}
    scaling = _mapping(given.get("autoscaling_config"), carried, "deployment_config.autoscaling_config")
    for key in scaling:
        if "policy" in str(key) and scaling[key]:
            carried.refuse(f"deployment_config.autoscaling_config.{key}", "imports code by name", "leave it out")
    replicas = given.get("num_replicas", 1)
    if scaling or replicas == "auto":
        least = scaling.get("min_replicas", 1)
        replicas = max(1, least if isinstance(least, int) else 1)
        carried.changed("deployment_config.num_replicas", "scaled by Serve", replicas, "the lab does not scale")
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 1 <= replicas <= _MOST_REPLICAS:
        carried.refuse(
            "deployment_config.num_replicas", f"{str(replicas)[:40]!r} is no number of replicas", "give 1 or more"
        )
    for key in given:
        if key in found or key in ("num_replicas", "autoscaling_config"):
            continue
        inner = given[key]
        if key == "ray_actor_options" and isinstance(inner, dict):
            _environment(inner.get("runtime_env"), carried)
        if key == "request_router_config" and inner:
            carried.refuse(f"deployment_config.{key}", "may import a class by name", "leave it out")
        carried.left_out(f"deployment_config.{str(key)[:60]}", str(key), "not carried into the lab")
    return found, replicas


def _placement(value: Any, carried: Carried, shape: Shape) -> tuple[dict[str, Any], tuple[dict[str, float], ...], str]:
    """The bundles as given, what each asks of a host, and the strategy."""
    ranks = shape.tensor_parallel_size * shape.pipeline_parallel_size
    given = _mapping(value, carried, "placement_group_config")
    for key in given:
        if key not in ("bundle_per_worker", "bundles", "strategy"):
            carried.refuse(f"placement_group_config.{str(key)[:60]}", "is no field of it", "see `spanwise lint`")
    strategy = given.get("strategy", "PACK")
    if strategy not in _STRATEGIES:
        carried.refuse(
            "placement_group_config.strategy", f"{str(strategy)[:40]!r} is none", f"use {', '.join(_STRATEGIES)}"
        )
    if "bundles" in given:
        listed = given["bundles"]
        if not isinstance(listed, list) or len(listed) != ranks:
            carried.refuse(
                "placement_group_config.bundles", f"must list {ranks} bundles, one per rank", "use bundle_per_worker"
            )
        bundles = [_bundle(item, carried) for item in listed]
        kept: dict[str, Any] = {"bundles": [dict(item) for item in bundles], "strategy": strategy}
    else:
        one = _bundle(given.get("bundle_per_worker", {"GPU": 1}), carried)
        bundles = [dict(one) for _ in range(ranks)]
        kept = {"bundle_per_worker": one, "strategy": strategy} if given else {}
    # The replica's own actor stands in the first bundle and asks for one CPU (Ray Serve LLM's default).
    bundles[0] = {**bundles[0], "CPU": bundles[0].get("CPU", 0.0) + 1.0}
    return kept, tuple(bundles), strategy


def _bundle(value: Any, carried: Carried) -> dict[str, float]:
    found = {}
    for name, amount in _mapping(value, carried, "placement_group_config").items():
        if not _number(amount):
            carried.refuse(
                "placement_group_config", f"{str(amount)[:40]!r} is no amount of {str(name)[:60]}", "give a number"
            )
        if str(name).startswith("accelerator_type:"):
            carried.left_out(f"placement_group_config.{str(name)[:60]}", str(name), _LEFT_OUT["accelerator_type"])
        elif name not in ("memory", "object_store_memory"):
            found[str(name)] = float(amount)
    return found


def _experimental(config: Mapping[str, Any], carried: Carried) -> dict[str, Any]:
    given = _mapping(config.get("experimental_configs"), carried, "experimental_configs")
    kept = {key: given[key] for key in given if key in _EXPERIMENTAL_NUMBERS and _number(given[key])}
    for key in given:
        if key not in kept:
            carried.left_out(f"experimental_configs.{str(key)[:60]}", str(key), "not carried into the lab")
    metrics = config.get("log_engine_metrics")
    return {
        **({"experimental_configs": kept} if kept else {}),
        **({"log_engine_metrics": metrics} if isinstance(metrics, bool) else {}),
    }
