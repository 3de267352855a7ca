"""Where bytes go, against what vLLM reported."""

from hypothesis import given
from hypothesis import strategies as st

from spanwise.estimate.layout import Layout
from spanwise.estimate.memory import replica_memory, stage_memory
from spanwise.facts.architectures import model_facts
from spanwise.facts.catalogue import model_config
from spanwise.facts.dtypes import weight_format

BF16 = weight_format("bfloat16")
LLAMA = model_facts(model_config("meta-llama/Meta-Llama-3-70B"))
SMOLLM2 = model_facts(model_config("HuggingFaceTB/SmolLM2-135M-Instruct"))


@given(tensor=st.sampled_from([1, 2, 4, 8]), pipeline=st.integers(1, 16))
def test_the_stages_sum_to_the_whole(tensor, pipeline):
    stages = stage_memory(LLAMA, BF16, Layout(tensor, pipeline, 8))
    replicated = sum(layer.other for layer in LLAMA.layer_facts) * 2 + LLAMA.final_params * 2
    whole = LLAMA.weights_bytes(BF16)
    assert sum(stage.weights for stage in stages) * tensor == whole + replicated * (tensor - 1)
    assert sum(stage.kv_per_token for stage in stages) * tensor == LLAMA.kv_bytes_per_token(BF16)


def test_kv_heads_are_replicated_beyond_their_number():
    eight, sixteen = (stage_memory(LLAMA, BF16, Layout(size, 1, 16))[0] for size in (8, 16))
    assert eight.kv_per_token == sixteen.kv_per_token == 2 * 128 * 2 * 80


def test_a_tied_embedding_is_on_the_first_and_the_last_stage():
    table = 49152 * 576 * 2
    whole = stage_memory(SMOLLM2, BF16, Layout(1, 1, 1))[0].weights
    assert whole == SMOLLM2.weights_bytes(BF16)
    assert sum(stage.weights for stage in stage_memory(SMOLLM2, BF16, Layout(1, 2, 1))) == whole + table


def test_nothing_fits_in_nothing():
    memory = replica_memory(LLAMA, BF16, Layout(1, 1, 1), gpu_memory_bytes=1e9, utilization=0.9, batched_tokens=2048)
    assert not memory.fits
    assert memory.kv_capacity_tokens == 0


def test_k_and_v_projections_are_replicated_beyond_the_kv_heads():
    (stage,) = stage_memory(LLAMA, BF16, Layout(16, 1, 16))
    hidden, width, table = 8192, 28672, 128256 * 8192
    layer = (2 * hidden * hidden + 3 * hidden * width) // 16 + 2 * hidden * 1024 // 8 + 2 * hidden
    assert stage.weights == 2 * (80 * layer + 2 * table // 16 + hidden)
