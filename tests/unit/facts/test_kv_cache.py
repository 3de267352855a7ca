"""KV cache bytes: per token, and of whole sequences under vLLM's rules for windows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import ModelError
from spanwise.facts.architectures import model_facts
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format, with_kv_cache
from tests.unit.facts.cases import CASES, LLAMA

BF16 = weight_format("bfloat16")
FP8_CACHE = with_kv_cache(BF16, "fp8")


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("meta-llama/Llama-2-7b-hf", 2 * 32 * 128 * 2 * 32),  # every head has its own k and v
        ("meta-llama/Llama-2-70b-hf", 2 * 8 * 128 * 2 * 80),
        ("meta-llama/Llama-3.1-405B", 2 * 8 * 128 * 2 * 126),
        ("Qwen/Qwen2.5-7B-Instruct", 2 * 4 * 128 * 2 * 28),
        ("Qwen/Qwen3-235B-A22B", 2 * 4 * 128 * 2 * 94),
        ("tiiuae/falcon-7b", 2 * 1 * 64 * 2 * 32),  # one head for all
        ("deepseek-ai/DeepSeek-V3", (512 + 64) * 2 * 61),  # one latent vector and the rotary part
        ("deepseek-ai/DeepSeek-V2-Lite", (512 + 64) * 2 * 27),
        ("google/gemma-3-27b-it", 2 * 16 * 128 * 2 * 62),
        ("openai/gpt-oss-120b", 2 * 8 * 64 * 2 * 36),
    ],
)
def test_per_token_by_hand(name, bytes_per_token):
    facts = model_facts(model_config(name))
    assert facts.kv_bytes_per_token(BF16) == bytes_per_token
    assert facts.kv_bytes_per_token(FP8_CACHE) == bytes_per_token // 2


def test_a_checkpoint_may_ask_for_an_fp8_cache():
    scheme = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
        "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    }
    facts = model_facts({**LLAMA, "quantization_config": scheme})
    assert facts.kv_bytes_per_token(facts.weight_format) == 2 * 2 * 32 * 3
    asked = with_kv_cache(facts.weight_format, "bfloat16")
    assert facts.kv_bytes_per_token(asked) == 2 * 2 * 32 * 3 * 2
    assert with_kv_cache(facts.weight_format, "auto") == facts.weight_format
    with pytest.raises(ModelError, match="fp3"):
        with_kv_cache(BF16, "fp3")


def test_full_attention_takes_whole_blocks():
    facts = model_facts(LLAMA)
    token = facts.kv_bytes_per_token(BF16)
    assert facts.kv_bytes_of_sequence(1, BF16) == 16 * token
    assert facts.kv_bytes_of_sequence(16, BF16) == 16 * token
    assert facts.kv_bytes_of_sequence(17, BF16) == 32 * token


def test_a_model_of_one_window_keeps_a_window():
    """Mistral 7B v0.1, window 4096: at 32768 tokens the next one sees 4095, from token 28673 on: block 1792 is kept."""
    facts = model_facts(model_config("mistralai/Mistral-7B-v0.1"))
    assert facts.kv_bytes_of_sequence(32768, BF16) == (2048 - 1792) * 16 * facts.kv_bytes_per_token(BF16)
    assert facts.kv_bytes_of_sequence(4000, BF16) == 4000 * facts.kv_bytes_per_token(BF16)


def test_the_first_block_goes_when_its_last_token_leaves_the_window():
    """Window 512: after 527 tokens the next one sees 16 to 526, so block 0 is free; after 526 its last token is still seen."""
    facts = model_facts(CASES["mistral"])
    block = 16 * facts.kv_bytes_per_token(BF16)
    assert facts.kv_bytes_of_sequence(526, BF16) == 33 * block
    assert facts.kv_bytes_of_sequence(527, BF16) == 32 * block


def test_gemma_3_27b_by_hand():
    """10 full and 52 sliding layers: groups of 10, so the sliding ones take 6 groups of which 8 layers are padding."""
    facts = model_facts(model_config("google/gemma-3-27b-it"))
    assert sum(layer.window is None for layer in facts.layer_facts) == 10
    layer = 2 * 16 * 128 * 2
    assert facts.kv_bytes_of_sequence(131072, BF16) == layer * 16 * (10 * 8192 + 60 * 64)
    everything = facts.kv_bytes_of_sequence(131072, BF16, hybrid=False)
    assert everything == layer * 131072 * 62
    assert facts.kv_bytes_of_sequence(131072, BF16) < everything / 5


def test_gpt_oss_halves():
    facts = model_facts(model_config("openai/gpt-oss-20b"))
    assert facts.kv_bytes_of_sequence(16384, BF16) == 2 * 8 * 64 * 2 * 12 * 16 * (1024 + 8)


def test_chunks_are_dropped_whole():
    """Llama 4 Scout: 36 chunked layers, 12 full; after 3 chunks of 8192 and one token a chunked layer keeps one block."""
    facts = model_facts(model_config("meta-llama/Llama-4-Scout-17B-16E-Instruct"))
    layer = 2 * 8 * 128 * 2
    assert facts.kv_bytes_of_sequence(3 * 8192 + 1, BF16) == layer * 16 * (12 * 1537 + 36 * 1)
    assert facts.kv_bytes_of_sequence(8191, BF16) == layer * 16 * 48 * 512


@given(name=st.sampled_from(list(CASES)), tokens=st.integers(1, 200_000))
def test_windows_only_ever_save_before_padding(name, tokens):
    facts = model_facts(CASES[name])
    everything = facts.kv_bytes_of_sequence(tokens, BF16, hybrid=False)
    alone = sum(replace(facts, layer_facts=(layer,)).kv_bytes_of_sequence(tokens, BF16) for layer in facts.layer_facts)
    assert alone <= -(-tokens // 16) * 16 * facts.kv_bytes_per_token(BF16)
    assert alone <= facts.kv_bytes_of_sequence(tokens, BF16)  # padding is on top
    assert alone <= everything
    assert facts.kv_bytes_of_sequence(tokens, FP8_CACHE) * 2 == facts.kv_bytes_of_sequence(tokens, BF16)
