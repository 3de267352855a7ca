"""Bytes of quantised checkpoints against sums by hand."""

import pytest

from spanwise.errors import ModelError
from spanwise.facts.architectures import model_facts
from spanwise.facts.catalogue import model_config
from tests.unit.facts.cases import CASES, LLAMA

# LLAMA: hidden 256, MLP 704, 8 heads of 32, 2 KV heads, 3 layers, vocabulary 1000, untied.
ATTENTION = 256 * 256 * 2 + 256 * 64 * 2  # q, o; k, v
MLP = 3 * 256 * 704
LINEAR = 3 * (ATTENTION + MLP)
PLAIN = 3 * 2 * 256 + 256 + 2 * 1000 * 256  # norms, last norm, embedding and head


def weights(quantisation, config=LLAMA):
    facts = model_facts({**config, "quantization_config": quantisation})
    return facts, facts.weights_bytes(facts.weight_format)


def group(**settings):
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": settings, "input_activations": settings.pop("activations", None)}},
        "ignore": ["lm_head"],
    }


@pytest.mark.parametrize(
    ("quantisation", "bits"),
    [
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "fbgemm_fp8"}, 8),
        # One float32 scale per 128 x 128 block.
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 16384),
        # Per 128 weights a 16-bit scale and a 4-bit zero point.
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": False}, 4 + 16 / 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}, 4 + 20 / 32),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8 + 24 / 128),
        (group(num_bits=8, type="float", activations={"num_bits": 8}), 8),
        (group(num_bits=8, type="float", strategy="block", block_structure=[128, 128]), 8 + 32 / 16384),
        (group(num_bits=8, type="int", activations={"num_bits": 8}), 8),
        (group(num_bits=8, type="int", group_size=128, symmetric=True), 8 + 16 / 128),
        (group(num_bits=4, type="int", group_size=128, symmetric=True), 4 + 16 / 128),
        (group(num_bits=4, type="int", group_size=128, symmetric=False), 4 + 20 / 128),
        (group(num_bits=4, type="float", group_size=16), 4.5),
        (group(num_bits=4, type="float", group_size=32), 4.25),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, 4.5),
    ],
)
def test_bytes_by_hand(quantisation, bits):
    facts, counted = weights(quantisation)
    # Each layer is rounded up to a whole byte.
    assert counted == pytest.approx(LINEAR * bits / 8 + PLAIN * 2, abs=3)
    assert facts.parameters == LINEAR + PLAIN


def test_gpt_oss_has_the_size_of_its_published_files():
    """Experts at 4.25 bits, the rest in bfloat16. The 20B's is `total_size` of its safetensors index; the 120B's is this sum, pinned."""
    for name, size in (("openai/gpt-oss-20b", 13_761_264_768), ("openai/gpt-oss-120b", 65_248_815_744)):
        facts = model_facts(model_config(name))
        assert facts.weights_bytes(facts.weight_format) == size


def test_deepseek_v3_by_hand():
    facts = model_facts(model_config("deepseek-ai/DeepSeek-V3"))
    linear = sum(layer.linear for layer in facts.layer_facts)
    expected = linear * (1 + 4 / 16384) + (facts.parameters - linear) * 2
    assert facts.weights_bytes(facts.weight_format) == pytest.approx(expected, abs=61)
    assert 671e9 < expected < 675e9


FP8 = {"quant_method": "fp8"}
HALF = 2  # bytes of a kept weight; a converted one takes 1


@pytest.mark.parametrize(
    ("kept", "count"),
    [
        (["lm_head"], 0),
        (["re:.*lm_head", "model.embed_tokens", "re:.*mlp.gate$", "re:.*vision_tower.*", "model.norm"], 0),
        (["model.layers.1.self_attn"], ATTENTION),
        (["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"], ATTENTION),
        (["re:.*self_attn.*"], 3 * ATTENTION),
        (["model.layers.0.mlp.down_proj", "model.layers.2.mlp"], 2 * MLP),
        (["model.layers.0"], ATTENTION + MLP),
        ([r"re:.*layers\.0\..*"], ATTENTION + MLP),
        (["model.layers.3", "model.layers.61.eh_proj"], 0),  # beyond the last: a prediction layer
    ],
)
def test_modules_that_stay_in_16_bits(kept, count):
    facts, counted = weights({**FP8, "modules_to_not_convert": kept})
    assert counted == pytest.approx(LINEAR + count * (HALF - 1) + PLAIN * 2, abs=3)
    assert facts.caveats == ()


def test_kept_attention_leaves_experts_converted():
    config = CASES["mixtral"]
    plain, _ = weights(FP8, config)
    facts, counted = weights({**FP8, "ignored_layers": ["re:.*self_attn", "re:.*block_sparse_moe.gate"]}, config)
    experts = sum(layer.expert_linear for layer in facts.layer_facts)
    assert counted == pytest.approx(experts + (facts.parameters - experts) * 2, abs=6)
    assert facts.weight_format.expert_bits == 8
    assert plain.weight_format.expert_bits is None


def test_a_name_that_is_not_understood_is_said():
    facts, _ = weights({**FP8, "ignore": ["foo.bar", "baz"]})
    assert "'foo.bar' and 1 more" in facts.caveats[0]


def test_weights_only_formats_do_not_multiply_in_fp8():
    assert weights(group(num_bits=8, type="float", activations={"num_bits": 8}))[0].weight_format.fp8_math
    assert not weights(group(num_bits=8, type="float"))[0].weight_format.fp8_math


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "vLLM 0.32"),
        ({"quant_method": ["awq"]}, "quant_method"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"x": {}}}, "dynamic"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8"}, "W4A8"),
        ({"quant_method": "awq", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {}, "b": {}}}, "exactly one group"),
        ({**group(num_bits=8, type="float"), "kv_cache_scheme": {"num_bits": 4}}, "kv_cache_scheme"),
    ],
)
def test_refusals(change, said):
    with pytest.raises(ModelError) as caught:
        weights(change)
    assert said in str(caught.value)
