"""The founding article's cases, as verdicts; test_published.py holds figures that others published."""

import pytest

from spanwise.decide import PinnedLayout
from tests.unit.decide.asking import LLAMA_8B, LLAMA_70B, LLAMA_405B, SMOLLM2, ask, codes


def test_70b_does_not_fit_one_80_gb_gpu():
    verdict = ask(per_node=1, nodes=1, fabric=None)
    assert verdict.verdict == "infeasible"
    assert verdict.chosen is None
    assert codes(verdict)[0] == "weights_do_not_fit"
    assert verdict.memory.weights_bytes_per_gpu > 1.8 * verdict.memory.usable_bytes
    assert "feasible_with_more_gpus" in codes(verdict)
    assert "fewer_bits" in [item.code for item in verdict.rejected]


def test_two_80_gb_gpus_hold_it_with_a_poor_kv_cache():
    verdict = ask(per_node=2, nodes=1, fabric=None, pinned=PinnedLayout(tensor_parallel_size=2))
    assert verdict.chosen.tensor_parallel_size == 2
    # Less than a tenth of the memory is left for requests.
    assert verdict.memory.kv_bytes_per_gpu < 0.06 * verdict.memory.usable_bytes
    busy = ask(per_node=2, nodes=1, fabric=None, rate=4, objectives={"tpot_p95_ms": 50})
    assert "kv_cache_does_not_fit" in busy.reasons[-1].values.get("cause", "")


def test_fp8_fits_one_h200():
    verdict = ask(gpu="H200-141GB-SXM", per_node=1, nodes=1, fabric=None, dtype="fp8", rate=0.5)
    assert (verdict.verdict, verdict.justified) == ("one_gpu", False)
    # vLLM 0.24 reported 182,368 tokens on that card.
    assert verdict.memory.kv_capacity_tokens == pytest.approx(182_368, rel=0.02)


def test_the_founding_case_stays_in_one_node():
    verdict = ask(rate=4, objectives={"ttft_p95_ms": 2000, "tpot_p95_ms": 50})
    assert (verdict.verdict, verdict.justified) == ("one_node", True)
    assert (verdict.chosen.tensor_parallel_size, verdict.chosen.pipeline_parallel_size) == (4, 1)
    assert (verdict.chosen.gpus, verdict.chosen.nodes) == (4, 1)
    assert "weights_do_not_fit" in codes(verdict)


def test_tensor_parallelism_over_10gbe_is_slower_than_one_node():
    verdict = ask(rate=4, objectives={"ttft_p95_ms": 2000, "tpot_p95_ms": 50})
    across = next(item for item in verdict.rejected if item.code == "tensor_parallel_crosses_slow_fabric")
    values = across.values
    assert across.tensor_parallel_size == 8
    assert values["communication_cost_ms"] > 10 * values["weight_reading_gain_ms"]
    assert values["step_across_ms"] > 5 * values["step_inside_ms"]


def test_infiniband_turns_that_around():
    verdict = ask(fabric="ib-ndr-400g", rate=4, objectives={"ttft_p95_ms": 2000, "tpot_p95_ms": 50})
    across = next(item for item in verdict.rejected if item.tensor_parallel_size == 8)
    assert across.values["communication_cost_ms"] < values_of_10gbe()["communication_cost_ms"] / 10


def values_of_10gbe():
    verdict = ask(rate=4, objectives={"ttft_p95_ms": 2000, "tpot_p95_ms": 50})
    return next(item.values for item in verdict.rejected if item.code == "tensor_parallel_crosses_slow_fabric")


def test_405b_needs_two_nodes_with_pipeline_between_them():
    for fabric in ("ethernet-10g", "ib-ndr-400g"):
        verdict = ask(LLAMA_405B, per_node=8, fabric=fabric, rate=0.5)
        assert (verdict.verdict, verdict.justified) == ("multi_node", True)
        assert verdict.chosen.pipeline_parallel_size > 1
        assert verdict.chosen.tensor_parallel_size <= 8
        assert sum(verdict.chosen.stage_layers) == 126


def test_8b_on_an_l4_pair_over_10gbe_may_gain_at_small_batch():
    verdict = ask(LLAMA_8B, gpu="L4-24GB", per_node=1, concurrency=1)
    assert (verdict.verdict, verdict.justified) == ("one_gpu", False)
    pair = next(item for item in verdict.rejected if item.tensor_parallel_size == 2)
    assert pair.code == "not_needed"
    assert pair.predicted.tpot_ms < verdict.predicted.tpot_ms
    forced = ask(LLAMA_8B, gpu="L4-24GB", per_node=1, concurrency=1, objectives={"tpot_p95_ms": 50})
    assert (forced.verdict, forced.justified) == ("multi_node", True)
    assert "objective_missed" in codes(forced)


def test_smollm2_needs_no_second_host_and_says_so_when_forced():
    free = ask(SMOLLM2, gpu="lab-cpu", per_node=1)
    assert (free.verdict, free.justified) == ("one_gpu", False)
    forced = ask(SMOLLM2, gpu="lab-cpu", per_node=1, pinned=PinnedLayout(pipeline_parallel_size=2))
    assert (forced.verdict, forced.justified) == ("multi_node", False)
    assert codes(forced)[0] == "layout_forced_by_user"
    assert forced.chosen.stage_layers == (15, 15)
    assert (forced.chosen.nodes, forced.chosen.gpus) == (2, 2)


def test_slow_memory_of_70b_on_single_gpu_nodes_prefers_pipeline_over_10gbe():
    verdict = ask(LLAMA_70B, per_node=1, nodes=2, concurrency=8)
    assert verdict.chosen.pipeline_parallel_size == 2
    across = next(item for item in verdict.rejected if item.code == "tensor_parallel_crosses_slow_fabric")
    # A faster link would make it the quicker of two layouts over both nodes, which is no other verdict.
    assert "it would be faster from" in across.text
    assert not any(item.what.startswith("fabric") for item in verdict.flips)
