"""From step times to what a client sees under load: TTFT, TPOT, throughput and the saturation point. Seconds.

Two ways, one meaning. `serve` is a formula, for searches over many layouts. `observe` replays the load request by request
(spanwise.estimate.replay), for the layouts that are shown.

The formula: with B requests decoding, each of O output and I input tokens, a step carries B tokens of decode and on average B x I / O
tokens of prompts (every finished request makes room for one prompt). Prompts come whole, so a share f of the steps carries a lump of L
tokens, f x L = B x I / O, and the mean step is T(B) = (1 - f) step(B) + f step(B, L); L is at most what the token budget leaves, which
bounds B. The rate is X(B) = B / (O x T(B)), rising in B until the KV cache, the budget or ``max_num_seqs`` is full: the saturation point.
An arrival rate fixes B by X(B) = rate; a closed loop has B = concurrency.

Waiting for a prompt's turn under Poisson arrivals is the Pollaczek-Khinchine mean of M/D/1, rho x s / (2 (1 - rho)), its tail taken as
exponential. In a closed loop prompts arrive in waves and wait for what is left of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spanwise.estimate.pace import Pace
from spanwise.estimate.replay import percentile, replay
from spanwise.estimate.step import Costs, decode_step, prefill

if TYPE_CHECKING:
    from spanwise.estimate.rates import Rates

# vLLM's own ``max_num_seqs`` of a server (vllm/engine/arg_utils.py): 1024 on GPUs of 70 GiB and more, else 256.
MAX_SEQUENCES = 256
MAX_SEQUENCES_BIG = 1024
# Requests of a replayed Poisson stream; a closed loop is replayed for this many rounds of its concurrency, all counted, as a
# benchmark of that length would.
_STREAM_REQUESTS, _ROUNDS, _FEWEST, _MOST = 300, 3, 32, 3072
# A queue close to saturation is not a service: the judgement keeps this share of the saturation point. In a closed loop it is the share
# of the
# requests that must hold KV cache at once; the others wait for a place.
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
    """What one replica does under a Load. ``ttft_s`` is None where the queue grows without end; ``steady_*`` only where replayed.

    A closed loop opens with a burst that a benchmark counts. ``steady_ttft_p95_s`` leaves it out; None where there is no burst.
    """

    sustained: bool
    ttft_s: float | None
    ttft_p95_s: float | None
    tpot_s: float
    tpot_p95_s: float
    requests_per_s: float
    max_requests_per_s: float
    in_flight: float
    steady_ttft_s: float | None = None
    steady_tpot_s: float | None = None
    preemptions: int = 0
    steady_ttft_p95_s: float | None = None

    @property
    def kept_ttft_p95_s(self) -> float | None:
        """What an objective for the p95 of TTFT is held against: service, not the start of a benchmark."""
        return self.ttft_p95_s if self.steady_ttft_p95_s is None else self.steady_ttft_p95_s


def observe(
    rates: Rates,
    cut: Costs,
    load: Load,
    *,
    kv_capacity_tokens: int,
    batched_tokens: int,
    max_sequences: int = MAX_SEQUENCES,
) -> Service:
    """One replica under ``load``, replayed request by request (spanwise.estimate.replay): slower than `serve`, and closer.

    A closed loop's figures count all of three rounds, the first burst included, as a benchmark does; ``steady_*`` leave the burst out. A
    stream's figures leave out its start, when the replica is still empty.
    """
    known = serve(
        rates,
        cut,
        load,
        kv_capacity_tokens=kv_capacity_tokens,
        batched_tokens=batched_tokens,
        max_sequences=max_sequences,
    )
    if load.rate_per_s is None:
        concurrency = max(1, round(load.concurrency or 1))
        count = min(_MOST, max(_FEWEST, _ROUNDS * concurrency))
    elif load.rate_per_s > HEADROOM * known.max_requests_per_s:
        return known if known.ttft_s is None else replace(known, ttft_s=None, ttft_p95_s=None)
    else:
        count = _STREAM_REQUESTS
    seen = replay(
        rates,
        cut,
        load,
        kv_capacity_tokens=kv_capacity_tokens,
        batched_tokens=batched_tokens,
        max_sequences=max_sequences,
        requests=count,
    )
    if load.rate_per_s is None:
        skip, steady = 0, min(concurrency, len(seen.ttft_s) // 2)
    else:
        skip = steady = min(len(seen.ttft_s) // 4, round(2 * known.in_flight))
    if not seen.complete:
        return known
    ttft, tpot = seen.ttft_s[skip:], seen.tpot_s[skip:]
    return Service(
        sustained=known.sustained if load.rate_per_s is None else True,
        ttft_s=seen.mean_ttft_s(skip=skip),
        ttft_p95_s=percentile(ttft, 0.95),
        tpot_s=seen.mean_tpot_s(skip=skip),
        tpot_p95_s=percentile(tpot, 0.95),
        requests_per_s=seen.requests_per_s if load.rate_per_s is None else load.rate_per_s,
        max_requests_per_s=max(known.max_requests_per_s, seen.requests_per_s),
        in_flight=seen.mean_in_flight,
        steady_ttft_s=seen.mean_ttft_s(skip=steady),
        steady_tpot_s=seen.mean_tpot_s(skip=steady),
        preemptions=seen.preemptions,
        steady_ttft_p95_s=percentile(seen.ttft_s[steady:], 0.95) if load.rate_per_s is None else None,
    )


_CLIENT_TIMES = ("ttft_s", "ttft_p95_s", "steady_ttft_p95_s", "tpot_s", "tpot_p95_s")


@dataclass(frozen=True, slots=True)
class Correction:
    """What the replay of one layout found against its formula, for the times a client sees: carried over to others of the same load."""

    factors: tuple[tuple[str, float], ...] = ()

    @classmethod
    def between(cls, formula: Service, replayed: Service) -> Correction:
        """From the same layout both ways."""
        found = []
        for name in _CLIENT_TIMES:
            said, seen = getattr(formula, name), getattr(replayed, name)
            if said and seen:
                found.append((name, seen / said))
        return cls(tuple(found))

    def of(self, formula: Service) -> Service:
        """The formula's answer, corrected."""
        if not self.factors:
            return formula
        moved = {name: value * factor for name, factor in self.factors if (value := getattr(formula, name)) is not None}
        said = replace(formula, **moved)
        # Each time has its own factor; of another layout the p95 would come out below the mean.
        tail = None if said.ttft_p95_s is None or said.ttft_s is None else max(said.ttft_p95_s, said.ttft_s)
        return replace(said, ttft_p95_s=tail, tpot_p95_s=max(said.tpot_p95_s, said.tpot_s))


def serve(
    rates: Rates,
    cut: Costs,
    load: Load,
    *,
    kv_capacity_tokens: int,
    batched_tokens: int,
    max_sequences: int = MAX_SEQUENCES,
) -> Service:
    """One replica under ``load``, by formula: what a search over many layouts can afford."""
    pace = pace_of(rates, cut, load, batched_tokens)
    return served(pace, load, pace.slots(kv_capacity_tokens=kv_capacity_tokens, max_sequences=max_sequences))


def pace_of(rates: Rates, cut: Costs, load: Load, batched_tokens: int) -> Pace:
    """T(B) for requests as long as those of ``load``; kept by a search, which asks for it under many loads."""
    return Pace(
        rates,
        cut,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        batched_tokens=batched_tokens,
        stream=load.rate_per_s is not None,
    )


def served(pace: Pace, load: Load, slots: float) -> Service:
    """`serve` with the replica's pace known, and how many requests decode at once at most."""
    rates, cut, step, rate, batched_tokens = pace.rates, pace.cut, pace.step, pace.rate, pace.batched_tokens
    prompt, out, context = load.input_tokens, load.output_tokens, pace.context
    top = rate(slots)
    alone = pace.alone
    first, occupancy = alone.latency + rates.request_overhead, alone.bottleneck
    if load.rate_per_s is not None:
        wanted = load.rate_per_s
        if wanted > top:
            full = step(slots)
            return Service(
                sustained=False,
                ttft_s=None,
                ttft_p95_s=None,
                tpot_s=full,
                tpot_p95_s=full,
                requests_per_s=top,
                max_requests_per_s=top,
                in_flight=slots,
            )
        batch = pace.in_flight(wanted * out, slots)
        busy = min(0.99, wanted * occupancy)
        wait = busy * occupancy / (2 * (1 - busy))
        tail = wait / busy * math.log(busy / 0.05) if busy > 0.05 else 0.0
        token = step(max(1.0, batch))
        batch = wanted * out * token  # Little's law; a jump of T leaves the solution between two sides
        # A new request waits for the step that runs and the one planned behind it, where any request is running; in a pipeline for the
        # next of
        # the steps in flight (0.5 + 1 / stages of a cycle, as the replay has it for 2 to 4 stages).
        ahead = (0.5 + 1.0 / max(1, len(cut.stages))) * token * min(1.0, batch)
        return Service(
            sustained=wanted <= HEADROOM * top,
            ttft_s=first + wait + ahead,
            ttft_p95_s=first + max(tail, wait) + ahead + token,
            tpot_s=token,
            tpot_p95_s=step(min(slots, max(1.0, batch) + 1.65 * math.sqrt(batch))),
            requests_per_s=wanted,
            max_requests_per_s=top,
            in_flight=batch,
        )
    wanted = load.concurrency or 1.0
    batch = min(wanted, slots)
    if batch <= 1:
        token = decode_step(rates, cut, 1.0, context)
        done = 1 / (first + (out - 1) * token)
        return Service(
            sustained=HEADROOM * wanted <= slots,
            ttft_s=first + (wanted - batch) / done,
            ttft_p95_s=first + (wanted - batch) / done,
            tpot_s=token,
            tpot_p95_s=token,
            requests_per_s=done,
            max_requests_per_s=top,
            in_flight=batch,
        )
    done = rate(batch)
    # Prompts come in waves, in full steps. A request waits for half of its wave, or for 2.4 full steps where waves overlap (a rule of
    # thumb from H200 loops); what its residence B / X leaves after that is decoding.
    full = min(float(batched_tokens), batch * prompt)
    full_s = prefill(rates, cut, full, batched_tokens=batched_tokens).bottleneck
    wave = batch * prompt / full * full_s
    queue = max(0.0, wanted - batch) / done
    ttft = max(first, min((wave + full_s) / 2, 2.4 * max(full_s, occupancy)))
    # The first burst waits for half of all prompts; it is a share of what a benchmark of some rounds counts (see `observe`).
    # Later ones differ by how full their wave is: a rule of thumb from replays of 1 to 200 at once through 1 to 4 stages.
    steady_p95 = (1.3 if len(cut.stages) < 3 else 2.2) * ttft
    burst = batch / min(_MOST, max(_FEWEST, _ROUNDS * batch))
    token = max(decode_step(rates, cut, batch, context), (batch / done - ttft) / out)
    ttft += burst * max(0.0, (wave + full_s) / 2 - ttft) + queue
    return Service(
        sustained=HEADROOM * wanted <= slots,
        ttft_s=ttft,
        ttft_p95_s=max(first, wave) + rates.request_overhead + queue,
        steady_ttft_p95_s=max(first, steady_p95) + queue,
        tpot_s=token,
        tpot_p95_s=token * 1.1,
        requests_per_s=done,
        max_requests_per_s=top,
        in_flight=batch,
    )
