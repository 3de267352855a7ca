"""What of a model's configuration is carried from a manifest into the lab, what is changed for CPU hosts, and what is refused.

Allowed by name: an argument that nobody here knows is left out and said so. What would import, fetch or run something of the writer's
choosing is refused, because a run without it would prove another manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from spanwise.errors import ManifestError
from spanwise.plan.arguments import is_data, runs_code
from spanwise.plan.environment import FAMILIES, refusal
from spanwise.render.reading import Code, Remark

# vLLM's CPU worker refuses to start where this share of the machine's memory is not free.
MEMORY_SHARE = 0.1
# Room for one request of MAX_MODEL_LEN tokens of the largest model that stands in (SmolLM2: 46 KB per token in float32).
KV_CACHE_BYTES = 160 * 2**20
MAX_MODEL_LEN = 2048
# Guard: every rank warms up with a step of this many tokens; on CPU thousands take minutes.
MAX_BATCHED_TOKENS = 2048
PARTITION = "VLLM_PP_LAYER_PARTITION"

_AS_THEY_ARE = frozenset(
    {
        "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs", "max_logprobs", "seed", "enable_prefix_caching",
        "enable_chunked_prefill", "enable_log_requests",
    }
)  # fmt: skip
_WHY_NOT = {
    "enforce_eager": "a pipeline with enforce_eager dies at its first request on CPU; graphs are traced once without a compiler instead",
    "quantization": "the model that stands in is not quantised",
    "kv_cache_dtype": "the CPU engine keeps its cache in the model's precision",
    "enable_expert_parallel": "the model that stands in has no experts",
    "revision": "the model that stands in is a directory",
    "code_revision": "the model that stands in is a directory",
    "tokenizer": "the model that stands in has its own tokenizer",
    "tokenizer_revision": "the model that stands in has its own tokenizer",
    "load_format": "the model that stands in is safetensors",
    "speculative_config": "the lab has no draft model",
    "distributed_executor_backend": "Ray Serve LLM sets it",
    "hf_token": "no secret is carried, and no hub is asked",
    "api_key": "no secret is carried",
    "hf_overrides": "the model that stands in has its own configuration",
    "rope_scaling": "the model that stands in has its own configuration",
}
_UNKNOWN = "not among the arguments that are known to be plain data and to exist on CPU"
# A variable of these kinds is refused: with it the manifest asks for code.
_LOADS = ("LD_", "DYLD_", "PYTHON")
# What the lab sets itself, or what would lead its engines elsewhere: not the manifest's, whatever is allowed.
_THE_LABS = frozenset(
    {
        "PATH", "HOME", "TMPDIR", "RAY_ADDRESS", "VLLM_HOST_IP", "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HOME", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
    }
)  # fmt: skip


class Carried:
    """Collects what is carried of one model, and the remarks about it."""

    def __init__(self, where: str, remarks: list[Remark], code: list[Code] | None = None) -> None:
        """Ready to take values.

        Args:
            where: The model's place in the manifest, for messages.
            remarks: Where differences are noted.
            code: Where code that will be run is listed; None: it is refused.
        """
        self.where = where
        self._remarks = remarks
        self._code = code

    def runs(self, key: str, what: str) -> bool:
        """List code that will be run; False where none may be."""
        if self._code is not None:
            self._code.append(Code(where=f"{self.where}.{key}"[:200], what=what[:300]))
        return self._code is not None

    def refuse(self, key: str, what: str, remedy: str) -> NoReturn:
        """Raise what is wrong with ``key``.

        Raises:
            ManifestError: Always.
        """
        raise ManifestError(what, where=f"{self.where}.{key}"[:300], remedy=remedy)

    def left_out(self, key: str, what: str, reason: str) -> None:
        """Note that something is not carried."""
        self._remarks.append(Remark(kind="left_out", where=f"{self.where}.{key}"[:200], what=what[:200], reason=reason))

    def changed(self, key: str, was: Any, now: Any, reason: str) -> None:
        """Note a change; both values are plain numbers or words."""
        if was != now:
            shown = "not set" if was is None else str(was)[:80]
            self._remarks.append(
                Remark(kind="changed", where=f"{self.where}.{key}"[:200], what=shown, now=str(now)[:80], reason=reason)
            )

    def engine_arguments(
        self, given: Mapping[str, Any], *, dtype: str, prefix: str = "engine_kwargs"
    ) -> dict[str, Any]:
        """The engine arguments for the lab.

        Args:
            given: As in the manifest, without the model's names.
            dtype: What this machine computes quickly.
            prefix: Key that they stand under.

        Raises:
            ManifestError: One would run code, or its value is none that it takes.
        """
        found: dict[str, Any] = {}
        for name, value in given.items():
            key = f"{prefix}.{str(name)[:60]}"
            reason = "" if name in _REPLACED else runs_code(name, value)
            if reason and name == "trust_remote_code" and self._code is not None:
                self.left_out(key, name, "the model that stands in has no code of its own: there is nothing to run")
            elif reason and self.runs(key, f"the engine argument {name}, which {reason}: {str(value)[:120]}"):
                found[name] = value
            elif reason:
                self.refuse(key, f"{str(name)[:60]} {reason}, and no foreign code is run", "leave it out")
            elif name in ("data_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size"):
                if value not in (None, 1):
                    self.refuse(
                        key, f"{name} is not emulated", "the lab runs tensor and pipeline parallelism and replicas"
                    )
            elif name in _AS_THEY_ARE:
                if not is_data(name, value) or isinstance(value, float):
                    self.refuse(key, f"{str(value)[:40]!r} is no value for {name}", "see `spanwise lint`")
                if value is not None:
                    found[name] = value
            elif name not in _REPLACED:
                self.left_out(key, str(name)[:60], _WHY_NOT.get(name, _UNKNOWN))
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            size = found.get(name, 1)
            if not 1 <= size <= 1024:
                self.refuse(f"{prefix}.{name}", f"{size} is no number of ranks", "give 1 or more")
        return found | self._replaced(given, dtype, prefix)

    def _replaced(self, given: Mapping[str, Any], dtype: str, prefix: str) -> dict[str, Any]:
        asked = given.get("max_model_len")
        length = asked if isinstance(asked, int) and 1 <= asked <= MAX_MODEL_LEN else MAX_MODEL_LEN
        new: dict[str, Any] = {
            "dtype": dtype,
            "max_model_len": length,
            "gpu_memory_utilization": MEMORY_SHARE,
            "kv_cache_memory_bytes": KV_CACHE_BYTES,
            "compilation_config": {"mode": 2, "backend": "eager"},
        }
        batched = given.get("max_num_batched_tokens")
        if isinstance(batched, int) and not isinstance(batched, bool) and batched >= 1:
            new["max_num_batched_tokens"] = min(batched, MAX_BATCHED_TOKENS)
        for name, value in new.items():
            was = given.get(name) if is_data(name, given.get(name)) else "set" if given.get(name) is not None else None
            self.changed(f"{prefix}.{name}", was, value, _REPLACED[name])
        return new

    def environment(self, given: Mapping[str, str], *, prefix: str = "runtime_env.env_vars") -> dict[str, str]:
        """The environment variables that the ranks get: the network's own, by allowlist.

        Raises:
            ManifestError: One loads a library, a module or a plugin.
        """
        found = {}
        for name, value in given.items():
            key, shown = f"{prefix}.{name[:60]}", name[:60]
            reason = refusal(name, value)
            if name == "GLOO_SOCKET_IFNAME":
                self.left_out(key, shown, "the lab names its hosts' interface itself")
            elif self._code is not None and name in _THE_LABS:
                self.left_out(key, shown, "the lab sets it itself")
            elif not reason or (
                name != PARTITION and self.runs(key, f"the environment variable {shown}, whatever it loads")
            ):
                found[name] = value
            elif name.startswith((*_LOADS, *FAMILIES)) or "PLUGIN" in name or name == PARTITION:
                self.refuse(key, f"{shown} may not be set: {reason}", "leave it out")
            else:
                self.left_out(key, shown, reason)
        return found


_REPLACED = {
    "dtype": "what this processor computes quickly",
    "max_model_len": f"the small models and their cache are for requests of at most {MAX_MODEL_LEN} tokens",
    "gpu_memory_utilization": "on CPU a share of the machine's memory, which all ranks have in common",
    "kv_cache_memory_bytes": "a cache of the size needed, because the ranks share one machine",
    "compilation_config": "traced once without a compiler: compiling takes minutes on CPU",
    "max_num_batched_tokens": "a step of thousands of tokens takes minutes on CPU",
}
