"""How fast hardware really is: catalogue figures times what the engine makes of them, as three cases (expected, best, worst).

The efficiencies are facts (spanwise.facts.engine) with a source and a range each. The worst case takes every one at its slow end, the
best at its fast end: a wide range, since they will not all be off at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from spanwise.facts.book import GpuFacts, LinkFacts
    from spanwise.facts.dtypes import WeightFormat
    from spanwise.facts.fact import Fact

Case = Literal["expected", "best", "worst"]
CASES: tuple[Case, ...] = ("expected", "best", "worst")

# NCCL's ring, LL protocol: 6.6 us before the first hop (src/graph/tuning.cc, baseLat). Expected, best, worst.
COLLECTIVE_BASE_S = (6.6e-6, 5e-6, 15e-6)
# Tokens up to which, and from which, the two compute efficiencies hold.
_SMALL_TOKENS, _LARGE_TOKENS = 512.0, 4096.0
_LOG_SPAN = math.log(_LARGE_TOKENS / _SMALL_TOKENS)
# Tokens above and up to which vLLM's fp8 kernels are slow (cutlass tile of the next size, largely empty).
_MID_BATCH = (16.0, 48.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """One GPU and its links in one case. Bytes per second, FLOP per second, seconds."""

    memory: float
    head_memory: float
    kv: float
    small_compute: float
    large_compute: float
    head_compute: float
    experts: float
    attention: float
    blend: float
    mid_batch_penalty: float
    activation_s_per_byte: float
    layer_overhead: float
    step_overhead: float
    gang_overhead: float
    sequence_overhead: float
    request_overhead: float
    collective_base: float
    near: Link | None
    far: Link | None
    async_scheduling: bool = True  # the engine plans a step while the last one runs (vLLM on GPUs)
    # Cores that all ranks share (hosts emulated on one machine), else each rank has its own; and what the engine's own processes take
    # of them per step where the ranks leave none idle, seconds.
    shared_cores: int | None = None
    engine_cpu: float = 0.0

    def turns(self, ranks: int) -> int:
        """How many of ``ranks`` busy ranks a core serves, one after the other."""
        return 1 if self.shared_cores is None else -(-ranks // self.shared_cores)

    def compute(self, tokens: float) -> float:
        """FLOP per second of linear layers with ``tokens`` tokens in the step."""
        if tokens <= _SMALL_TOKENS:
            return self.small_compute
        share = min(1.0, math.log(tokens / _SMALL_TOKENS) / _LOG_SPAN)
        return self.small_compute + share * (self.large_compute - self.small_compute)

    def mid_batch(self, tokens: float) -> float:
        """Factor on 8-bit products of ``tokens`` tokens."""
        return self.mid_batch_penalty if _MID_BATCH[0] < tokens <= _MID_BATCH[1] else 1.0


@dataclass(frozen=True, slots=True)
class Link:
    """A link in one case."""

    hop: float
    bytes_per_s: float
    allreduce_floor: float | None
    per_gpu: bool
    burst: float = 0.0  # bytes that pass at once after a pause

    def wire_s(self, size_bytes: float, ports: int = 1) -> float:
        """Seconds that bytes take beyond the hop."""
        return max(0.0, size_bytes - self.burst) / (self.bytes_per_s * ports)


def rates(gpu: GpuFacts, far: LinkFacts | None, weights: WeightFormat, case: Case) -> Rates:
    """Everything the time formulas need, in one case."""
    eight_bit = weights.fp8_math and gpu.fp8_flops is not None
    engine, sixteen = gpu.engine["eight" if eight_bit else "sixteen"], gpu.engine["sixteen"]
    plain_peak = _high(gpu.bf16_flops, case)
    peak = _high(gpu.fp8_flops, case) if eight_bit and gpu.fp8_flops else plain_peak
    if weights.name == "float32":
        peak /= 2
    bandwidth = _high(gpu.memory_bandwidth, case)
    return Rates(
        memory=bandwidth * _high(engine["memory_efficiency"], case),
        head_memory=bandwidth * _high(sixteen["memory_efficiency"], case),
        kv=bandwidth * _high(engine["kv_efficiency"], case),
        small_compute=peak * _high(engine["small_compute_efficiency"], case),
        large_compute=peak * _high(engine["large_compute_efficiency"], case),
        head_compute=plain_peak * _high(sixteen["small_compute_efficiency"], case),
        experts=peak * _high(engine["expert_efficiency"], case),
        attention=plain_peak * _high(engine["attention_efficiency"], case),
        blend=_high(engine["blend"], case),
        mid_batch_penalty=_low(engine["mid_batch_penalty"], case) if eight_bit else 1.0,
        activation_s_per_byte=_low(engine["activation_traffic"], case) / bandwidth,
        layer_overhead=_low(engine["layer_overhead"], case),
        step_overhead=_low(engine["step_overhead"], case),
        gang_overhead=_low(engine["gang_overhead"], case),
        sequence_overhead=_low(engine["sequence_overhead"], case),
        request_overhead=_low(engine["request_overhead"], case),
        collective_base=COLLECTIVE_BASE_S[CASES.index(case)],
        near=None if gpu.link is None else link(gpu.link, case),
        far=None if far is None else link(far, case),
        async_scheduling=gpu.cuda,
        engine_cpu=0.0 if gpu.engine_cpu is None else _low(gpu.engine_cpu, case),
        shared_cores=None if gpu.shared_cores is None else max(1, round(gpu.shared_cores.value)),
    )


def link(facts: LinkFacts, case: Case) -> Link:
    """A link in one case."""
    return Link(
        hop=_low(facts.hop, case),
        bytes_per_s=_high(facts.bandwidth, case) * _high(facts.efficiency, case),
        allreduce_floor=None if facts.allreduce_floor is None else _low(facts.allreduce_floor, case),
        per_gpu=facts.per_gpu,
        burst=0.0 if facts.burst is None else facts.burst.value,
    )


def _high(fact: Fact, case: Case) -> float:
    """The fact where more is better."""
    if case == "expected":
        return fact.value
    found = fact.high if case == "best" else fact.low
    return fact.value if found is None or found <= 0 else found


def _low(fact: Fact, case: Case) -> float:
    """The fact where less is better."""
    if case == "expected":
        return fact.value
    found = fact.low if case == "best" else fact.high
    return fact.value if found is None else found
