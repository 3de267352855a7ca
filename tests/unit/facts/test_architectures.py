"""Parameter counts from config.json alone against the models that transformers builds from the same config."""

import copy

import pytest

from spanwise.errors import ModelError
from spanwise.facts.architectures import SUPPORTED, model_facts
from spanwise.facts.catalogue import model_config, model_names, model_terms
from tests.unit.facts.cases import CASES, LLAMA


def counted_by_transformers(config: dict) -> int:
    torch = pytest.importorskip("torch", reason="the engine's environment is not installed")
    transformers = pytest.importorskip("transformers", reason="the engine's environment is not installed")
    built = transformers.AutoConfig.for_model(**config)
    built.architectures = config["architectures"]
    name = config["architectures"][0].replace("PhiMoE", "Phimoe")  # as published, and as transformers calls it
    with torch.device("meta"):
        model = getattr(transformers, name)(built)
    return model.num_parameters()


@pytest.mark.parametrize("name", CASES)
def test_counts_equal_transformers(name):
    config = CASES[name]
    assert model_facts(config).parameters == counted_by_transformers(copy.deepcopy(config))


def test_every_supported_architecture_has_a_case():
    # transformers calls it Phimoe, the published checkpoints PhiMoE.
    covered = {config["architectures"][0] for config in CASES.values()} | {"PhiMoEForCausalLM"}
    assert covered == set(SUPPORTED)


# Totals of real models as the hub shows them for their safetensors files. Written down from memory; looked up in independent lists of
# the hub's figures: Llama 4 Scout, Gemma 3 12B and 27B.
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Meta-Llama-3-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108_641_793_536,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 401_583_781_376,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "mistralai/Ministral-8B-Instruct-2410": 8_019_808_256,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 24_011_361_280,
    "mistralai/Mistral-Large-Instruct-2407": 122_610_069_504,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73_410_777_344,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-2-27b-it": 27_227_128_320,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-12b-it": 12_187_325_040,
    "google/gemma-3-27b-it": 27_432_406_640,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-3-medium-4k-instruct": 13_960_238_080,
    "microsoft/phi-4": 14_659_507_200,
    "microsoft/Phi-3.5-MoE-instruct": 41_873_153_344,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "deepseek-ai/DeepSeek-V3": 671_026_404_352,  # the main model, without its prediction layer
    "openai/gpt-oss-20b": 20_914_757_184,
    "openai/gpt-oss-120b": 116_829_156_672,
    "CohereLabs/c4ai-command-r-v01": 34_980_831_232,
    "CohereLabs/c4ai-command-r-plus": 103_810_674_688,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "bigcode/starcoder2-3b": 3_030_371_328,
    "tiiuae/falcon-7b": 6_921_720_704,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    assert model_facts(model_config(name), name=name).parameters == PUBLISHED[name]


# Names that share one config are built once.
DISTINCT = list({repr(model_config(name)): name for name in model_names()}.values())


@pytest.mark.parametrize("name", DISTINCT)
def test_catalogue_models_equal_transformers(name):
    config = copy.deepcopy(model_config(name))
    config.pop("quantization_config", None)  # transformers would look for the libraries
    for part in (config, config.get("text_config", {})):
        if "max_position_embeddings" in part:
            part["max_position_embeddings"] = 4096  # tables of rotary angles are made for real
    assert model_facts(config).parameters == counted_by_transformers(config)


@pytest.mark.parametrize("name", model_names())
def test_catalogue_models_have_terms_and_a_longest_context(name):
    assert model_terms(name).licence
    assert model_facts(model_config(name)).max_position or name == "tiiuae/falcon-7b"


def test_terms_are_the_longest_known_beginning():
    assert model_terms("mistralai/Mistral-Large-Instruct-2407").gated
    assert not model_terms("mistralai/Mistral-7B-v0.1").gated
    assert model_terms("nobody/nothing") is None


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


def test_towers_are_a_number_of_their_own():
    facts = model_facts(model_config("google/gemma-3-27b-it"))
    assert facts.tower_params == 423_060_336
    assert facts.parameters - facts.tower_params == 27_009_346_304  # the text model alone
    assert facts.active_parameters < facts.parameters - facts.tower_params + 1
    assert any("tower" in caveat for caveat in facts.caveats)
    assert model_facts(LLAMA).tower_params == 0


def test_llama_4_attends_within_chunks_and_mixes_dense_layers():
    facts = model_facts(CASES["llama4"])
    assert [layer.window for layer in facts.layer_facts] == [8192, 8192, 8192, None, 8192, 8192]
    assert [layer.experts for layer in facts.layer_facts] == [0, 4, 0, 4, 0, 4]
    assert facts.layer_facts[0].chunked and not facts.layer_facts[3].chunked
    without = model_facts({**CASES["llama4"], "attention_chunk_size": None})
    assert all(layer.window is None for layer in without.layer_facts)


STRANGER = {**LLAMA, "architectures": ["FancyForCausalLM"], "model_type": "fancy", "auto_map": {"AutoModel": "x.Y"}}


def test_an_unknown_llama_shaped_model_is_counted_only_where_asked_and_says_so():
    with pytest.raises(ModelError, match="its keys are Llama's"):
        model_facts(STRANGER)
    facts = model_facts(STRANGER, assume=True)
    assert facts.parameters == model_facts(LLAMA).parameters
    assert facts.assumed == "llama-shaped"
    assert "FancyForCausalLM" in facts.caveats[0]
    assert model_facts(LLAMA, assume=True).assumed is None


@pytest.mark.parametrize(
    "key",
    [
        "num_experts", "num_local_experts", "kv_lora_rank", "sliding_window", "layer_types", "ssm_cfg", "mamba_d_state",
        "linear_num_value_heads", "qk_norm", "moe_intermediate_size", "num_nextn_predict_layers", "anything_else",
    ],
)  # fmt: skip
def test_a_key_that_hints_at_another_computation_is_never_assumed(key):
    with pytest.raises(ModelError, match=key):
        model_facts({**STRANGER, key: 4}, assume=True)


@pytest.mark.parametrize("key", ["vision_config", "text_config", "audio_config"])
def test_a_stranger_with_towers_is_never_assumed(key):
    with pytest.raises(ModelError, match=key):
        model_facts({**STRANGER, key: {"hidden_size": 4}}, assume=True)


@pytest.mark.parametrize("key", ["rms_norm_eps", "hidden_act", "vocab_size"])
def test_a_stranger_without_llamas_keys_is_never_assumed(key):
    with pytest.raises(ModelError, match=key):
        model_facts({name: value for name, value in STRANGER.items() if name != key}, assume=True)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama4-vision", {"text_config": None}, "hidden_size"),
        ("llama4-vision", {"text_config": []}, "text_config"),
        ("llama4-vision", {"vision_config": None}, "vision_config"),
        ("llama4-vision", {"audio_config": {"a": 1}}, "audio_config"),
        ("llava-pixtral", {"vision_config": {"model_type": "clip_vision_model"}}, "vision_config.model_type"),
        ("llava-pixtral", {"text_config": {"model_type": "gemma"}}, "gemma"),
        ("qwen2.5-vl", {"vision_config": {"out_hidden_size": 128}}, "out_hidden_size"),
        ("llama", {"architectures": ["MllamaForConditionalGeneration"]}, "0.10.2"),
        ("llama", {"architectures": ["Qwen3NextForCausalLM"]}, "linear-attention"),
        ("llama", {"architectures": ["Gemma3nForConditionalGeneration"]}, "per-layer"),
    ],
)
def test_refusals_of_multi_modal_and_hybrid_models(name, change, said):
    with pytest.raises(ModelError) as caught:
        model_facts({**CASES[name], **change})
    assert said in str(caught.value)
