"""What an engine makes of a GPU: the share of each catalogue figure that vLLM reaches, as facts with ranges.

The quantities, for one precision of the linear layers (``sixteen`` or ``eight`` bits of arithmetic):

- ``memory_efficiency``: of the memory bandwidth, reading weights; ``kv_efficiency``: reading the KV cache.
- ``small_compute_efficiency``, ``large_compute_efficiency``: of the peak, products of up to 512 and from 4096 tokens (long ones run at
  the power limit, where the clock falls); between them evenly in the logarithm.
- ``expert_efficiency``: of the peak, routed experts; ``attention_efficiency``: of the bf16 peak, prefill attention.
- ``blend``: how little memory and arithmetic hide each other (spanwise.estimate.step).
- ``mid_batch_penalty``: factor on 8-bit products of 17 to 48 tokens, where vLLM's kernel choice is unlucky (measured).
- ``activation_traffic``: bytes moved per layer and byte of hidden state, beside weights and attention.
- ``layer_overhead``, ``step_overhead``, ``sequence_overhead``, ``request_overhead``: seconds per layer, per step, per running request and
  step, and per request outside its steps; ``gang_overhead``: per step of a replica of several ranks, to tell all of them and hear back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from spanwise.facts import catalogue

if TYPE_CHECKING:
    from spanwise.facts.fact import Fact

Precision = Literal["sixteen", "eight"]
PRECISIONS: tuple[Precision, ...] = ("sixteen", "eight")
DEFAULT_ENGINE = "vllm-cuda"
QUANTITIES = (
    "memory_efficiency",
    "kv_efficiency",
    "small_compute_efficiency",
    "large_compute_efficiency",
    "expert_efficiency",
    "attention_efficiency",
    "blend",
    "mid_batch_penalty",
    "activation_traffic",
    "layer_overhead",
    "step_overhead",
    "gang_overhead",
    "request_overhead",
    "sequence_overhead",
)
SHARES = frozenset(name for name in QUANTITIES if name.endswith("_efficiency"))
# What a stated fact may say: beyond these the formulas mean nothing.
BOUNDS = {"blend": (1.0, 100.0), "mid_batch_penalty": (0.5, 10.0), "activation_traffic": (1e-12, 1e5)} | dict.fromkeys(
    ("layer_overhead", "step_overhead", "gang_overhead", "request_overhead", "sequence_overhead"), (1e-12, 1e3)
)
# On a GPU that the fit has not seen the ranges are this much wider: an assumption.
_UNSEEN = 2.0


def engine_facts(engine: str, gpu: str, overrides: dict[str, Fact]) -> dict[Precision, dict[str, Fact]]:
    """Facts of ``engine`` on ``gpu`` by precision and quantity; ``overrides`` of this very GPU beat both precisions' own."""
    found: dict[Precision, dict[str, Fact]] = {}
    for precision in PRECISIONS:
        facts, words = catalogue.engines()[f"{engine}-{precision}"]
        seen = gpu in words.get("measured_on", "").split()
        by_quantity = {fact.name.rpartition(".")[2]: fact if seen else _unseen(fact, gpu) for fact in facts}
        found[precision] = by_quantity | {name: fact for name, fact in overrides.items() if name in QUANTITIES}
    return found


def _unseen(fact: Fact, gpu: str) -> Fact:
    """The same value for a GPU that was not measured: an assumption with a wider range."""
    low, high = fact.low, fact.high
    if low is not None and high is not None:
        low = max(0.0, fact.value - _UNSEEN * (fact.value - low))
        high = fact.value + _UNSEEN * (high - fact.value)
        if fact.name.rpartition(".")[2] in SHARES:
            high = min(1.0, high)
    return replace(fact, kind="assumption", source=f"assumed for {gpu}, {fact.source}", low=low, high=high)
