"""What somebody else's plan may set: allowed by name, and nothing that loads, runs or writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import PlanError
from spanwise.plan.arguments import check_arguments, is_data, runs_code
from spanwise.plan.environment import FAMILIES, check_environment, refusal
from spanwise.plan.types import Setting
from tests.unit.plans import ARTICLE, CASES, make_plan

SECRET = "s3cr3t-value"


def setting(name: str, value: str = "1") -> Setting:
    return Setting(name=name, value=value, reason="r", source="s")


@pytest.mark.parametrize(
    "name",
    [
        "NCCL_SOCKET_IFNAME",
        "NCCL_IB_DISABLE",
        "NCCL_P2P_DIRECT_DISABLE",
        "GLOO_SOCKET_IFNAME",
        "UCX_TLS",
        "FI_PROVIDER",
        "NCCL_NET",
    ],
)
def test_what_tunes_the_network_may_be_set(name: str) -> None:
    assert refusal(name, "=eth0") == ""


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "VLLM_PLUGINS", "RAY_ADDRESS",
        "SPANWISE_LAB_SHM_GUARD",
        "NCCL_NET_PLUGIN", "NCCL_TUNER_PLUGIN", "NCCL_PROFILER_PLUGIN", "NCCL_CONF_FILE", "NCCL_DEBUG_FILE", "NCCL_TOPO_DUMP_FILE",
        "FI_PROVIDER_PATH", "UCX_MODULE_DIR", "UCX_GDB_COMMAND", "UCX_LOG_FILE", "UCX_STATS_DEST", "UCX_ERROR_MAIL_TO", "UCX_HANDLE_ERRORS",
        "nccl_debug", "NCCL DEBUG", "NCCL_", "NCCL_X=Y", "", "HF_TOKEN",
    ],
)  # fmt: skip
def test_what_loads_runs_or_writes_may_not(name: str) -> None:
    assert refusal(name, SECRET) != ""
    assert SECRET not in refusal(name, SECRET)


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_the_families_and_our_own_pass(name: str, value: str) -> None:
    if not refusal(name, value):
        assert name.startswith((*FAMILIES, "VLLM_PP_LAYER_PARTITION"))
        assert value.isprintable()


@pytest.mark.parametrize("value", ["41,39", "80"])
def test_our_own_setting_has_its_form(value: str) -> None:
    assert refusal("VLLM_PP_LAYER_PARTITION", value) == ""
    assert refusal("VLLM_PP_LAYER_PARTITION", f"{value};id") != ""


def test_a_sealed_plan_with_a_foreign_variable_is_refused_by_name_without_its_value() -> None:
    plan = make_plan(environment=(setting("LD_PRELOAD", f"/tmp/{SECRET}.so"),))
    with pytest.raises(PlanError) as refused:
        check_environment([plan], "plan.json")
    assert "LD_PRELOAD" in str(refused.value)
    assert "plan.json" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_every_plan_that_we_make_passes() -> None:
    for plans in CASES.values():
        check_environment(plans, "x")
        check_arguments(plans, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_cls", "evil.Worker"),
        ("worker_extension_cls", "evil.Mixin"),
        ("scheduler_cls", "evil.Scheduler"),
        ("trust_remote_code", True),
        ("logits_processors", ["evil:f"]),
        ("middleware", ["evil.m"]),
        ("tool_parser_plugin", "/tmp/evil.py"),
        ("kv_transfer_config", {"kv_connector_module_path": "evil"}),
        ("compilation_config", {"mode": 3, "backend": "evil.compile"}),
        ("compilation_config", {"inductor_passes": {"x": "evil.f"}}),
    ],
)
def test_arguments_that_run_code_are_known(name: str, value: object) -> None:
    assert runs_code(name, value)
    with pytest.raises(PlanError, match=name):
        check_arguments([make_plan(**{name: value})], "x")


@pytest.mark.parametrize("name", ["hf_overrides", "tokenizer", "download_dir", "a_new_argument"])
def test_what_is_not_known_to_be_data_is_refused_too(name: str) -> None:
    with pytest.raises(PlanError, match=name):
        check_arguments([make_plan(**{name: "x"})], "x")


def test_data_is_data() -> None:
    assert is_data("max_model_len", 4096)
    assert is_data("enable_prefix_caching", True)
    assert is_data("dtype", "auto")
    assert not is_data("max_model_len", True)
    assert not is_data("max_model_len", "4096; id")
    assert not is_data("dtype", "evil")
    assert not is_data("worker_cls", "x")
    assert runs_code("trust_remote_code", False) == ""
    assert runs_code("compilation_config", {"mode": 2, "backend": "eager"}) == ""
    assert ARTICLE.engine_args["dtype"] == "auto"
