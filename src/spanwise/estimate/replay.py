"""A load replayed through vLLM's scheduler in simulated time: what each request sees. Deterministic; seconds and tokens.

What is replayed is the rule of vLLM's V1 scheduler (vllm/v1/core/sched/scheduler.py): every step has a token budget; running requests come
first (one token each, or the next chunk of their prompt), then waiting ones in the order of arrival, the last one cut to what is left of
the budget, while the KV cache has blocks and fewer than ``max_num_seqs`` run. Without blocks for a running request the youngest one is
preempted and computed again. A pipeline of P stages keeps up to P steps in flight, and a request that is in one is not in another: so
requests that arrived together stay together, and bubbles follow from how they arrived, not from a formula. Step times are the
estimator's (spanwise.estimate.step). While nothing arrives, ends or is admitted, equal decode steps are taken at once.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spanwise.estimate.step import Work, step_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.estimate.rates import Rates
    from spanwise.estimate.serving import Load
    from spanwise.estimate.step import Costs

BLOCK_TOKENS = 16
_MOST_STEPS = 60_000
# Requests looked at over all steps: what takes the time. Beyond it the replay is given up and the formula answers.
_MOST_WORK = 300_000
_SEED = 20260
# A client's next request reaches the engine this long after its last answer: never in time for the step that is planned then.
_TURNAROUND_S = 5e-4


@dataclass(slots=True, eq=False)
class _Request:
    arrived: float
    prompt: int
    output: int
    computed: int = 0  # tokens whose KV is (or is being) computed
    planned: int = 0  # output tokens made or in flight
    made: int = 0  # output tokens
    held: int = 0  # KV blocks
    in_flight: int = 0  # steps it is in
    first: float = math.nan
    ended: float = math.nan


@dataclass(slots=True)
class _Step:
    done_at: float
    decodes: list[_Request]
    ended_prompts: list[_Request]
    chunked: list[_Request]
    repeat: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the requests saw, in the order of their arrival. ``complete`` is False where the replay was cut off at its step limit."""

    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    duration_s: float
    requests_per_s: float
    preemptions: int
    mean_in_flight: float
    complete: bool

    def mean_ttft_s(self, *, skip: int = 0) -> float:
        """Mean time to first token, the first ``skip`` requests left out."""
        return _mean(self.ttft_s[skip:] or self.ttft_s)

    def mean_tpot_s(self, *, skip: int = 0) -> float:
        """Mean time per further token, the first ``skip`` requests left out."""
        return _mean(self.tpot_s[skip:] or self.tpot_s)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy's default."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)


@dataclass(slots=True)
class _Engine:
    """The scheduler's state: `schedule` plans a step, `settle` applies what a finished one made."""

    blocks: int
    batched_tokens: int
    max_sequences: int
    ahead: bool  # plans a request's next token before its last one is known (asynchronous scheduling)
    waiting: deque[_Request] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)
    preemptions: int = 0

    def schedule(self) -> tuple[Work, _Step] | None:
        """What the next step holds; None where every request is in flight or nothing is there."""
        budget = self.batched_tokens
        chunks: list[tuple[float, float]] = []
        step = _Step(0.0, [], [], [])
        index, preempted = 0, False
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            index += 1
            # `_wanted`, inlined: most of a replay's time is spent here.
            if request.planned >= request.output:
                continue
            new = request.prompt + (request.planned if self.ahead else request.made) - request.computed
            if new <= 0:
                continue
            new = min(new, budget)
            need = -(-(request.computed + new) // BLOCK_TOKENS) - request.held
            victim = None
            while need > self.blocks and victim is not request:
                victim = self.running.pop()
                self._preempt(victim)
                preempted = True
            if victim is request:
                break
            budget -= new
            self._plan(step, chunks, request, new, need)
        stale: list[_Request] = []
        while self.waiting and budget > 0 and len(self.running) < self.max_sequences and not preempted:
            request = self.waiting[0]
            if request.in_flight:
                stale.append(self.waiting.popleft())
                continue
            new = self._wanted(request, budget)
            need = -(-(request.computed + new) // BLOCK_TOKENS) - request.held
            if -(-(request.prompt + request.made) // BLOCK_TOKENS) > self.blocks:
                break
            self.waiting.popleft()
            self.running.append(request)
            budget -= new
            self._plan(step, chunks, request, new, need)
        self.waiting.extendleft(reversed(stale))
        if not step.decodes and not chunks:
            return None
        decodes = len(step.decodes)
        held = sum(request.computed for request in step.decodes)
        return Work(
            decodes=decodes,
            context=held / decodes if decodes else 0.0,
            chunks=tuple(chunks),
            finished=len(step.ended_prompts),
        ), step

    def _wanted(self, request: _Request, budget: int) -> int:
        if request.planned >= request.output:
            return 0
        known = request.prompt + (request.planned if self.ahead else request.made)
        return min(known - request.computed, budget)

    def _plan(self, step: _Step, chunks: list[tuple[float, float]], request: _Request, new: int, need: int) -> None:
        self._hold(request, need)
        known = request.prompt + request.planned
        if request.planned and request.computed == known - 1:
            step.decodes.append(request)
            request.planned += 1
        else:
            chunks.append((new, request.computed))
            if request.computed + new == known:
                step.ended_prompts.append(request)
                request.planned += 1
            else:
                step.chunked.append(request)
        request.computed += new
        request.in_flight += 1

    def _hold(self, request: _Request, need: int) -> None:
        if need > 0:
            self.blocks -= need
            request.held += need

    def _preempt(self, request: _Request) -> None:
        self.blocks += request.held
        request.held = request.computed = 0
        self.preemptions += 1
        self.waiting.appendleft(request)

    def settle(self, step: _Step, now: float) -> int:
        """Hand out the tokens of a step that ended at ``now``; how many requests ended with it."""
        over = 0
        for request in (*step.decodes, *step.ended_prompts):
            request.in_flight -= 1
            if not request.made:
                request.first = now
            request.made += step.repeat
            if request.made >= request.output:
                request.ended = now
                self.blocks += request.held
                request.held = 0
                over += 1
        for request in step.chunked:
            request.in_flight -= 1
        if over:
            self.running = [request for request in self.running if math.isnan(request.ended)]
            self.waiting = deque(request for request in self.waiting if math.isnan(request.ended))
        return over

    def ready(self) -> bool:
        """True where `schedule` may find something."""
        return bool(self.waiting) or (bool(self.running) if self.ahead else self.idle())

    def stretch(self, step: _Step, work: Work, most: int) -> int:
        """Turn a plain decode step into up to ``most`` equal ones, while no request ends and no block runs out; how many."""
        if work.chunks or self.waiting or len(step.decodes) != len(self.running):
            return 1
        left = min(request.output - request.planned for request in step.decodes)
        room = self.blocks // len(step.decodes) * BLOCK_TOKENS
        repeat = max(1, min(most, left, room))
        for request in step.decodes:
            self.advance(request, repeat - 1)
        step.repeat = repeat
        return repeat

    def advance(self, request: _Request, tokens: int) -> None:
        """Let a decoding request go on by ``tokens``; the blocks are there."""
        request.planned += tokens
        request.computed += tokens
        self._hold(request, -(-request.computed // BLOCK_TOKENS) - request.held)

    def idle(self) -> bool:
        """True where a running request is in no step."""
        return any(not request.in_flight for request in self.running)


def replay(  # noqa: PLR0912 - one loop, in the order of the scheduler it follows
    rates: Rates,
    cut: Costs,
    load: Load,
    *,
    kv_capacity_tokens: int,
    batched_tokens: int,
    max_sequences: int,
    requests: int,
    async_scheduling: bool | None = None,
    seed: int = _SEED,
) -> Seen:
    """Replay ``load`` on one replica: a closed loop at its concurrency, or Poisson arrivals at its rate.

    Args:
        rates: The hardware in one case.
        cut: The model as the layout cuts it.
        load: Lengths, and a rate or a concurrency.
        kv_capacity_tokens: Of one replica.
        batched_tokens: vLLM's ``max_num_batched_tokens``.
        max_sequences: vLLM's ``max_num_seqs``.
        requests: How many.
        async_scheduling: vLLM's own, for one stage: the next step is planned while the last one runs, so a new request waits for both;
            None: as the engine of this hardware does.
        seed: Of the arrivals.
    """
    stages = len(cut.stages)
    ahead = (rates.async_scheduling if async_scheduling is None else async_scheduling) and stages == 1
    depth = 2 if ahead else stages
    engine = _Engine(max(1, kv_capacity_tokens // BLOCK_TOKENS), batched_tokens, max_sequences, ahead)
    concurrency = None if load.rate_per_s is not None else max(1, round(load.concurrency or 1))
    arrivals = _Arrivals(load, requests, concurrency, random.Random(seed))  # noqa: S311
    flying: deque[_Step] = deque()
    everyone: list[_Request] = []
    now = entry_free = 0.0  # entry_free: when the first stage takes the next step
    area, work_done = 0.0, 0
    for _ in range(_MOST_STEPS):
        if work_done > _MOST_WORK:
            break
        for request in arrivals.until(now):
            everyone.append(request)
            engine.waiting.append(request)
        planned = engine.schedule() if len(flying) < depth and (ahead or entry_free <= now) else None
        if planned is not None:
            work_done += len(engine.running)
            work, step = planned
            start = max(now, flying[-1].done_at) if ahead and flying else now
            time = step_time(rates, cut, work)
            if stages == 1 and not any(
                request.planned >= request.output for held in flying for request in held.decodes
            ):
                room = int((arrivals.next - start) / time.latency) if arrivals.left else _MOST_STEPS
                if engine.stretch(step, work, room) > 1:
                    # A decode step's time is linear in the context: all of them take as long as the middle one.
                    middle = replace(work, context=work.context + (step.repeat - 1) / 2)
                    time = step_time(rates, cut, middle)
            extra = rates.sequence_overhead * (work.decodes + work.finished)
            extra += rates.request_overhead if work.chunks else 0.0
            behind = flying[-1].done_at + time.bottleneck if flying and not ahead else 0.0
            step.done_at = max(start + step.repeat * (time.latency + extra), behind)
            entry_free = start + step.repeat * (time.bottleneck + extra)
            flying.append(step)
            continue
        if stages > 1 and flying and not engine.waiting and not engine.idle():
            now, entry_free, leapt = _leap(engine, flying, now, entry_free, arrivals, rates, cut)
            area += leapt * len(engine.running)
        moments = [flying[0].done_at] if flying else []
        if len(flying) < depth:
            if entry_free > now and engine.ready():
                moments.append(entry_free)
            if arrivals.left and (arrivals.next > now or not flying):
                moments.append(arrivals.next)
        if not moments:
            break
        then = max(now, min(moments))
        area += len(engine.running) * (then - now)
        now = then
        if flying and flying[0].done_at <= now:
            for _ended in range(engine.settle(flying.popleft(), now)):
                arrivals.freed(now + _TURNAROUND_S)
    done = [request for request in everyone if not math.isnan(request.ended)]
    return Seen(
        ttft_s=tuple(request.first - request.arrived for request in done),
        tpot_s=tuple((request.ended - request.first) / max(1, request.output - 1) for request in done),
        duration_s=now,
        requests_per_s=len(done) / now if now else 0.0,
        preemptions=engine.preemptions,
        mean_in_flight=area / now if now else 0.0,
        complete=len(done) == requests,
    )


def _leap(
    engine: _Engine,
    flying: deque[_Step],
    now: float,
    entry_free: float,
    arrivals: _Arrivals,
    rates: Rates,
    cut: Costs,
) -> tuple[float, float, float]:
    """Let a pipeline that only decodes go round many times at once: the new ``now`` and ``entry_free``, and the time taken.

    Every request is in one of the steps in flight and each step comes round once per cycle, the longer of one step's way through all
    stages and of all steps through the slowest one.
    """
    if any(step.ended_prompts or step.chunked for step in flying):
        return now, entry_free, 0.0
    rounds = min(request.output - request.planned for step in flying for request in step.decodes) - 1
    rounds = min(rounds, engine.blocks // len(engine.running) * BLOCK_TOKENS - 1)
    if rounds < 2:
        return now, entry_free, 0.0

    def cycle(later: float) -> float:
        longest = total = 0.0
        for step in flying:
            size = len(step.decodes)
            context = sum(request.computed for request in step.decodes) / size + later
            time = step_time(rates, cut, Work(decodes=size, context=context))
            extra = rates.sequence_overhead * size
            longest, total = max(longest, time.latency + extra), total + time.bottleneck + extra
        return max(longest, total)

    if arrivals.left:
        rounds = min(rounds, int((arrivals.next - now) / cycle(0.0)) - 1)
    if rounds < 2:
        return now, entry_free, 0.0
    took = rounds * cycle(rounds / 2)
    for step in flying:
        step.done_at += took
        for request in step.decodes:
            engine.advance(request, rounds)
            request.made += rounds
    return now + took, entry_free + took, took


class _Arrivals:
    """Requests as they come: all of a closed loop's first wave at once and then one per one that ended, or a Poisson stream."""

    def __init__(self, load: Load, count: int, concurrency: int | None, draw: random.Random) -> None:
        self._load, self._times = load, deque[float]()
        self._unsent = 0
        if concurrency is None:
            at = 0.0
            for _ in range(count):
                at += draw.expovariate(load.rate_per_s or 1.0)
                self._times.append(at)
        else:
            self._times.extend([0.0] * min(count, concurrency))
            self._unsent = count - len(self._times)

    @property
    def left(self) -> bool:
        """True while requests are still to come at a known time."""
        return bool(self._times)

    @property
    def next(self) -> float:
        """When the next one comes."""
        return self._times[0]

    def until(self, now: float) -> list[_Request]:
        """Those that have come by ``now``."""
        found = []
        while self._times and self._times[0] <= now:
            found.append(_Request(self._times.popleft(), self._load.input_tokens, self._load.output_tokens))
        return found

    def freed(self, now: float) -> None:
        """A client of the closed loop got its answer at ``now`` and sends its next request."""
        if self._unsent:
            self._unsent -= 1
            self._times.append(now)
