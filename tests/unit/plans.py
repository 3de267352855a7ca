"""Plans for tests, made by the real placement and sealed like any other."""

from __future__ import annotations

from typing import Any

from spanwise.plan.placement import place
from spanwise.plan.types import Expected, GangPlan, Layout, ModelRef, Plan, Rank, Setting, Stage


def make_plan(
    *,
    name: str = "meta-llama-3-70b",
    model: str = "meta-llama/Meta-Llama-3-70B",
    served_name: str | None = None,
    tensor: int = 4,
    stages: int = 1,
    replicas: int = 1,
    hosts: int = 1,
    gpus_per_node: int = 4,
    gpu: str = "H100-80GB-SXM",
    environment: tuple[Setting, ...] = (),
    first_host: int = 1,
    **engine_args: Any,
) -> Plan:
    """A plan of ``replicas`` gangs; sizes as in :func:`spanwise.plan.placement.place`."""
    names = tuple(f"host-{number}" for number in range(first_host, first_host + hosts))
    placed = place(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=stages,
        replicas=replicas,
        hosts=names,
        gpus_per_host=gpus_per_node,
    )
    gangs = tuple(
        GangPlan(
            id=f"{name}-{number}",
            ranks=tuple(
                Rank(rank=rank, stage=rank // tensor, tensor_rank=rank % tensor, domain="domain-1", host=host)
                for rank, host in enumerate(places)
            ),
        )
        for number, places in enumerate(placed)
    )
    arguments: dict[str, Any] = {
        "model": model,
        "served_model_name": served_name or model,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": stages,
        "dtype": "auto",
        "gpu_memory_utilization": 0.9,
        **engine_args,
    }
    if any(len(gang.hosts) > 1 for gang in gangs):
        arguments["distributed_executor_backend"] = "ray"
    return Plan(
        name=name,
        spanwise_version="0.1.0",
        intent={"model": model},
        verdict="one_node" if hosts == 1 else "multi_node",
        justified=True,
        reasons=("weights_do_not_fit",),
        model=ModelRef(served_name=served_name or model, source=model, config_sha256="0" * 64),
        layout=Layout(
            tensor_parallel_size=tensor,
            pipeline_parallel_size=stages,
            replicas=replicas,
            dtype="bfloat16",
            gpu_memory_utilization=0.9,
            max_model_len=8192,
        ),
        stages=tuple(
            Stage(index=index, first_layer=index * 10, end_layer=index * 10 + 10, weights_bytes_per_rank=10**10)
            for index in range(stages)
        ),
        gangs=gangs,
        engine_args=arguments,
        environment=environment,
        expected=Expected(
            gpu=gpu,
            gpus_per_node=gpus_per_node,
            hosts=tuple(host for host in names if any(host in gang.hosts for gang in gangs)),
            fabric="ethernet-10g",
            facts_kind="catalogue",
        ),
    ).sealed()


ARTICLE = make_plan()
TWO_HOSTS = make_plan(stages=2, hosts=2)
SMALL = make_plan(
    name="small", model="org/Small-1B", served_name="small", tensor=1, replicas=2, gpu="L4-24GB", first_host=7
)
LOCAL = make_plan(
    name="local",
    model="/models/with space",
    served_name="local",
    tensor=2,
    stages=2,
    hosts=2,
    gpus_per_node=2,
    gpu="MI300X-192GB",
    environment=(
        Setting(name="GLOO_SOCKET_IFNAME", value="eth1", reason="joins the hosts", source="test"),
        Setting(name="NCCL_SOCKET_IFNAME", value="=eth1", reason="joins the hosts", source="test"),
    ),
    max_model_len=4096,
    quantization="fp8",
    compilation_config={"mode": 2, "backend": "eager"},
)
UNEVEN = make_plan(
    name="uneven",
    stages=2,
    hosts=2,
    environment=(Setting(name="VLLM_PP_LAYER_PARTITION", value="41,39", reason="layers per stage", source="test"),),
)
CASES: dict[str, tuple[Plan, ...]] = {
    "uneven": (UNEVEN,),
    "article": (ARTICLE,),
    "two-hosts": (TWO_HOSTS,),
    "local": (LOCAL,),
    "two-models": (TWO_HOSTS, SMALL),
}


def document(plan: Plan) -> dict[str, Any]:
    """The plan as its file holds it."""
    return plan.model_dump(mode="json", by_alias=True)
