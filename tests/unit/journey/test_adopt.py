"""What runs, as an intent and a plan: layouts kept, assumptions and what nobody said listed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import InputError, ManifestError, PlanError, SpanwiseError
from spanwise.intent.load import parse_intent
from spanwise.journey import adopt as adopting
from spanwise.journey.adopt import Adopted, Given, adopt_cluster, adopt_file
from spanwise.plan.load import parse_plan
from spanwise.render import RenderOptions, render
from spanwise.render.yaml_text import yaml_text
from tests.unit.plans import ARTICLE, CASES, TWO_HOSTS, document

SECRET = "hf_SECRETSECRET"
COMMAND = (
    "python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B --tensor-parallel-size 4"
    " --gpu-memory-utilization 0.9"
)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def adopted(data: bytes | str, **given_: Any) -> list[Adopted]:
    return adopt_file(data.encode() if isinstance(data, str) else data, "x", Given(**given_))


def kinds(item: Adopted) -> dict[str, str]:
    return {note.what: note.kind for note in item.notes}


def test_a_rayservice_becomes_the_plan_that_it_was_rendered_from() -> None:
    (found,) = adopted(render((TWO_HOSTS,), "kuberay")[0].text, fabric="ib-ndr-400g")
    assert found.plan is not None
    assert (
        found.plan.layout.tensor_parallel_size,
        found.plan.layout.pipeline_parallel_size,
        found.plan.layout.replicas,
    ) == (4, 2, 1)
    assert found.intent["hardware"] == {"gpu": "H100-80GB-SXM", "gpus_per_node": 4, "nodes": 2, "fabric": "ib-ndr-400g"}
    assert found.plan.verdict == "multi_node"
    assert "layout_forced_by_user" in found.plan.reasons
    assert kinds(found)["hardware.gpu"] == "assumed", "H100 may be several cards"
    assert kinds(found)["workload.input_tokens"] == "assumed"


def test_what_is_written_is_read_again() -> None:
    (found,) = adopted(COMMAND, gpu="H100-80GB-SXM", request_rate_per_s=4.0, input_tokens=1024, output_tokens=256)
    intent = parse_intent(yaml_text(found.intent, ["a note"]))
    assert intent.workload.request_rate_per_s == 4
    assert found.plan is not None
    assert parse_plan(document(found.plan)) == found.plan
    assert set(kinds(found)) == {"hardware.gpus_per_node"}


def test_the_articles_command_needs_only_the_gpus_name() -> None:
    with pytest.raises(InputError, match="what GPU") as refused:
        adopted(COMMAND)
    assert "--gpu" in refused.value.remedy
    (found,) = adopted(COMMAND, gpu="H100-80GB-SXM")
    assert found.plan is not None
    assert found.plan.engine_args["tensor_parallel_size"] == 4
    assert found.intent["hardware"]["nodes"] == 1


def test_several_models_become_several_plans() -> None:
    found = adopted(render(CASES["two-models"], "kuberay")[0].text)
    assert [item.name for item in found] == ["meta-llama/Meta-Llama-3-70B", "small"]
    assert found[0].plan is not None
    # Nobody here knows this model's config.json: the intent is there, the plan is not, and it says so.
    assert found[1].plan is None
    assert kinds(found[1])["model"] == "unknown"
    assert found[1].intent["hardware"]["gpus_per_node"] == 2


def test_our_own_runtime_gives_its_plans_back() -> None:
    for target, image in (("ray", None), ("kuberay", "registry.example/spanwise:1")):
        options = RenderOptions(runtime="spanwise", image=image)
        (found,) = adopted(render((ARTICLE,), target, options)[0].text)  # type: ignore[arg-type]
        assert found.plan == ARTICLE


def test_a_layout_that_cannot_hold_the_model_is_said_and_not_planned() -> None:
    (found,) = adopted("vllm serve meta-llama/Meta-Llama-3-70B", gpu="L4-24GB")
    assert found.plan is None
    assert kinds(found)["plan"] == "unknown"
    (found,) = adopted("vllm serve meta-llama/Meta-Llama-3-70B --tensor-parallel-size 3", gpu="H200-141GB-SXM")
    assert found.plan is None


def test_on_the_labs_hosts_a_share_of_the_memory_says_nothing_about_a_rank() -> None:
    (found,) = adopted("vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --gpu-memory-utilization 0.05", gpu="lab-cpu")
    assert found.plan is not None
    assert found.intent["gpu_memory_utilization"] == 0.9, "the intent's own"
    assert kinds(found)["gpu_memory_utilization"] == "not_kept"


def test_what_a_plan_does_not_carry_is_listed_by_name() -> None:
    command = (
        f"HF_TOKEN={SECRET} NCCL_DEBUG=INFO {COMMAND} --max-num-seqs 32 --hf-token {SECRET} --tensor-parallel-size $TP"
    )
    (found,) = adopted(command, gpu="H100-80GB-SXM")
    said = kinds(found)
    assert said["max_num_seqs"] == said["HF_TOKEN"] == said["NCCL_DEBUG"] == "not_kept"
    assert SECRET not in str(found)


def test_code_in_a_manifest_is_noted_and_nothing_is_refused_for_it() -> None:
    text = yaml.safe_load(render((ARTICLE,), "kuberay")[0].text)
    config = yaml.safe_load(text["spec"]["serveConfigV2"])
    config["applications"][0]["runtime_env"] = {"working_dir": "https://evil.example/x.zip"}
    config["applications"].append({"name": "other", "route_prefix": "/o", "import_path": "evil:app"})
    text["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    (found,) = adopted(yaml.safe_dump(text))
    assert found.plan is not None
    assert any("import_path" in note.what for note in found.notes)


def described(*configs: Any, **more: Any) -> dict[str, Any]:
    return {
        "ray_version": "2.60.0",
        "nodes": [
            {"host": "a", "resources": {"CPU": 8.0}, "labels": {}},
            {
                "host": "pod-b",
                "resources": {"CPU": 8.0, "GPU": 4.0},
                "labels": {"ray.io/accelerator-type": "H200", "spanwise.io/host": "gpu-a"},
            },
            {"host": "pod-c", "resources": {"CPU": 8.0, "GPU": 4.0}, "labels": {"ray.io/accelerator-type": "H200"}},
        ],
        "applications": [
            {"name": f"app-{index}", "status": "RUNNING", "config": config} for index, config in enumerate(configs)
        ],
        **more,
    }


def test_a_running_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(render((TWO_HOSTS,), "ray")[0].text)["applications"][0]
    config["args"]["llm_configs"][0].pop("accelerator_type")
    monkeypatch.setattr(adopting, "describe", lambda _: described(config, None))
    (found,) = adopt_cluster("10.0.0.1:6379", Given(fabric="roce-200g"))
    assert found.plan is not None
    assert found.intent["hardware"] == {
        "gpu": "H200-141GB-SXM",
        "gpus_per_node": 4,
        "nodes": 2,
        "hosts": ["gpu-a", "pod-c"],
        "fabric": "roce-200g",
    }
    assert found.plan.expected.hosts == ("gpu-a", "pod-c")
    assert kinds(found)["application app-1"] == "not_kept"


def by_up(*plans: Any, silent: tuple[str, ...] = ()) -> dict[str, Any]:
    """The application that `spanwise up` makes, in the form in which the driver describes it."""
    return {
        "name": "spanwise",
        "status": "RUNNING",
        "config": None,
        "plans": [plan.model_dump(mode="json", by_alias=True) for plan in plans],
        "silent": list(silent),
    }


def test_what_up_deployed_gives_its_plans_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "describe", lambda _: described(applications=[by_up(ARTICLE, TWO_HOSTS)]))
    found = adopt_cluster("auto", Given())
    assert [item.plan for item in found] == [ARTICLE, TWO_HOSTS]
    assert [item.intent for item in found] == [ARTICLE.intent, TWO_HOSTS.intent]
    assert not any(item.notes for item in found)


def test_what_up_deployed_beside_other_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(render((TWO_HOSTS,), "ray")[0].text)["applications"][0]
    more = [
        {"name": "app-0", "status": "RUNNING", "config": config},
        {"name": "own", "status": "RUNNING", "config": None},
    ]
    what = described(applications=[by_up(ARTICLE, silent=("late-0",)), *more])
    monkeypatch.setattr(adopting, "describe", lambda _: what)
    ours, theirs = adopt_cluster("auto", Given(fabric="roce-200g", gpu="H100-80GB-SXM"))
    assert ours.plan == ARTICLE
    assert theirs.plan is not None
    assert theirs.plan.layout == TWO_HOSTS.layout
    said = {"application own": "not_kept", "gang late-0": "unknown"}
    assert kinds(ours) == said
    assert said.items() <= kinds(theirs).items()


def test_gangs_that_say_nothing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "describe", lambda _: described(applications=[by_up(silent=("m-0",))]))
    with pytest.raises(ManifestError, match="m-0") as refused:
        adopt_cluster("auto", Given())
    assert "spanwise status" in refused.value.remedy


def test_a_damaged_plan_in_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    what = by_up(ARTICLE)
    what["plans"][0]["hash"] = "0" * 16
    monkeypatch.setattr(adopting, "describe", lambda _: described(applications=[what]))
    with pytest.raises(PlanError):
        adopt_cluster("auto", Given())


@pytest.mark.parametrize("what", [described(), described(None)])
def test_a_cluster_without_a_config(monkeypatch: pytest.MonkeyPatch, what: dict[str, Any]) -> None:
    monkeypatch.setattr(adopting, "describe", lambda _: what)
    with pytest.raises(ManifestError) as refused:
        adopt_cluster("auto", Given())
    assert refused.value.remedy


def test_an_empty_address_is_no_cluster() -> None:
    with pytest.raises(InputError):
        adopt_cluster(" ", Given())


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "engine_kwargs",
                "deployment_config",
                "placement_group_config",
                "accelerator_type",
                "model_loading_config",
                "runtime_env",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["tensor_parallel_size", "model_id", "num_replicas", "max_model_len", "dtype", "env_vars"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ),
        max_size=3,
    )
)
def test_any_model_config_is_adopted_or_refused(changes: dict[str, Any]) -> None:
    config = yaml.safe_load(render((ARTICLE,), "ray")[0].text)
    config["applications"][0]["args"]["llm_configs"][0] |= changes
    try:
        adopted(yaml.safe_dump(config))
    except SpanwiseError as error:
        assert error.exit_code == 2


def test_what_stands_behind_a_substitution_is_adopted_too() -> None:
    (found,) = adopted("vllm serve meta-llama/Meta-Llama-3-8B --api-key $(cat /run/key) -tp 2", gpu="H100-80GB-SXM")
    assert found.plan is not None
    assert found.plan.layout.tensor_parallel_size == 2


@pytest.mark.parametrize("source", ["s3://key:secretsecret@bucket/m", "https://me:secretsecret@hub.example/m"])
def test_a_secret_in_the_models_address_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(InputError, match="model holds a secret") as caught:
        adopted(f"vllm serve {source} --served-model-name m", gpu="H100-80GB-SXM")
    assert "secretsecret" not in str(caught.value)
    (found,) = adopted(
        f"vllm serve {source} --served-model-name m", gpu="H100-80GB-SXM", model="meta-llama/Meta-Llama-3-8B"
    )
    assert "secretsecret" not in str(found)
