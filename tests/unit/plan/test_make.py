"""Plans from real verdicts on real configs (the catalogue's)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.decide import decide
from spanwise.decide.types import PinnedLayout
from spanwise.errors import InputError, LayoutError, SpanwiseError
from spanwise.facts import catalogue
from spanwise.facts.architectures import model_facts
from spanwise.intent.load import parse_intent
from spanwise.plan import Plan, check_plan, plan
from spanwise.plan.make import config_sha256
from spanwise.render import render

LLAMA = "meta-llama/Meta-Llama-3-70B"
SMALL = "meta-llama/Meta-Llama-3-8B"


def made(*, pinned: PinnedLayout | None = None, source: str | None = None, options: Any = None, **intent: Any) -> Plan:
    document = {
        "model": LLAMA,
        "hardware": {"gpu": "H100-80GB-SXM", "gpus_per_node": 4, "nodes": 2, "fabric": "ethernet-10g"},
        "workload": {"input_tokens": 1024, "output_tokens": 256, "request_rate_per_s": 1},
        **intent,
    }
    asked = parse_intent(yaml.safe_dump(document))
    config = catalogue.model_config(asked.model)
    model = model_facts(config, name=asked.model)
    verdict = decide(asked, model, pinned=pinned)
    return plan(asked, model, verdict, source=source or asked.model, config=config, **(options or {}))


def pin(tensor: int, stages: int, replicas: int = 1) -> PinnedLayout:
    return PinnedLayout(tensor_parallel_size=tensor, pipeline_parallel_size=stages, replicas=replicas)


def test_the_founding_articles_command_from_its_intent() -> None:
    one_node = {"gpu": "H100-80GB-SXM", "gpus_per_node": 4, "nodes": 1}
    (file,) = render([made(hardware=one_node, pinned=pin(4, 1))], "vllm")
    assert file.text.splitlines()[-1] == (
        "python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B "
        "--tensor-parallel-size 4 --gpu-memory-utilization 0.9"
    )


def test_a_plan_agrees_with_itself_and_is_sealed() -> None:
    for tensor, stages, replicas in ((4, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (8, 1, 1)):
        result = made(pinned=pin(tensor, stages, replicas))
        check_plan(result)
        assert result.hash == result.computed_hash()
        assert len(result.stages) == stages
        assert result.stages[-1].end_layer == 80
        spans = any(len(gang.hosts) > 1 for gang in result.gangs)
        assert result.engine_args.get("distributed_executor_backend") == ("ray" if spans else None)
        assert "trust_remote_code" not in result.engine_args


def test_equal_questions_give_equal_plans_and_other_ones_others() -> None:
    assert made().hash == made().hash
    assert made().hash != made(workload={"input_tokens": 1024, "output_tokens": 256, "concurrency": 3}).hash


def test_hosts_have_the_names_of_the_intent() -> None:
    hardware = {"gpu": "H100-80GB-SXM", "gpus_per_node": 4, "hosts": ["left", "right"], "fabric": "ethernet-10g"}
    result = made(hardware=hardware, pinned=pin(4, 2))
    assert result.gangs[0].hosts == ("left", "right")
    assert result.expected.hosts == ("left", "right")
    assert {rank.domain for rank in result.gangs[0].ranks} == {"domain-1"}
    assert made(pinned=pin(4, 1)).expected.hosts == ("host-1",)


def test_precision_follows_the_checkpoint() -> None:
    assert made(pinned=pin(4, 1)).engine_args["dtype"] == "auto"
    assert made(pinned=pin(4, 1), dtype="float16").engine_args["dtype"] == "float16"
    fp8 = made(pinned=pin(4, 1), dtype="fp8")
    assert (fp8.engine_args["dtype"], fp8.engine_args["quantization"]) == ("auto", "fp8")
    with pytest.raises(LayoutError, match="stored as bfloat16"):
        made(pinned=pin(4, 1), dtype="awq")


def test_length_is_the_models_own_where_it_fits() -> None:
    roomy = made(pinned=pin(4, 2))
    assert "max_model_len" not in roomy.engine_args
    assert roomy.layout.max_model_len == 8192
    asked = made(pinned=pin(4, 2), max_model_len=4000)
    assert asked.engine_args["max_model_len"] == asked.layout.max_model_len == 4000
    long = made(model="meta-llama/Llama-3.1-8B", pinned=pin(1, 1), hardware={"gpu": "L4-24GB"})
    assert long.engine_args["max_model_len"] == long.layout.max_model_len < 131072


def test_only_known_and_needed_settings() -> None:
    assert made(pinned=pin(4, 2)).environment == ()
    assert made(pinned=pin(4, 1), options={"interface": "eth1"}).environment == ()
    settings_ = made(pinned=pin(4, 2), options={"interface": "eth1"}).environment
    assert {item.name: item.value for item in settings_} == {
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",
    }
    assert all(item.reason and item.source for item in settings_)


def test_uneven_stages_travel_as_one_setting_into_everything_that_is_rendered() -> None:
    uneven = made(
        model=SMALL,
        dtype="bfloat16",
        max_model_len=8192,
        hardware={"gpu": "L4-24GB", "gpus_per_node": 1, "nodes": 2, "fabric": "ethernet-25g"},
        workload={"input_tokens": 1024, "output_tokens": 256, "concurrency": 64},
        objectives={"tpot_p95_ms": 30},
    )
    (setting,) = uneven.environment
    assert (setting.name, setting.value) == ("VLLM_PP_LAYER_PARTITION", "17,15")
    assert "16,16" in setting.reason
    assert [(stage.first_layer, stage.end_layer) for stage in uneven.stages] == [(0, 17), (17, 32)]
    assert "uneven_stages" in uneven.reasons
    commands = render((uneven,), "vllm")
    assert len(commands) == 2
    assert all("export VLLM_PP_LAYER_PARTITION=17,15 " in file.text for file in commands)
    for target in ("ray", "kuberay"):
        assert any("VLLM_PP_LAYER_PARTITION: 17,15" in file.text for file in render((uneven,), target))


def test_the_lab_runs_on_ray_with_little_memory() -> None:
    lab = {"gpu": "lab-cpu", "gpus_per_node": 1, "nodes": 2, "fabric": "ethernet-10g"}
    workload = {"input_tokens": 64, "output_tokens": 64, "concurrency": 1}
    result = made(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        hardware=lab,
        workload=workload,
        pinned=pin(1, 2),
        options={"interface": "eth0"},
    )
    assert result.engine_args["distributed_executor_backend"] == "ray"
    assert result.engine_args["gpu_memory_utilization"] == 0.2
    assert result.engine_args["kv_cache_memory_bytes"] >= 2**27
    assert [item.name for item in result.environment] == ["GLOO_SOCKET_IFNAME"]
    assert result.gangs[0].hosts == ("host-1", "host-2")


@pytest.mark.parametrize(
    ("source", "served", "name"),
    [
        ("/srv/models/My Model 7B", "My Model 7B", "my-model-7b"),
        (LLAMA, LLAMA, "meta-llama-3-70b"),
        ("/x/70b", "70b", "m-70b"),
        ("/x/" + "long-" * 20, "long-" * 20, None),
    ],
)
def test_names(source: str, served: str, name: str | None) -> None:
    result = made(pinned=pin(4, 1), source=source)
    assert result.model.served_name == served
    assert result.name == name or (name is None and len(result.name) <= 40)
    assert result.gangs[0].id == f"{result.name}-0"
    assert made(pinned=pin(4, 1), options={"served_name": "mine"}).model.served_name == "mine"


@pytest.mark.parametrize(
    "options", [{"served_name": ""}, {"served_name": "a\nb"}, {"served_name": "x" * 201}, {"interface": "eth0; reboot"}]
)
def test_names_that_are_none(options: dict[str, str]) -> None:
    with pytest.raises(InputError):
        made(pinned=pin(4, 2), options=options)


def test_a_revision_is_pinned() -> None:
    result = made(pinned=pin(4, 1), options={"revision": "abc123"})
    assert result.model.revision == result.engine_args["revision"] == "abc123"


def test_infeasible_has_no_plan() -> None:
    with pytest.raises(LayoutError, match="infeasible"):
        made(hardware={"gpu": "L4-24GB", "gpus_per_node": 1, "nodes": 1})


def test_config_hash_ignores_spacing_and_order() -> None:
    assert config_sha256({"a": 1, "b": 2}) == config_sha256({"b": 2, "a": 1}) != config_sha256({"a": 1, "b": 3})


@settings(max_examples=40, deadline=None)
@given(
    gpus=st.sampled_from([1, 2, 4, 8]),
    nodes=st.integers(1, 4),
    rate=st.floats(0.1, 50),
    model=st.sampled_from([LLAMA, SMALL]),
)
def test_any_plan_is_sound(gpus: int, nodes: int, rate: float, model: str) -> None:
    hardware = {"gpu": "H100-80GB-SXM", "gpus_per_node": gpus, "nodes": nodes, "fabric": "roce-200g"}
    workload = {"input_tokens": 512, "output_tokens": 128, "request_rate_per_s": rate}
    try:
        result = made(model=model, hardware=hardware, workload=workload)
    except SpanwiseError as error:
        assert isinstance(error, LayoutError)
        return
    check_plan(result)
    assert sum(len(gang.ranks) for gang in result.gangs) == result.layout.world_size * result.layout.replicas
