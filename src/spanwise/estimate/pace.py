"""How fast one replica steps with B requests decoding: T(B), and what follows from it by formula. Seconds.

A search asks for the same T(B) again and again, for other numbers of replicas, other rates and other memory. So a Pace remembers every
value it has computed, and looks for the batch of a rate between powers of two, which all rates share. What it answers does not depend
on what it was asked before.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from spanwise.estimate.step import Costs, StepTime, prefill, stepper

if TYPE_CHECKING:
    from spanwise.estimate.rates import Rates

_MOST_ITERATIONS = 40
# The batch of a rate is found to this share of itself; the step then is right to a third of that or better, since it grows less than B.
_CLOSE = 5e-4


# What a prompt costs the other steps in flight, as a share of its own time each.
_HELD_UP = 0.4


class Pace:
    """The mean step of one replica under requests of one length (see spanwise.estimate.serving for the formula)."""

    def __init__(
        self, rates: Rates, cut: Costs, *, input_tokens: int, output_tokens: int, batched_tokens: int, stream: bool
    ) -> None:
        """Nothing is computed before it is asked for. ``stream``: requests arrive one by one, not in the waves of a closed loop."""
        self.stream = stream
        self.rates, self.cut = rates, cut
        self.input_tokens, self.output_tokens, self.batched_tokens = input_tokens, output_tokens, batched_tokens
        self.context = input_tokens + output_tokens / 2
        self._time, self._stages = stepper(rates, cut), float(len(cut.stages))
        self._known: dict[float, float] = {}
        self._crowded: dict[float, float] = {}

    @cached_property
    def alone(self) -> StepTime:
        """One prompt with the replica to itself."""
        return prefill(
            self.rates, self.cut, self.input_tokens, batched_tokens=self.batched_tokens, stepper_known=self._time
        )

    def slots(self, *, kv_capacity_tokens: int, max_sequences: int) -> float:
        """How many requests decode at once at most."""
        prompt, out = self.input_tokens, self.output_tokens
        # Beyond this many the token budget has no room for the prompts that replace finished requests.
        crowd = max(1.0, self.batched_tokens / (1 + prompt / out))
        return float(max(1, min(max_sequences, kv_capacity_tokens // (prompt + out), crowd)))

    def rate(self, batch: float) -> float:
        """Requests per second with ``batch`` of them decoding: X(B).

        Of all slots it is the saturation point, where prompts queue and come together.
        """
        batch = max(1.0, batch)
        known = self._crowded.get(batch)
        if known is None:
            known = self._crowded[batch] = self._step(batch, 0.0) if self.stream else self.step(batch)
        return batch / (self.output_tokens * known)

    def step(self, batch: float) -> float:
        """The mean step T(B), decodes and the prompts that come with them."""
        known = self._known.get(batch)
        if known is None:
            known = self._known[batch] = self._step(batch, _HELD_UP if self.stream else 0.0)
        return known

    def _step(self, batch: float, held_up: float) -> float:
        rates, prompt = self.rates, self.input_tokens
        micro = 1.0 if self._stages == 1.0 else max(1.0, min(self._stages, batch))
        share = batch / micro
        tokens = share * prompt / self.output_tokens
        lump = min(max(float(prompt), tokens), max(1.0, self.batched_tokens - share))
        often = min(1.0, tokens / lump)
        latency, bottleneck = self._time(share, self.context, (), 0)
        chunk = (lump, max(0.0, prompt - lump) / 2)
        mixed = self._time(share, self.context, (chunk,), max(1, round(lump / prompt)))
        overhead = rates.request_overhead
        latency += often * (mixed[0] + overhead - latency)
        # A long step holds up those behind it at every stage, until every step carries a prompt. How much is a rule of thumb, from replays
        # of streams through 2 to 4 stages; without it TPOT was up to three times too short there. Prompts of a closed loop come together.
        often = min(1.0, often * (1.0 + held_up * (micro - 1.0)))
        bottleneck += often * (mixed[1] + overhead - bottleneck)
        return max(latency, micro * bottleneck) + batch * rates.sequence_overhead

    def in_flight(self, tokens_per_s: float, slots: float) -> float:
        """The batch B with B = tokens_per_s x T(B): Little's law for the requests that decode.

        ``tokens_per_s`` is at most what ``slots`` requests make. B is first put between two powers of two, starting from where a straight T
        would have it, then found by false position with halved ends (Illinois), to 5e-4 of itself.
        """
        low, low_miss = 1.0, 1.0 - tokens_per_s * self.step(1.0)
        if low_miss >= 0.0:
            return 1.0 - low_miss
        high, high_miss = slots, slots - tokens_per_s * self.step(slots)
        if high > low:
            middle = (low * high_miss - high * low_miss) / (high_miss - low_miss) if high_miss > low_miss else low
            exponent = int(min(max(middle, low), high)).bit_length() - 1
            while low < (point := float(1 << exponent)) < high:
                miss = point - tokens_per_s * self.step(point)
                if miss < 0.0:
                    low, low_miss, exponent = point, miss, exponent + 1
                else:
                    high, high_miss, exponent = point, miss, exponent - 1
        return self._between(tokens_per_s, low, low_miss, high, high_miss)

    def _between(self, tokens_per_s: float, low: float, low_miss: float, high: float, high_miss: float) -> float:
        middle = (low * high_miss - high * low_miss) / (high_miss - low_miss) if high_miss > low_miss else high
        for turn in range(_MOST_ITERATIONS):
            if high_miss <= 0.0 or high - low <= _CLOSE * high:
                break
            miss = middle - tokens_per_s * self.step(middle)
            if abs(miss) <= _CLOSE * middle:
                return middle
            if miss < 0.0:
                left, left_miss, low, low_miss = low, low_miss, middle, miss
            else:
                left, left_miss, high, high_miss = high, high_miss, middle, miss
            middle = _crossing(low, low_miss, high, high_miss, left, left_miss)
            # T jumps where an engine changes its kernels: halving finds a jump, a curve does not.
            if (turn > 1 and turn % 2) or not low < middle < high:
                middle = (low + high) / 2
        return high


def _crossing(low: float, low_miss: float, high: float, high_miss: float, third: float, third_miss: float) -> float:
    """Where the curve through three points crosses zero (inverse quadratic interpolation); outside where there is none."""
    if third_miss in (low_miss, high_miss):
        return low
    at_low = low * high_miss * third_miss / ((low_miss - high_miss) * (low_miss - third_miss))
    at_high = high * low_miss * third_miss / ((high_miss - low_miss) * (high_miss - third_miss))
    at_third = third * low_miss * high_miss / ((third_miss - low_miss) * (third_miss - high_miss))
    return at_low + at_high + at_third
