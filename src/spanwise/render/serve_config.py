"""Plans as a Ray Serve config: one application, every model behind one OpenAI-compatible door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError
from spanwise.render.options import RenderedFile, RenderOptions, Runtime
from spanwise.render.site import ModelVolume, model_volume, refuse_bucket
from spanwise.render.upstream import (
    RAY_VERSION,
    SPANWISE_IMPORT_PATH,
    STOCK_IMPORT_PATH,
    VLLM_VERSION,
    accelerator_type,
)
from spanwise.render.weights import model_source, refuse_unreachable
from spanwise.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

# Ray Serve LLM sets these itself from its own fields, and refuses or ignores them in engine_kwargs.
SERVE_OWNED = ("model", "served_model_name", "distributed_executor_backend")
# Of the hub; a bucket's folder has none.
_OF_THE_HUB = ("revision", "tokenizer_revision", "code_revision")


def render_ray(plans: Sequence[Plan], options: RenderOptions) -> tuple[RenderedFile, ...]:
    """The Serve config as the file ``serve.yaml``.

    Raises:
        InputError: A model volume that a Serve config cannot mount, or that does not hold the plans' models.
    """
    volume = None if options.model_volume is None else model_volume(options.model_volume)
    if volume is not None and volume.kind != "s3":
        raise InputError(
            "a Serve config mounts nothing: the cluster is there already",
            where="--model-volume",
            remedy="leave it out and have the folder on every host, name s3://bucket/prefix, or use --target kuberay",
        )
    refuse_bucket(volume, options.runtime)
    refuse_unreachable(plans, volume)
    header = [
        *provenance(plans),
        f"For Ray {RAY_VERSION} with vLLM {VLLM_VERSION}. Run it on a Ray cluster: serve deploy serve.yaml",
    ]
    text = yaml_text(serve_config(plans, options.runtime, volume=volume), header)
    return (RenderedFile(name="serve.yaml", text=text),)


def provenance(plans: Sequence[Plan]) -> list[str]:
    """Which plans a file was written from, as comment lines."""
    return [
        f"Written by spanwise {plan.spanwise_version} from plan {plan.name} {plan.hash}: "
        f"tensor_parallel_size {plan.layout.tensor_parallel_size}, "
        f"pipeline_parallel_size {plan.layout.pipeline_parallel_size}, replicas {plan.layout.replicas}."
        for plan in plans
    ]


def serve_config(
    plans: Sequence[Plan],
    runtime: Runtime,
    pins: dict[str, str] | None = None,
    volume: ModelVolume | None = None,
) -> dict[str, Any]:
    """The Serve config as values.

    Args:
        plans: Models to serve; their names differ.
        runtime: Whose application runs them.
        pins: Custom resource per plan name that only its own hosts have (one unit per GPU); keeps models apart.
        volume: Where the weights are, if not where the plans say.
    """
    if runtime == "spanwise":
        args: dict[str, Any] = {"plans": [plan.model_dump(mode="json", by_alias=True) for plan in plans]}
    else:
        args = {"llm_configs": [llm_config(plan, (pins or {}).get(plan.name), volume) for plan in plans]}
    return {
        "applications": [
            {
                "name": "llms",
                "route_prefix": "/",
                "import_path": SPANWISE_IMPORT_PATH if runtime == "spanwise" else STOCK_IMPORT_PATH,
                "args": args,
            }
        ]
    }


def llm_config(plan: Plan, pin: str | None = None, volume: ModelVolume | None = None) -> dict[str, Any]:
    """One model as ``ray.serve.llm.LLMConfig`` takes it.

    Stock Ray Serve gives all replicas of a model one description of their bundles, so it can keep a replica on one host
    (STRICT_PACK) but cannot say which stage goes where: a replica over several hosts is packed as Ray sees fit.
    """
    bundle: dict[str, Any] = {"GPU": 1}
    if pin:
        bundle[pin] = 1
    one_host = all(len(gang.hosts) == 1 for gang in plan.gangs)
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": plan.model.served_name, "model_source": model_source(plan, volume)}
    }
    accelerator = accelerator_type(plan.expected.gpu)
    if accelerator:
        config["accelerator_type"] = accelerator
    kwargs = engine_kwargs(plan)
    if volume is not None and volume.kind == "s3":
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_THE_HUB}
    config["engine_kwargs"] = kwargs
    config["placement_group_config"] = {
        "bundle_per_worker": bundle,
        "strategy": "STRICT_PACK" if one_host else "PACK",
    }
    config["deployment_config"] = {"num_replicas": plan.layout.replicas}
    if plan.environment:
        config["runtime_env"] = {"env_vars": {setting.name: setting.value for setting in plan.environment}}
    return config


def engine_kwargs(plan: Plan) -> dict[str, Any]:
    """The plan's engine arguments without those that Ray Serve LLM owns."""
    return {name: value for name, value in plan.engine_args.items() if name not in SERVE_OWNED}
