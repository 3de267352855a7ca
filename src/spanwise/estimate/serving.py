"""From step times to what a client sees under load: TTFT, TPOT, throughput and the saturation point. Seconds.

Continuous batching with chunked prefill, in its mean: with B requests decoding, every finished request costs the
engine one prompt (``occupancy``) and O token steps shared by B, so the rate is X(B) = B / (B x occupancy + O x
step(B)), rising in B until the KV cache (or the scheduler's limit) is full. An arrival rate fixes B by X(B) = rate; a
closed loop has B = concurrency.

Waiting for a prompt's turn under Poisson arrivals is the Pollaczek-Khinchine mean of M/D/1, rho x s / (2 (1 - rho)),
its tail taken as exponential. In a closed loop prompts arrive in waves: the mean wait is the smaller of "all prompts
at once" and 2.4 full chunks, which the H200 loops show (1.9 to 2.8 chunks in five of seven loops; a rule of thumb,
hence wide ranges).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanwise.estimate.step import Costs, decode_step, prefill

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwise.estimate.rates import Rates

# vLLM's default on large GPUs is 1024, on small ones 256 (vllm/engine/arg_utils.py); 256 is what most deployments set.
MAX_SEQUENCES = 256
# A queue close to saturation is not a service: the judgement keeps this share of the saturation point.
HEADROOM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one replica gets. Exactly one of ``rate_per_s`` and ``concurrency``."""

    input_tokens: int
    output_tokens: int
    rate_per_s: float | None = None
    concurrency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one replica does under a Load. ``ttft_s`` is None where the queue grows without end."""

    sustained: bool
    ttft_s: float | None
    ttft_p95_s: float | None
    tpot_s: float
    tpot_p95_s: float
    requests_per_s: float
    max_requests_per_s: float
    in_flight: float


def serve(rates: Rates, cut: Costs, load: Load, *, kv_capacity_tokens: int, batched_tokens: int) -> Service:
    """One replica under ``load``."""
    length = load.input_tokens + load.output_tokens
    slots = float(max(1, min(MAX_SEQUENCES, kv_capacity_tokens // length)))
    context = load.input_tokens + load.output_tokens / 2
    prompt = prefill(rates, cut, load.input_tokens, batched_tokens=batched_tokens)
    occupancy, out = prompt.bottleneck, load.output_tokens

    def step(batch: float) -> float:
        return decode_step(rates, cut, max(1.0, batch), context)

    def rate(batch: float) -> float:
        return batch / (batch * occupancy + out * step(batch))

    top = rate(slots)
    first = prompt.latency + rates.request_overhead
    if load.rate_per_s is not None:
        wanted = load.rate_per_s
        if wanted > top:
            return Service(
                sustained=False,
                ttft_s=None,
                ttft_p95_s=None,
                tpot_s=slots / top / out,
                tpot_p95_s=slots / top / out,
                requests_per_s=top,
                max_requests_per_s=top,
                in_flight=slots,
            )
        batch = _solve(rate, wanted, slots)
        busy = min(0.99, wanted * occupancy)
        wait = busy * occupancy / (2 * (1 - busy))
        tail = wait / busy * math.log(busy / 0.05) if busy > 0.05 else 0.0
        token = step(batch) / (1 - busy)
        crowded = step(min(slots, batch + 1.65 * math.sqrt(batch))) / (1 - busy)
        half = step(batch) / 2 * (1.0 if batch >= 1 else batch)
        return Service(
            sustained=wanted <= HEADROOM * top,
            ttft_s=first + wait + half,
            ttft_p95_s=first + max(tail, wait) + 2 * half,
            tpot_s=token,
            tpot_p95_s=crowded,
            requests_per_s=wanted,
            max_requests_per_s=top,
            in_flight=batch,
        )
    wanted = load.concurrency or 1.0
    batch = min(wanted, slots)
    done = rate(batch)
    if batch <= 1:
        total = first + out * step(1.0)
        return Service(
            sustained=True,
            ttft_s=first,
            ttft_p95_s=first,
            tpot_s=step(1.0),
            tpot_p95_s=step(1.0),
            requests_per_s=wanted / total,
            max_requests_per_s=top,
            in_flight=wanted,
        )
    all_prompts = batch * occupancy
    chunk = min(batched_tokens, batch * load.input_tokens) / load.input_tokens * occupancy
    waves = max(1.0, all_prompts / chunk)
    share = min(all_prompts * (waves + 1) / (2 * waves), 2.4 * max(chunk, occupancy))
    queue = max(0.0, wanted - batch) / done
    residence = batch / done
    ttft = min(max(first, share + rates.request_overhead), 0.95 * residence + first)
    return Service(
        sustained=wanted <= slots,
        ttft_s=ttft + queue,
        ttft_p95_s=max(ttft, min(all_prompts, 4 * max(chunk, occupancy)) + rates.request_overhead) + queue,
        tpot_s=max(step(batch), (residence - ttft) / out),
        tpot_p95_s=max(step(batch), residence / out),
        requests_per_s=done,
        max_requests_per_s=top,
        in_flight=batch,
    )


def _solve(rate: Callable[[float], float], wanted: float, slots: float) -> float:
    """The batch at which ``rate`` reaches ``wanted``; the rate rises with the batch."""
    low, high = 0.0, slots
    for _ in range(18):
        middle = (low + high) / 2
        if rate(middle) < wanted:
            low = middle
        else:
            high = middle
    return high
