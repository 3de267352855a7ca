"""Which engine arguments of somebody else's plan or manifest are plain data, and which make the engine load and run something.

vLLM has some two hundred arguments; a number is harmless, a class name is imported. What is not known to be data is not passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwise.plan.types import Plan

# Whole numbers, fractions and switches. Nothing here is a path, a name to import, or another model.
NUMBERS = frozenset(
    {
        "tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "max_logprobs", "seed",
        "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "block_size", "long_prefill_token_threshold",
        "max_num_partial_prefills", "max_long_partial_prefills", "cpu_offload_gb", "max_seq_len_to_capture",
    }
)  # fmt: skip
SWITCHES = frozenset(
    {
        "enable_prefix_caching", "enable_chunked_prefill", "enable_expert_parallel", "enforce_eager", "disable_log_stats",
        "async_scheduling",
        "disable_cascade_attention", "disable_custom_all_reduce", "enable_log_requests", "skip_tokenizer_init",
    }
)  # fmt: skip
WORDS: dict[str, frozenset[str]] = {
    "dtype": frozenset({"auto", "half", "float16", "bfloat16", "float", "float32"}),
    "kv_cache_dtype": frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2", "bfloat16"}),
    "quantization": frozenset(
        {"fp8", "awq", "awq_marlin", "gptq", "gptq_marlin", "compressed-tensors", "mxfp4", "modelopt", "bitsandbytes"}
    ),
    "distributed_executor_backend": frozenset({"ray", "mp", "uni"}),
    "load_format": frozenset({"auto", "safetensors"}),
}
# Import, run or fetch something of the writer's choosing.
RUNS_CODE: dict[str, str] = {
    "worker_cls": "imports a class",
    "worker_extension_cls": "imports a class",
    "scheduler_cls": "imports a class",
    "logits_processors": "imports classes",
    "middleware": "imports functions",
    "tool_parser_plugin": "runs a file",
    "reasoning_parser_plugin": "runs a file",
    "io_processor_plugin": "loads a plugin",
    "kv_transfer_config": "may import a module by its path",
    "ec_transfer_config": "may import a module by its path",
    "model_loader_extra_config": "configures how a foreign loader reads",
    "additional_config": "is passed to plugins",
}
_COMPILERS = frozenset({"", "eager", "inductor"})


def runs_code(name: str, value: Any) -> str:
    """What this argument would make the engine do, as a half sentence; empty where it is not known to run anything."""
    if name == "trust_remote_code":
        return "" if value in (False, None) else "runs Python from the model's repository"
    if name == "compilation_config":
        return "" if value is None or _plain_compilation(value) else "may import a compiler or passes by name"
    return RUNS_CODE.get(name, "") if value not in (None, "", (), [], {}) else ""


def _plain_compilation(value: Any) -> bool:
    """True for a mode and one of the compilers that vLLM has built in."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 <= value <= 3
    if not isinstance(value, dict) or not set(value) <= {"mode", "backend"}:
        return False
    mode = value.get("mode", 0)
    return isinstance(mode, int) and value.get("backend", "") in _COMPILERS


def is_data(name: str, value: Any) -> bool:
    """True where the argument is known and the value is a plain number, switch or word that it takes."""
    if value is None:
        return name in NUMBERS or name in SWITCHES or name in WORDS
    if name in NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**53
    if name in SWITCHES:
        return isinstance(value, bool)
    return isinstance(value, str) and value in WORDS.get(name, ())


def check_arguments(plans: Iterable[Plan], where: str) -> None:
    """Refuse plans whose engine arguments are more than data; whoever wrote a plan can seal it again.

    Raises:
        PlanError: Names the plan and the argument.
    """
    for plan in plans:
        for name, value in plan.engine_args.items():
            if reason := _not_from_a_plan(name, value):
                raise PlanError(
                    f"plan {plan.name} sets the engine argument {name[:80]}: {reason}",
                    where=where,
                    remedy="plan again from the intent; `up` runs what `spanwise plan` writes",
                )


def _not_from_a_plan(name: str, value: Any) -> str:
    if name in ("model", "served_model_name", "revision"):
        return "" if isinstance(value, str) else "it is not text"
    if reason := runs_code(name, value):
        return f"it {reason}"
    if name == "compilation_config" or is_data(name, value):
        return ""
    return "it is not known to be plain data"
