"""Every code that a verdict can carry, and what it means in one sentence. Each has a page: ``docs/verdicts/CODE.md``.

The types make mypy hold the set: a code that does not stand here is a type error where it is emitted, and a code without a page or
without a command that shows it fails in tests/unit/decide/test_pages.py.
"""

from __future__ import annotations

from typing import Literal, get_args

ReasonCode = Literal[
    "weights_do_not_fit",
    "kv_cache_does_not_fit",
    "load_exceeds_capacity",
    "objective_missed",
    "spares_leave_no_replica",
    "fewer_gpus_than_replicas",
    "whole_experts",
    "fits_one_gpu",
    "replicas_instead_of_splitting",
    "not_enough_hardware",
    "no_layout_fits",
    "feasible_with_more_gpus",
    "feasible_with_larger_gpu",
    "feasible_with_fewer_bits",
    "feasible_with_shorter_context",
    "uneven_stages",
    "not_on_pareto_front",
    "layout_forced_by_user",
    "smaller_span_is_enough",
    "another_layout_is_better",
    "tensor_parallel_crosses_slow_fabric",
    "moving_is_worth_it",
    "moving_is_not_worth_it",
    "moving_is_unclear",
]
# What only a rejected alternative carries; it may carry a reason's code as well.
AlternativeCode = Literal[
    "not_needed",
    "slower",
    "slower_across_nodes",
    "larger_would_do",
    "one_larger_gpu",
    "fewer_bits",
    "smaller_gpu_would_do",
    "not_what_was_asked",
]
RejectedCode = ReasonCode | AlternativeCode
# The quantity that a flip changes; its name in the intent, or of the GPU or link that the intent names.
FlipCode = Literal[
    "gpu.memory_gib",
    "workload.request_rate_per_s",
    "workload.concurrency",
    "workload.input_tokens",
    "fabric.bandwidth_gbit_per_s",
    "fabric.latency_us",
]
CaveatCode = Literal[
    "model_is_approximated",
    "engine_not_measured_on_this_gpu",
    "engine_version_not_measured",
    "request_rate_ttft_too_low",
    "closed_loop_counts_first_burst",
    "several_gpus_not_measured",
    "worst_case_not_sustained",
    "load_near_saturation",
    "no_objective_stated",
    "objective_within_the_range",
]

REASONS: tuple[str, ...] = get_args(ReasonCode)
ALTERNATIVES: tuple[str, ...] = get_args(AlternativeCode)
FLIPS: tuple[str, ...] = get_args(FlipCode)
CAVEATS: tuple[str, ...] = get_args(CaveatCode)

MEANINGS: dict[str, str] = {
    "weights_do_not_fit": "Weights and working memory together exceed what one GPU offers in this layout.",
    "kv_cache_does_not_fit": "The weights fit, but what they leave is too small a KV cache for one request, or for the load.",
    "load_exceeds_capacity": "The load asked for is more than nine tenths of what the layout carries at most.",
    "objective_missed": "The load is carried, but a predicted 95th percentile of TTFT or TPOT is above the intent's objective.",
    "spares_leave_no_replica": "So many replicas are to be kept idle as spares that none is left to serve.",
    "fewer_gpus_than_replicas": "The next smaller span would do with more replicas, but this one needs fewer GPUs in all.",
    "whole_experts": "Ranks hold whole experts, because slices of them are impossible at this tensor-parallel size.",
    "fits_one_gpu": "Weights, working memory and the KV cache asked for fit one GPU, so nothing is split.",
    "replicas_instead_of_splitting": "Load, not size, is the limit: more replicas carry it, and no replica is split wider.",
    "not_enough_hardware": "Nothing at hand does all that is asked; the verdict is the layout that comes closest.",
    "no_layout_fits": "No valid layout on the hardware at hand holds the model with the context asked for.",
    "feasible_with_more_gpus": "The fewest GPUs of the same kind that would hold the model.",
    "feasible_with_larger_gpu": "The smallest catalogue GPU of the same vendor that holds the model whole.",
    "feasible_with_fewer_bits": "The first smaller weight format in which the model fits the hardware at hand.",
    "feasible_with_shorter_context": "The model fits where the context is only as long as one request as stated.",
    "uneven_stages": "Pipeline stages hold other numbers of layers than vLLM would give them, since the choice is better so.",
    "not_on_pareto_front": "Another candidate is nowhere worse in TPOT, TTFT, requests per second and GPUs; something else came first.",
    "layout_forced_by_user": "A layout was insisted on; the verdict carries it out and says what it would have been without.",
    "smaller_span_is_enough": "The layout that was insisted on needs more GPUs than the one that the judgement chooses.",
    "another_layout_is_better": "With as many GPUs or more, the judgement chooses another layout than the one insisted on.",
    "tensor_parallel_crosses_slow_fabric": "Tensor parallelism over nodes is slower than what fits without: it costs more than is saved.",
    "moving_is_worth_it": "Over the whole range of the prediction the choice is better than what runs today.",
    "moving_is_not_worth_it": "What runs today keeps the objectives, or is not beaten, with no more GPUs than the choice needs.",
    "moving_is_unclear": "The range of the prediction lies on both sides of what runs today, or nothing comparable is stated.",
    "not_needed": "A larger layout is faster, but what is asked is met without it.",
    "slower": "Even the fastest larger layout takes more GPUs per replica and no less time per token.",
    "slower_across_nodes": "Even the fastest larger layout takes more GPUs per replica and no less time per token, and it spans nodes.",
    "larger_would_do": "The layout taken misses something that is asked, and this larger one would do it.",
    "one_larger_gpu": "One GPU of a larger kind would hold the model whole.",
    "fewer_bits": "In a smaller weight format the model needs fewer GPUs, or fits at all.",
    "smaller_gpu_would_do": "One GPU of the next smaller kind would do what is asked.",
    "not_what_was_asked": "Fewer GPUs than the layout that was insisted on would do.",
    "gpu.memory_gib": "How much memory per GPU would change the verdict.",
    "workload.request_rate_per_s": "The request rate from which the verdict changes.",
    "workload.concurrency": "The number of requests at once from which the verdict changes.",
    "workload.input_tokens": "The length of the prompt from which the verdict changes.",
    "fabric.bandwidth_gbit_per_s": "The bandwidth of the fabric from which the verdict changes.",
    "fabric.latency_us": "The latency per hop of the fabric from which the verdict changes.",
    "model_is_approximated": "Something about this model is counted roughly or not at all.",
    "engine_not_measured_on_this_gpu": "The engine's efficiencies were measured on other GPUs and are assumed to hold on this one.",
    "engine_version_not_measured": "The engine's efficiencies were measured with an older vLLM than the one that plans are made for.",
    "request_rate_ttft_too_low": "Where requests arrive at a rate, the TTFT that was measured was well above the predicted one.",
    "closed_loop_counts_first_burst": "A closed loop's TTFT and TPOT count all requests, those of the first burst included; "
    "objectives leave it out.",
    "several_gpus_not_measured": "The layout has several GPUs; only two H100 in one host were measured: its communication is a model.",
    "worst_case_not_sustained": "At the slow end of every rate the load would exceed the capacity.",
    "load_near_saturation": "The load is above nine tenths of the saturation point: the queue grows, or is long.",
    "no_objective_stated": "No objective was given: of the layouts that carry the load the one with the fewest GPUs is chosen.",
    "objective_within_the_range": "An objective is kept as expected, and missed at the slow end of the range.",
}
