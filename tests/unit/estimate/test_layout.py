"""Stage splits and valid sizes, against vLLM's own rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import LayoutError
from spanwise.estimate.layout import Layout, check_layout, fits_nodes, stage_layers, valid_tensor_parallel
from spanwise.facts.architectures import model_facts
from spanwise.facts.catalogue import model_config


def facts(name, **changes):
    return model_facts({**model_config(name), **changes}, name=name)


def test_the_split_is_vllms():
    utils = pytest.importorskip("vllm.distributed.utils", reason="the engine's environment is not installed")
    for layers in (1, 2, 3, 7, 8, 30, 32, 61, 80, 126):
        for stages in range(1, min(layers, 17) + 1):
            ranges = [utils.get_pp_indices(layers, rank, stages) for rank in range(stages)]
            assert stage_layers(layers, stages) == tuple(end - start for start, end in ranges), (layers, stages)


@pytest.mark.parametrize(
    ("layers", "stages", "split"),
    [(30, 4, (7, 8, 8, 7)), (30, 2, (15, 15)), (7, 2, (4, 3)), (8, 3, (3, 3, 2)), (61, 8, (7, 7, 8, 8, 8, 8, 8, 7))],
)
def test_the_remainder_avoids_the_last_stage(layers, stages, split):
    assert stage_layers(layers, stages) == split


@given(layers=st.integers(1, 200), stages=st.integers(1, 64))
def test_the_stages_are_the_whole(layers, stages):
    split = stage_layers(layers, stages)
    assert sum(split) == layers
    assert max(split) - min(split) <= 1


def test_valid_sizes():
    assert valid_tensor_parallel(facts("HuggingFaceTB/SmolLM2-135M-Instruct"), 16) == (1, 3)
    # 8 KV heads are replicated beyond 8.
    assert valid_tensor_parallel(facts("meta-llama/Meta-Llama-3-70B"), 64) == (1, 2, 4, 8, 16, 32, 64)
    # 28 heads with 4 KV heads: 7 divides the heads, but 4 KV heads can be neither divided by 7 nor replicated.
    assert valid_tensor_parallel(facts("Qwen/Qwen2.5-7B-Instruct"), 28) == (1, 2, 4)


def test_a_width_or_vocabulary_that_does_not_divide_is_refused():
    odd = facts("meta-llama/Meta-Llama-3-8B", intermediate_size=14338)
    assert valid_tensor_parallel(odd, 8) == (1, 2)
    # The vocabulary is padded to a multiple of 64 first.
    assert valid_tensor_parallel(facts("meta-llama/Meta-Llama-3-8B", vocab_size=128255), 8) == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("layout", "nodes", "hops", "replicas_on_4"),
    [
        (Layout(4, 1, 4), 1, (0, 0), 4),
        (Layout(2, 1, 4), 1, (0, 0), 8),
        (Layout(4, 2, 4), 2, (0, 1), 2),
        (Layout(2, 4, 4), 2, (2, 1), 2),
        (Layout(8, 1, 4), 2, (0, 0), 2),
        (Layout(8, 2, 4), 4, (0, 1), 1),
        (Layout(1, 2, 1), 2, (0, 1), 2),
        (Layout(4, 3, 8), 2, (1, 1), 2),
    ],
)
def test_where_ranks_sit(layout, nodes, hops, replicas_on_4):
    assert (layout.nodes, layout.hops, layout.replicas_on(4)) == (nodes, hops, replicas_on_4)


def test_stages_fill_nodes_evenly():
    assert fits_nodes(Layout(8, 1, 4)) and not fits_nodes(Layout(6, 1, 4))
    with pytest.raises(LayoutError, match="evenly"):
        check_layout(facts("HuggingFaceTB/SmolLM2-135M-Instruct"), Layout(3, 1, 2))


def test_kv_heads_are_divided_or_replicated_evenly():
    model = facts(
        "meta-llama/Meta-Llama-3-8B", num_attention_heads=24, num_key_value_heads=4, head_dim=128,
        intermediate_size=14400, vocab_size=768,
    )  # fmt: skip
    # 3 and 6 divide the heads, the widths and the vocabulary, but not 4 KV heads.
    assert valid_tensor_parallel(model, 24) == (1, 2, 4, 8, 12, 24)
