"""The Intent: exactly the keys of an intent file, validated at the edge. Unknown keys are refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# vLLM serves these weight formats; bytes per weight and the rules of each stand in spanwise.facts.dtypes.
Dtype = Literal["float32", "bfloat16", "float16", "fp8", "int8", "int4", "awq", "gptq", "mxfp4"]

# Upper bounds only keep arithmetic sane (no overflow to infinity); they are far above anything that exists.
_Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Positive = Annotated[float, Field(ge=1e-6, le=1e12)]
_Name = Annotated[str, Field(min_length=1, max_length=4096)]

# A host name as RFC 1123 has it: it becomes a label value and a folder name later on.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class _Asked(BaseModel):
    """Base of what a user writes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)


class InlineGpu(_Asked):
    """A GPU described in the intent itself, for hardware the catalogue does not know."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = "inline"
    memory_gib: Annotated[float, Field(ge=1e-3, le=1e6)] = Field(description="GiB (2**30 bytes) the driver reports.")
    memory_bandwidth_gb_per_s: _Positive = Field(description="10**9 bytes per second.")
    bf16_tflops: _Positive = Field(description="Dense bfloat16, 10**12 per second, without sparsity.")
    fp8_tflops: _Positive | None = Field(default=None, description="Dense; absent where the GPU has no fp8 units.")
    interconnect: str | None = Field(default=None, description="Link between GPUs of a node: a catalogue name.")


class InlineFabric(_Asked):
    """A link between nodes described in the intent itself."""

    latency_us: Annotated[float, Field(ge=0, le=1e9)] = Field(description="One small message, one way, microseconds.")
    bandwidth_gbit_per_s: Annotated[float, Field(ge=1e-6, le=1e6)] = Field(
        description="Per GPU pair in use, 10**9 bit/s."
    )


class Hardware(_Asked):
    """What is at hand."""

    gpu: _Name | InlineGpu
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)] = 1
    nodes: Annotated[int, Field(ge=1, le=100_000)] = 1
    fabric: _Name | InlineFabric | None = Field(default=None, description="Between nodes; needed when nodes > 1.")
    hosts: tuple[str, ...] | None = Field(default=None, description="Names of the nodes, in order.")
    host_availability: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the time that one host is up; None: an assumption (decide/failure.py)."
    )

    @model_validator(mode="before")
    @classmethod
    def _count_hosts(cls, data: Any) -> Any:
        """``nodes`` may be left out where the hosts are named."""
        if isinstance(data, dict) and isinstance(data.get("hosts"), list) and "nodes" not in data:
            return {**data, "nodes": max(1, len(data["hosts"]))}
        return data

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.hosts is not None:
            if len(self.hosts) != self.nodes:
                raise ValueError(f"hosts names {len(self.hosts)} hosts but nodes is {self.nodes}; make them equal")
            if len(set(self.hosts)) != len(self.hosts):
                raise ValueError("hosts names a host twice; every host once")
            for host in self.hosts:
                if not _HOST.fullmatch(host):
                    raise ValueError(f"hosts: {host[:80]!r} is not a host name (letters, digits, '-' and '.')")
        if self.nodes > 1 and self.fabric is None:
            raise ValueError("fabric is missing: say what joins the nodes, for example `fabric: ethernet-10g`")
        return self

    @property
    def gpus(self) -> int:
        """All GPUs of all nodes."""
        return self.gpus_per_node * self.nodes


class Workload(_Asked):
    """What is asked of the model. Exactly one of rate and concurrency."""

    input_tokens: _Tokens
    output_tokens: _Tokens
    request_rate_per_s: Annotated[float, Field(ge=1e-6, le=1e7)] | None = None
    concurrency: _Count | None = None
    trace: _Name | None = Field(default=None, description="A trace file; used by `scale`.")

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if (self.request_rate_per_s is None) == (self.concurrency is None):
            raise ValueError("give exactly one of request_rate_per_s and concurrency")
        return self

    @property
    def tokens_per_request(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class Objectives(_Asked):
    """Limits that a layout must keep to be chosen, where one can."""

    ttft_p95_ms: _Positive | None = None
    tpot_p95_ms: _Positive | None = None
    availability: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the time in which the whole load is to be carried; counts spares, chooses no layout.",
    )


class Today(_Asked):
    """What runs now, for "is it worth it"."""

    gpu: _Name
    gpus: _Count
    ttft_p95_ms: _Positive | None = None
    tpot_p95_ms: _Positive | None = None


class Intent(_Asked):
    """One model, the hardware at hand, the work, the objectives."""

    model: _Name = Field(description="A catalogue or hub name, or a path to a directory or config.json.")
    revision: _Name | None = None
    dtype: Dtype | None = Field(default=None, description="None: what the checkpoint's config.json says.")
    hardware: Hardware
    workload: Workload
    objectives: Objectives = Objectives()
    max_model_len: _Tokens | None = Field(default=None, description="Tokens; None: see decide.")
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    spares: Annotated[int, Field(ge=0, le=100_000)] = Field(default=0, description="Idle replicas kept for failures.")
    prices_per_gpu_hour: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = None
    today: Today | None = None

    @model_validator(mode="after")
    def _length(self) -> Self:
        need = self.workload.tokens_per_request
        if self.max_model_len is not None and self.max_model_len < need:
            raise ValueError(
                f"max_model_len is {self.max_model_len} but one request has {need} tokens "
                "(workload.input_tokens + output_tokens); raise it, or shorten the requests"
            )
        return self

    def as_json(self) -> dict[str, Any]:
        """The intent as plain JSON, defaults that were not asked left out."""
        return self.model_dump(mode="json", exclude_none=True)
