"""Figures that others published, and the founding article's sentences, asked of the whole chain. Each test states what it assumes."""

import pytest

from spanwise.decide import PinnedLayout
from spanwise.estimate.layout import Layout
from spanwise.estimate.memory import replica_memory
from spanwise.estimate.rates import rates
from spanwise.estimate.serving import Load, observe
from spanwise.estimate.step import costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, LLAMA_405B, ask, codes

BOOK = FactBook()
GIB = 2**30


def tokens_per_s(fabric: str, tensor: int, pipeline: int, concurrency: int) -> float:
    """Llama-3.1-405B in bfloat16 on two nodes of 8 H100, a closed loop of 512 + 256 tokens, replayed."""
    model = model_facts(model_config(LLAMA_405B))
    gpu, weights, layout = BOOK.gpu("H100-80GB-SXM"), model.weight_format, Layout(tensor, pipeline, 8)
    memory = replica_memory(
        model,
        weights,
        layout,
        gpu_memory_bytes=gpu.memory.value,
        utilization=0.9,
        batched_tokens=2048,
        max_sequences=1024,
    )
    seen = observe(
        rates(gpu, BOOK.fabric(fabric), weights, "expected"),
        costs(model, weights, layout),
        Load(input_tokens=512, output_tokens=256, concurrency=concurrency),
        kv_capacity_tokens=memory.kv_capacity_tokens,
        batched_tokens=2048,
        max_sequences=1024,
    )
    return seen.requests_per_s * 256


def gain_of_the_pipeline(fabric: str, concurrency: int) -> float:
    return tokens_per_s(fabric, 8, 2, concurrency) / tokens_per_s(fabric, 16, 1, concurrency)


def test_405b_without_infiniband_the_pipeline_gives_several_times_the_throughput():
    """Published: TP=8 x PP=2 gives about 6.6 times the throughput of TP=16 on 16 H100 without InfiniBand.

    Neither the network nor the load of that figure is at hand. Assumed: nodes of eight H100 without InfiniBand have 100 Gbit/s
    Ethernet with kernel TCP (45 us per hop, half of the line rate, `ethernet-100g`), and 32 requests of 512 + 256 tokens at once.
    More requests or less bandwidth raise the ratio, one request lowers it: the bytes of an all-reduce grow with the batch.
    """
    assert gain_of_the_pipeline("ethernet-100g", 32) == pytest.approx(6.6, rel=0.3)
    assert gain_of_the_pipeline("ethernet-100g", 1) < 2
    assert gain_of_the_pipeline("ethernet-10g", 32) > 6.6


@pytest.mark.parametrize("concurrency", [8, 32, 64])
def test_405b_with_infiniband_both_layouts_are_about_equal(concurrency):
    """Published: about equal with InfiniBand. Assumed: NDR, 400 Gbit/s for each GPU, 12 us per hop; the loads as above."""
    assert gain_of_the_pipeline("ib-ndr-400g", concurrency) == pytest.approx(1.0, abs=0.25)


def test_70b_in_bfloat16_by_the_published_parameter_count():
    """Published: 70.6 billion parameters, 80 layers, 8 KV heads of 128. Assumed: 2 bytes each, a GPU of 79.1 GiB used to nine tenths.

    One GPU lacks half of the memory; two hold the weights and leave a KV cache of 18 requests of 1024 + 256 tokens.
    """
    one = ask(LLAMA_70B, per_node=1, nodes=1, fabric=None)
    assert one.verdict == "infeasible"
    assert one.memory.weights_bytes_per_gpu == pytest.approx(70.55e9 * 2, rel=0.002)
    assert one.memory.usable_bytes == pytest.approx(0.9 * 79.1 * GIB, rel=0.001)
    two = ask(LLAMA_70B, per_node=2, nodes=1, fabric=None, rate=0.5)
    assert (two.verdict, two.justified, two.chosen.gpus) == ("one_node", True, 2)
    assert two.memory.kv_bytes_per_token_per_gpu * 2 == 80 * 2 * 8 * 128 * 2
    assert 10 < two.memory.kv_capacity_tokens / 1280 < 25


def test_70b_in_fp8_fits_one_h200():
    """Published: vLLM 0.24 loads 67.67 GiB for Llama-3-70B in fp8 and reports 182,368 tokens of KV cache on an H200.

    Assumed: gpu_memory_utilization 0.9 and 8192 batched tokens, as in that run.
    """
    verdict = ask(LLAMA_70B, gpu="H200-141GB-SXM", per_node=1, nodes=1, fabric=None, dtype="fp8", rate=0.5)
    assert (verdict.verdict, verdict.justified, verdict.chosen.max_num_batched_tokens) == ("one_gpu", False, 8192)
    assert verdict.memory.weights_bytes_per_gpu / GIB == pytest.approx(67.67, abs=0.05)
    assert verdict.memory.kv_capacity_tokens == pytest.approx(182_368, rel=0.01)


@pytest.mark.parametrize(("concurrency", "gains"), [(1, True), (2, True), (32, False)])
def test_8b_on_two_l4_over_10gbe_gains_at_small_batch_only(concurrency, gains):
    """Slow memory (300 GB/s) makes reading half of the weights worth two all-reduces per layer over 10GbE, while they are small.

    Assumed: 60 us per hop and seven tenths of 10 Gbit/s; nobody published small NCCL messages over TCP.
    """
    tpot = {
        size: ask(
            LLAMA_8B,
            gpu="L4-24GB",
            per_node=1,
            concurrency=concurrency,
            pinned=PinnedLayout(tensor_parallel_size=size),
        ).predicted.tpot_ms
        for size in (1, 2)
    }
    assert (tpot[2] < tpot[1]) is gains, tpot


def test_multi_node_is_justified_only_beyond_one_machine():
    """The article: only where the model does not fit, or where the throughput needed exceeds one machine, is multi-node justified.

    Assumed: the article's hardware, two nodes of four H100, prompts of 1024 and answers of 256 tokens. Beyond one machine's rate the load
    is carried by replicas on both nodes; no replica crosses the network.
    """
    calm = ask(LLAMA_70B, rate=4)
    assert (calm.verdict, calm.chosen.nodes) == ("one_node", 1)
    alone = ask(LLAMA_70B, nodes=1, fabric=None, rate=20)
    assert codes(alone)[-1] == "not_enough_hardware"
    assert alone.predicted.max_requests_per_s < 20 / 0.9
    busy = ask(LLAMA_70B, rate=20)
    assert (busy.verdict, busy.chosen.nodes, busy.justified) == ("one_node", 2, True)
    assert "replicas_instead_of_splitting" in codes(busy)
    assert busy.predicted.max_requests_per_s > 20 / 0.9


def test_tensor_parallelism_needs_a_very_fast_interconnect():
    """The article: tensor parallelism needs a very fast interconnect (NVLink).

    Assumed: the same GPU twice (A100 80 GB, 5 % apart in memory bandwidth), four in a node over NVLink or over PCIe 4, or one each in four
    nodes over 10GbE; Llama-3-70B, one request at a time.
    """

    def tpot(gpu: str, per_node: int, nodes: int) -> float:
        fabric = "ethernet-10g" if nodes > 1 else None
        pinned = PinnedLayout(tensor_parallel_size=4)
        return ask(LLAMA_70B, gpu, per_node, nodes, fabric, concurrency=1, pinned=pinned).predicted.tpot_ms

    nvlink, pcie, ethernet = (
        tpot(gpu, per_node, nodes)
        for gpu, per_node, nodes in (("A100-80GB-SXM", 4, 1), ("A100-80GB-PCIe", 4, 1), ("A100-80GB-SXM", 1, 4))
    )
    assert nvlink < pcie < ethernet
    # 160 all-reduces per token: 6 hops over the network instead of one all-reduce over NVLink.
    assert ethernet - nvlink == pytest.approx(160 * 6 * 60e-3, rel=0.2)


def test_a_pipeline_idles_in_bubbles_until_enough_requests_fill_it():
    """The article: stages on different devices leave idle bubbles.

    Assumed: Llama-3-70B in fp8 on four H200 of one node, 1024 + 256 tokens. One request keeps one stage busy at a time, so four stages make
    no more tokens than one GPU; 64 requests fill them. (They do not fill four times: prompts that arrive together stay together.)
    """

    def output(stages: int, concurrency: int) -> float:
        pinned = PinnedLayout(pipeline_parallel_size=stages)
        verdict = ask(LLAMA_70B, "H200-141GB-SXM", 4, 1, None, dtype="fp8", concurrency=concurrency, pinned=pinned)
        return verdict.predicted.output_tokens_per_s

    assert output(4, 1) == pytest.approx(output(1, 1), rel=0.03)
    assert output(4, 64) > 1.3 * output(1, 64)


def test_ultra_large_models_combine_pipeline_and_tensor_parallelism():
    """The article: pipeline combined with tensor parallelism for ultra-large models. Assumed: Llama-3.1-405B, two nodes of eight H100."""
    verdict = ask(LLAMA_405B, per_node=8, fabric="ethernet-10g", rate=0.5)
    assert (verdict.verdict, verdict.justified) == ("multi_node", True)
    assert verdict.chosen.tensor_parallel_size > 1
    assert verdict.chosen.pipeline_parallel_size > 1
    assert verdict.memory.weights_bytes_per_gpu * verdict.chosen.gpus > 8 * verdict.memory.usable_bytes
