"""How fast hardware really is: catalogue figures times measured efficiencies, as three cases (expected, best, worst).

The efficiencies are fitted to vLLM 0.24 on one H200 (8B bf16 and 70B fp8, decode and prefill points; measured
2026-11-23), the only GPU measurement at hand. The fit, by hand from a few points each:

- memory: decode of one request, weights read once. 8B: 15.0 GB in 4.82 ms less attention; 70B fp8: 70.6 GB in 20.5
ms. Two
  equations, bytes / (4.8 TB/s x e) + layers x c, give e = 0.81 and c = 30 us per layer.
- KV cache: 8B, batch 8, context 515 to 8196: 8.05 GB more in 1.84 ms, 4.4 TB/s = 0.91 of the data sheet. - arithmetic
beside the memory traffic: 8B, batch 1 to 128 at equal context: 12 us per sequence = 0.79 x FLOP / peak. - prefill:
8192 tokens, 132 TFLOP in 212 ms (8B bf16) and 1121 + 88 TFLOP in 1132 ms (70B fp8): 0.63 and 0.58 of peak, under
  the power limit. 0.61 is used for both.
- 5.3 ms per request of the engine's own work (a prompt of 16 tokens against one decode step, both models).

The ranges cover the residuals of all points there (tests/unit/estimate/test_h200.py) and are an assumption for any
other GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spanwise.facts.fact import Fact

if TYPE_CHECKING:
    from spanwise.facts.book import GpuFacts, LinkFacts
    from spanwise.facts.dtypes import WeightFormat

Case = Literal["expected", "best", "worst"]
CASES: tuple[Case, ...] = ("expected", "best", "worst")

# (expected, best, worst); best is always the faster one.
_MEMORY_EFFICIENCY = (0.814, 0.90, 0.70)
_KV_EFFICIENCY = (0.91, 0.96, 0.75)
_COMPUTE_EFFICIENCY = (0.61, 0.78, 0.48)
_BATCH_FACTOR = (0.79, 0.3, 1.8)
_LAYER_OVERHEAD_S = (30.5e-6, 18e-6, 55e-6)
_REQUEST_OVERHEAD_S = (5.3e-3, 3.5e-3, 8e-3)
# NCCL's ring, LL protocol: 6.6 us before the first hop (src/graph/tuning.cc, baseLat).
_COLLECTIVE_BASE_S = (6.6e-6, 5e-6, 15e-6)

H200_FIT = Fact(
    name="engine.efficiency",
    value=_MEMORY_EFFICIENCY[0],
    unit="1",
    source="fit to vLLM 0.24 on one H200 (share of memory bandwidth in decode; the others in spanwise.estimate.rates)",
    date="2026-11-23",
    kind="assumption",
    low=_MEMORY_EFFICIENCY[2],
    high=_MEMORY_EFFICIENCY[1],
)


@dataclass(frozen=True, slots=True)
class Rates:
    """One GPU and its links in one case. Bytes per second, FLOP per second, seconds."""

    memory: float
    kv: float
    linear_peak: float
    linear: float
    attention: float
    batch_factor: float
    layer_overhead: float
    request_overhead: float
    collective_base: float
    near: Link | None
    far: Link | None


@dataclass(frozen=True, slots=True)
class Link:
    """A link in one case."""

    hop: float
    bytes_per_s: float
    allreduce_floor: float | None
    per_gpu: bool


def rates(gpu: GpuFacts, far: LinkFacts | None, weights: WeightFormat, case: Case) -> Rates:
    """Everything the time formulas need, in one case."""
    index = CASES.index(case)
    eight_bit = weights.fp8_math and gpu.fp8_flops is not None
    peak = _high(gpu.fp8_flops if eight_bit and gpu.fp8_flops else gpu.bf16_flops, case)
    if weights.name == "float32":
        peak /= 2
    bandwidth = _high(gpu.memory_bandwidth, case)
    overhead = _LAYER_OVERHEAD_S[index] if gpu.layer_overhead is None else _low(gpu.layer_overhead, case)
    request = _REQUEST_OVERHEAD_S[index] if gpu.request_overhead is None else _low(gpu.request_overhead, case)
    return Rates(
        memory=bandwidth * _MEMORY_EFFICIENCY[index],
        kv=bandwidth * _KV_EFFICIENCY[index],
        linear_peak=peak,
        linear=peak * _COMPUTE_EFFICIENCY[index],
        attention=_high(gpu.bf16_flops, case) * _COMPUTE_EFFICIENCY[index],
        batch_factor=_BATCH_FACTOR[index],
        layer_overhead=overhead,
        request_overhead=request,
        collective_base=_COLLECTIVE_BASE_S[index],
        near=None if gpu.link is None else link(gpu.link, case),
        far=None if far is None else link(far, case),
    )


def link(facts: LinkFacts, case: Case) -> Link:
    """A link in one case."""
    return Link(
        hop=_low(facts.hop, case),
        bytes_per_s=_high(facts.bandwidth, case) * _high(facts.efficiency, case),
        allreduce_floor=None if facts.allreduce_floor is None else _low(facts.allreduce_floor, case),
        per_gpu=facts.per_gpu,
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
