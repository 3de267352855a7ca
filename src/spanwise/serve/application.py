"""Plans as one Ray Serve application: a deployment per gang, a door in front."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.llm._internal.serve.core.configs.openai_api_models import to_model_metadata
from ray.llm._internal.serve.core.ingress.ingress import make_fastapi_ingress
from ray.serve.llm import LLMConfig, build_llm_deployment

from spanwise.plan.load import parse_plan
from spanwise.plan.types import GangPlan, Plan
from spanwise.serve.arrival import WAIT_S, await_hosts, wait_of
from spanwise.serve.compat import BUNDLE_INDICES_VARIABLE
from spanwise.serve.door import Door
from spanwise.serve.gang import DESCRIPTION_KEY, PIN_KEY, GangServer

# Arguments that Ray Serve LLM sets itself from its own fields.
_SERVE_OWNED = ("model", "served_model_name", "distributed_executor_backend")


def gang_config(plan: Plan, gang: GangPlan, selectors: dict[str, dict[str, str]]) -> LLMConfig:
    """The Ray Serve LLM configuration of one gang.

    Args:
        plan: The plan it belongs to.
        gang: Its ranks and their hosts.
        selectors: Label selector of each host name, as the cluster labels its nodes.
    """
    engine_args = {key: value for key, value in plan.engine_args.items() if key not in _SERVE_OWNED}
    environment = {setting.name: setting.value for setting in plan.environment}
    # Guard: without explicit indices vLLM orders bundles "driver first, then by node id", and a stage may land on another host.
    environment[BUNDLE_INDICES_VARIABLE] = ",".join(str(rank.rank) for rank in gang.ranks)
    return LLMConfig(
        model_loading_config={"model_id": plan.model.served_name, "model_source": plan.model.source},
        engine_kwargs={**engine_args, "worker_extension_cls": "spanwise.serve.rank.RankReport"},
        placement_group_config={"bundles": [{"GPU": 1} for _ in gang.ranks], "strategy": "PACK"},
        deployment_config={
            "name": gang.id,
            "num_replicas": 1,
            "max_ongoing_requests": 256,
            "health_check_period_s": 5,
            "health_check_timeout_s": 30,
            "graceful_shutdown_timeout_s": 5,
            "graceful_shutdown_wait_loop_s": 1,
        },
        experimental_configs={
            PIN_KEY: [selectors[rank.host] for rank in gang.ranks],
            DESCRIPTION_KEY: {
                "model": plan.model.served_name,
                "plan_hash": plan.hash,
                "domain": gang.ranks[0].domain,
                "epoch": 1,
                # Whole, so that whoever finds the gang later (`adopt`) needs no file of ours.
                "plan": plan.model_dump(mode="json", by_alias=True),
            },
            "stream_batching_interval_ms": 0,
        },
        runtime_env={"env_vars": environment},
        callback_config={"callback_class": "spanwise.serve.gang.LocalWeights"},
        log_engine_metrics=False,
    )


def build_app(arguments: dict[str, Any]) -> Any:
    """Entry point for Serve config files (``import_path: spanwise.serve.application:build_app``).

    Args:
        arguments: ``{"plans": [plan documents]}``, as `spanwise render --runtime spanwise` writes them; also ``wait_for_hosts_s``,
            how long hosts may take to join.

    Raises:
        PlanError: A plan is damaged.
        InputError: ``wait_for_hosts_s`` is no time.
        StalePlanError: The cluster lacks a host or a GPU that a plan needs, and it did not come in time.
    """
    import ray

    wait_s = wait_of(arguments.get("wait_for_hosts_s", WAIT_S))
    plans = [parse_plan(document, where=f"plans[{index}]") for index, document in enumerate(arguments["plans"])]
    return build_application(plans, await_hosts(ray.nodes, plans, wait_s))


def build_application(plans: list[Plan], selectors: list[dict[str, dict[str, str]]]) -> Any:
    """One Serve application that serves all plans behind one door; ``selectors`` has one table of hosts per plan."""
    gangs: dict[str, list[Any]] = {}
    cards: dict[str, Any] = {}
    for plan, hosts in zip(plans, selectors, strict=True):
        name = plan.model.served_name
        configs = [gang_config(plan, gang, hosts) for gang in plan.gangs]
        cards[name] = to_model_metadata(name, configs[0])
        gangs[name] = [
            build_llm_deployment(config, name_prefix="gang-", deployment_cls=GangServer) for config in configs
        ]
    door = serve.deployment(
        make_fastapi_ingress(Door),
        name="door",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    return door.bind(
        llm_deployments={name: handles[0] for name, handles in gangs.items()}, model_cards=cards, gangs=gangs
    )
