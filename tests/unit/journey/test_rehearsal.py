"""A manifest made ready for the lab: hosts, layouts, engine arguments, refusals, and every difference named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.checkpoints.small import Shape, small_config
from spanwise.errors import InputError, LayoutError, ManifestError, PlanError, SpanwiseError
from spanwise.journey.rehearsal import Rehearsal, check_size, rehearse, serve_config
from spanwise.plan.load import parse_plan
from spanwise.plan.types import Setting
from spanwise.render import RenderOptions, render
from spanwise.render.manifest import read_manifest
from tests.unit.plans import CASES, UNEVEN, make_plan

OURS = RenderOptions(runtime="spanwise", image="registry.example/spanwise:1")
SECRET = "s3cr3t-value"


def text_of(*plans: Any, options: RenderOptions | None = None, target: Any = "kuberay") -> bytes:
    if options is not None and target == "ray":
        options = dataclasses.replace(options, image=None)
    return render(plans, target, options)[0].text.encode()


def rehearsed(data: bytes, **options: Any) -> Rehearsal:
    return rehearse(read_manifest(data, "m.yaml"), dtype="float32", **options)


def applied(found: Rehearsal) -> dict[str, Any]:
    shapes = {model.shape for model in found.models}
    return serve_config(
        found,
        {shape: Path("/models") / str(shape.tensor_parallel_size) for shape in shapes},
        {shape: small_config(shape) for shape in shapes},
    )


def with_model(**changes: Any) -> bytes:
    """A RayService of one model on one host of four GPUs, its config changed."""
    document = yaml.safe_load(text_of(*CASES["article"]))
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    model = config["applications"][0]["args"]["llm_configs"][0]
    for key, value in changes.items():
        model[key] = (
            {**model.get(key, {}), **value} if isinstance(value, dict) and isinstance(model.get(key), dict) else value
        )
    document["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    return yaml.safe_dump(document).encode()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["ray", "kuberay"])
@pytest.mark.parametrize("options", [None, OURS], ids=["stock", "spanwise"])
def test_everything_that_render_writes_is_rehearsed(case: str, target: str, options: RenderOptions | None) -> None:
    found = rehearsed(text_of(*CASES[case], options=options, target=target))
    assert [model.name for model in found.models] == [plan.model.served_name for plan in CASES[case]]
    assert found.ranks == sum(len(gang.ranks) for plan in CASES[case] for gang in plan.gangs)
    application = applied(found)["applications"][0]
    if options is None:
        kwargs = [config["engine_kwargs"] for config in application["args"]["llm_configs"]]
    else:
        kwargs = [parse_plan(plan).engine_args for plan in application["args"]["plans"]]
    for plan, arguments in zip(CASES[case], kwargs, strict=True):
        assert arguments["tensor_parallel_size"] == plan.layout.tensor_parallel_size
        assert arguments["pipeline_parallel_size"] == plan.layout.pipeline_parallel_size
        assert arguments["dtype"] == "float32"
        assert arguments["compilation_config"] == {"mode": 2, "backend": "eager"}
        assert "quantization" not in arguments


GOLDEN = Path(__file__).resolve().parents[2] / "golden"
WRITTEN = sorted(
    str(path.relative_to(GOLDEN)) for name in ("rayservice.yaml", "serve.yaml") for path in GOLDEN.rglob(name)
)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_golden_file_is_rehearsed(name: str) -> None:
    found = rehearsed((GOLDEN / name).read_bytes())
    assert found.ranks >= 4
    assert len(found.hosts) >= 1 + ("kuberay" in name)
    assert applied(found)["applications"][0]["args"]


def test_our_runtime_gives_each_host_the_name_that_its_group_has() -> None:
    found = rehearsed((GOLDEN / "two-models/kuberay-spanwise/rayservice.yaml").read_bytes())
    names = [host.labels.get("spanwise.io/host") for host in found.hosts]
    assert names == [None, "host-1", "host-2", "host-7"]


@pytest.mark.parametrize("case", CASES)
def test_a_rendered_command_is_rehearsed_too(case: str) -> None:
    for plan in CASES[case]:
        first = render((plan,), "vllm")[0]
        found = rehearsed(first.text.encode())
        (model,) = found.models
        assert model.shape.tensor_parallel_size == plan.layout.tensor_parallel_size
        assert model.shape.pipeline_parallel_size == plan.layout.pipeline_parallel_size
        assert len(found.hosts) == len(plan.gangs[0].hosts)
        assert any(remark.where == "server" for remark in found.remarks)
    with pytest.raises(ManifestError, match="--tensor-parallel-size"):
        rehearsed(b"vllm serve org/m --tensor-parallel-size $N")
    with pytest.raises(ManifestError, match="LD_PRELOAD"):
        rehearsed(b"LD_PRELOAD=/tmp/x.so vllm serve org/m")


def test_hosts_are_the_groups_with_the_head_first() -> None:
    found = rehearsed(text_of(*CASES["two-models"]))
    assert [(host.group, host.gpus, host.resources) for host in found.hosts] == [
        ("head", 0, {}),
        ("meta-llama-3-70b-domain-1", 4, {"spanwise-meta-llama-3-70b": 4.0}),
        ("meta-llama-3-70b-domain-1", 4, {"spanwise-meta-llama-3-70b": 4.0}),
        ("small-domain-1", 2, {"spanwise-small": 2.0}),
    ]


@pytest.mark.parametrize("options", [None, OURS], ids=["stock", "spanwise"])
def test_shrink_keeps_the_layout_and_one_replica(options: RenderOptions | None) -> None:
    many = make_plan(name="many", served_name="many", tensor=2, stages=2, replicas=3, hosts=6, gpus_per_node=2)
    found = rehearsed(text_of(many, options=options), shrink=True)
    assert (found.ranks, len(found.hosts)) == (4, 3)
    assert found.models[0].shape == Shape(2, 2)
    assert any("--shrink" in remark.reason for remark in found.remarks)
    application = applied(found)["applications"][0]["args"]
    if options is None:
        assert application["llm_configs"][0]["deployment_config"]["num_replicas"] == 1
    else:
        assert len(parse_plan(application["plans"][0]).gangs) == 1


def test_what_does_not_fit_is_refused_with_both_figures() -> None:
    found = rehearsed(text_of(*CASES["two-hosts"]))
    with pytest.raises(
        LayoutError, match=r"8 ranks of 1 replicas on 3 hosts need about \d+ GiB; this machine has 4 GiB"
    ):
        check_size(found, free_bytes=4 * 2**30, max_ranks=None)
    with pytest.raises(LayoutError, match="needs 8 ranks; --max-ranks allows 4"):
        check_size(found, free_bytes=10**12, max_ranks=4)
    check_size(found, free_bytes=0, max_ranks=8)


def test_an_uneven_partition_decides_the_layers() -> None:
    found = rehearsed(text_of(UNEVEN))
    assert found.models[0].shape.layers == 80
    assert small_config(found.models[0].shape)["num_hidden_layers"] == 80
    assert found.models[0].environment == {"VLLM_PP_LAYER_PARTITION": "41,39"}


def test_each_change_is_named_with_its_reason() -> None:
    found = rehearsed(
        with_model(
            engine_kwargs={
                "quantization": "fp8",
                "enforce_eager": True,
                "max_num_seqs": 16,
                "max_num_batched_tokens": 8192,
                "strange_new": 1,
            }
        )
    )
    said = {remark.where.rsplit(".", 1)[-1]: (remark.kind, remark.what, remark.now) for remark in found.remarks}
    assert said["gpu_memory_utilization"] == ("changed", "0.9", "0.1")
    assert said["quantization"][0] == "left_out"
    assert said["enforce_eager"][0] == "left_out"
    assert said["strange_new"][0] == "left_out"
    assert said["max_num_batched_tokens"] == ("changed", "8192", "2048")
    assert said["accelerator_type"] == ("left_out", "H100", "")
    assert said["model_source"][1] == "meta-llama/Meta-Llama-3-70B"
    arguments = found.models[0].llm_config["engine_kwargs"]
    assert arguments["max_num_seqs"] == 16
    assert not {"quantization", "enforce_eager", "strange_new"} & set(arguments)
    assert all(remark.reason for remark in found.remarks)


@pytest.mark.parametrize(
    "change",
    [
        {"engine_kwargs": {"trust_remote_code": True}},
        {"engine_kwargs": {"worker_cls": "evil.Worker"}},
        {"engine_kwargs": {"worker_extension_cls": "evil.Mixin"}},
        {"engine_kwargs": {"scheduler_cls": "evil.S"}},
        {"engine_kwargs": {"middleware": ["evil.m"]}},
        {"engine_kwargs": {"logits_processors": ["evil.f"]}},
        {"engine_kwargs": {"kv_transfer_config": {"kv_connector": "x", "kv_connector_module_path": "evil"}}},
        {"engine_kwargs": {"data_parallel_size": 2}},
        {"engine_kwargs": {"tensor_parallel_size": "4; id"}},
        {"engine_kwargs": {"tensor_parallel_size": 0}},
        {"engine_kwargs": {"model": "x"}},
        {"server_cls": "evil.Server"},
        {"callback_config": {"callback_class": "evil.C"}},
        {"llm_engine": "SGLang"},
        {"runtime_env": {"working_dir": "s3://x"}},
        {"runtime_env": {"pip": ["evil"]}},
        {"runtime_env": {"worker_process_setup_hook": "evil.f"}},
        {"runtime_env": {"env_vars": {"LD_PRELOAD": SECRET}}},
        {"runtime_env": {"env_vars": {"PYTHONPATH": SECRET}}},
        {"runtime_env": {"env_vars": {"VLLM_PLUGINS": SECRET}}},
        {"runtime_env": {"env_vars": {"NCCL_NET_PLUGIN": SECRET}}},
        {"runtime_env": {"env_vars": {"FI_PROVIDER_PATH": SECRET}}},
        {"deployment_config": {"request_router_config": {"request_router_class": "evil.R"}}},
        {"deployment_config": {"autoscaling_config": {"policy": {"policy_function": "evil.f"}}}},
        {"deployment_config": {"ray_actor_options": {"runtime_env": {"pip": ["evil"]}}}},
        {"deployment_config": {"num_replicas": 0}},
        {"placement_group_config": {"strategy": "evil"}},
        {"placement_group_config": {"bundle_per_worker": {"GPU": "evil"}}},
        {"model_loading_config": {"model_id": ""}},
        {"strange_field": 1},
    ],
)
def test_code_and_contradictions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as refused:
        rehearsed(with_model(**change))
    assert refused.value.remedy
    assert SECRET not in str(refused.value)


def test_the_environment_goes_by_allowlist_and_no_value_is_shown() -> None:
    found = rehearsed(
        with_model(runtime_env={"env_vars": {"NCCL_DEBUG": "INFO", "HF_TOKEN": SECRET, "GLOO_SOCKET_IFNAME": "eth7"}})
    )
    assert found.models[0].environment == {"NCCL_DEBUG": "INFO"}
    assert found.models[0].llm_config["runtime_env"] == {"env_vars": {"NCCL_DEBUG": "INFO"}}
    assert SECRET not in str(found) + str(applied(found))
    left_out = {remark.what for remark in found.remarks if remark.kind == "left_out"}
    assert {"HF_TOKEN", "GLOO_SOCKET_IFNAME"} <= left_out


@pytest.mark.parametrize("change", [{"ingress_cls_config": {"ingress_cls": "evil.I"}}, {"evil": 1}])
def test_arguments_of_the_application(change: dict[str, Any]) -> None:
    document = yaml.safe_load(text_of(*CASES["article"]))
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    config["applications"][0]["args"] |= change
    document["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    with pytest.raises(ManifestError):
        rehearsed(yaml.safe_dump(document).encode())


def test_a_plan_that_loads_something_is_refused_in_our_runtime_too() -> None:
    setting = Setting(name="LD_PRELOAD", value=SECRET, reason="r", source="s")
    with pytest.raises(ManifestError, match="LD_PRELOAD"):
        rehearsed(text_of(make_plan(environment=(setting,)), options=OURS))
    with pytest.raises(ManifestError, match="worker_cls"):
        rehearsed(text_of(make_plan(worker_cls="evil.W"), options=OURS))


def test_an_edited_plan_is_refused() -> None:
    text = text_of(*CASES["article"], options=OURS).decode()
    with pytest.raises(PlanError, match="edited"):
        rehearsed(text.replace("gpu_memory_utilization: 0.9", "gpu_memory_utilization: 0.8").encode())


def test_models_that_find_no_room_are_refused_before_anything_starts() -> None:
    with pytest.raises(ManifestError, match="ask for 8 GPU and the hosts have 4"):
        rehearsed(with_model(engine_kwargs={"pipeline_parallel_size": 2}, placement_group_config={"strategy": "PACK"}))
    with pytest.raises(ManifestError, match="spanwise-none"):
        rehearsed(with_model(placement_group_config={"bundle_per_worker": {"GPU": 1, "spanwise-none": 1}}))
    two_hosts = yaml.safe_load(text_of(*CASES["two-hosts"]))
    two_hosts["spec"]["serveConfigV2"] = two_hosts["spec"]["serveConfigV2"].replace("PACK", "STRICT_PACK")
    with pytest.raises(ManifestError, match="must stand on one host"):
        rehearsed(yaml.safe_dump(two_hosts).encode())


@pytest.mark.parametrize(("key", "value"), [("replicas", 100), ("replicas", 10**9), ("numOfHosts", 9_999)])
def test_more_hosts_than_a_lab_has_are_refused(key: str, value: int) -> None:
    document = yaml.safe_load(text_of(*CASES["article"]))
    document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0][key] = value
    with pytest.raises(InputError):
        rehearsed(yaml.safe_dump(document).encode())


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["env_vars", "mode", "GPU"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        "model_loading_config", "engine_kwargs", "placement_group_config", "deployment_config", "runtime_env", "experimental_configs",
        "accelerator_type",
        "llm_engine", "lora_config", "log_engine_metrics",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_FIELDS, _VALUES, max_size=3))
def test_any_model_config_is_rehearsed_or_refused(changes: dict[str, Any]) -> None:
    document = yaml.safe_load(text_of(*CASES["article"]))
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    config["applications"][0]["args"]["llm_configs"][0] |= changes
    document["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    try:
        found = rehearsed(yaml.safe_dump(document).encode())
    except SpanwiseError as error:
        assert error.exit_code == 2
        return
    assert set(found.models[0].environment) == set() or all(
        name.split("_")[0] in ("NCCL", "GLOO", "UCX", "FI", "VLLM") for name in found.models[0].environment
    )


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["tensor_parallel_size", "dtype", "seed", "max_model_len", "hf_token", "foo", "block_size"]),
        _VALUES,
        max_size=4,
    )
)
def test_any_engine_arguments_come_out_as_data(arguments: dict[str, Any]) -> None:
    try:
        found = rehearsed(with_model(engine_kwargs=arguments))
    except SpanwiseError as error:
        assert error.exit_code == 2
        return
    for name, value in found.models[0].llm_config["engine_kwargs"].items():
        assert name == "compilation_config" or isinstance(value, int | float | str)
