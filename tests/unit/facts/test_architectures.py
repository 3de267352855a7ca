"""Parameter counts from config.json alone against the models that transformers builds from the same config."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import ModelError, SpanwiseError
from spanwise.facts.architectures import SUPPORTED, model_facts
from spanwise.facts.catalogue import model_config, model_names
from tests.unit.facts.cases import CASES, LLAMA


def counted_by_transformers(config: dict) -> int:
    torch = pytest.importorskip("torch", reason="the engine's environment is not installed")
    transformers = pytest.importorskip("transformers", reason="the engine's environment is not installed")
    built = transformers.AutoConfig.for_model(**config)
    built.architectures = config["architectures"]
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(built)
    return model.num_parameters()


@pytest.mark.parametrize("name", CASES)
def test_counts_equal_transformers(name):
    config = CASES[name]
    assert model_facts(config).parameters == counted_by_transformers(copy.deepcopy(config))


def test_every_supported_architecture_has_a_case():
    # transformers calls it Phimoe, the published checkpoints PhiMoE.
    covered = {config["architectures"][0] for config in CASES.values()} | {"PhiMoEForCausalLM"}
    assert covered == set(SUPPORTED)


# Published totals of real models, from their cards or from the counts the hub shows for the safetensors files.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("meta-llama/Meta-Llama-3-70B", 70_553_706_496),
        ("meta-llama/Llama-3.1-405B", 405_853_388_800),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
    ],
)
def test_published_totals(name, parameters):
    assert model_facts(model_config(name), name=name).parameters == parameters


@pytest.mark.parametrize("name", model_names())
def test_catalogue_models_equal_transformers(name):
    config = copy.deepcopy(model_config(name))
    assert model_facts(config).parameters == counted_by_transformers(config)


def test_kv_bytes_and_weights_of_llama_3_70b():
    facts = model_facts(model_config("meta-llama/Meta-Llama-3-70B"))
    from spanwise.facts.dtypes import weight_format

    # 2 x 8 heads x 128 x 2 bytes x 80 layers.
    assert facts.kv_bytes_per_token(weight_format("bfloat16")) == 327_680
    # vLLM 0.24 on an H200 loaded 67.67 GiB in fp8 and 14.96 GiB for the 8B in bfloat16.
    assert facts.weights_bytes(weight_format("fp8")) / 2**30 == pytest.approx(67.67, abs=0.02)
    small = model_facts(model_config("meta-llama/Meta-Llama-3-8B"))
    assert small.weights_bytes(weight_format("bfloat16")) / 2**30 == pytest.approx(14.96, abs=0.01)


def test_mla_cache_is_the_latent_vector():
    facts = model_facts(CASES["deepseek-v3"])
    assert facts.layer_facts[0].kv_values_per_token == 64 + 16


def test_sliding_windows_alternate():
    gemma3 = model_facts({**CASES["gemma3"], "num_hidden_layers": 12})
    assert [layer.window for layer in gemma3.layer_facts] == ([128] * 5 + [None]) * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["BertModel"]}, "BertModel"),
        ({"architectures": ["IdeficsForConditionalGeneration"]}, "multi-modal"),
        ({"vision_config": {"hidden_size": 1}}, "vision_config"),
        ({"architectures": None}, "architectures"),
        ({"architectures": []}, "architectures"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**400}, "num_hidden_layers"),
        ({"num_attention_heads": 7}, "num_key_value_heads"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"quantization_config": {"quant_method": "exl2"}}, "exl2"),
        ({"quantization_config": {"quant_method": "awq", "bits": 5}}, "bits"),
        ({"torch_dtype": "complex64"}, "torch_dtype"),
    ],
)
def test_refusals_name_the_key(change, said):
    with pytest.raises(ModelError) as caught:
        model_facts({**LLAMA, **change}, name="somewhere/config.json")
    assert said in str(caught.value)
    assert caught.value.remedy
    assert "somewhere" in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "x", 3, {}])
def test_not_a_config(document):
    with pytest.raises(ModelError):
        model_facts(document)


_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_fuzzed_config_never_gives_a_traceback(data):
    config = dict(data.draw(st.sampled_from(list(CASES.values()))))
    keys = st.sampled_from(
        [*config, "quantization_config", "rope_scaling", "layer_types", "head_dim", "mlp_only_layers"]
    )
    for key in data.draw(st.lists(keys, min_size=1, max_size=3)):
        config[key] = data.draw(_junk)
    try:
        facts = model_facts(config)
    except SpanwiseError as error:
        assert error.exit_code == 2
    else:
        assert facts.parameters > 0
        assert facts.active_parameters <= facts.parameters + facts.embedding_params
