"""Layouts judged: does each hold the model, carry the load and keep the objectives, and with how many replicas."""

from __future__ import annotations

import math
from dataclasses import replace as dataclass_replace
from typing import TYPE_CHECKING

from spanwise.decide.balance import uneven
from spanwise.decide.question import (
    BATCHED_SMALL,
    Candidate,
    Question,
    default_batched_tokens,
    default_max_sequences,
    layouts,
)
from spanwise.estimate.layout import Layout, layer_runs
from spanwise.estimate.memory import Memory, StageMemory, replica_memory, stage_memory
from spanwise.estimate.rates import Rates, rates
from spanwise.estimate.serving import HEADROOM, Correction, Load, Service, observe, pace_of, served
from spanwise.estimate.step import Costs, costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwise.estimate.layout import Runs
    from spanwise.estimate.pace import Pace

# How often a choice of the formulas may be refuted by the replay before the last one stands.
_MOST_CONFIRMATIONS = 8
# Missing by up to this much more counts as equal, for the sake of fewer replicas.
_ALMOST = 1.05


def _as_good(fewer: Candidate, full: Candidate) -> bool:
    """True where fewer replicas achieve what all of them do, or miss it by hardly more."""
    return (fewer.tier, fewer.badness) <= (full.tier, full.badness * _ALMOST)


class Judge:
    """Judges layouts for one question; keeps what does not change from layout to layout."""

    def __init__(self, question: Question, like: Judge | None = None) -> None:
        """Judge ``question``; ``like`` lends what it cut already, where the model and its precision are the same."""
        self.question = question
        self.rates: Rates = rates(question.gpu, question.fabric, question.weights, "expected")
        self._weights_bytes = question.model.weights_bytes(question.weights)
        shares = like is not None and (like.question.model, like.question.weights) == (question.model, question.weights)
        self._runs: Runs = like._runs if like and shares else layer_runs(question.model)
        self._cuts: dict[Layout, tuple[Costs, tuple[StageMemory, ...]]] = like._cuts if like and shares else {}
        self._made: dict[tuple[Layout, int], tuple[Costs, Memory]] = {}
        self._confirmed: dict[tuple[Layout, int, int], Candidate] = {}
        # Steps are timed once for all questions about the same model on GPUs and links that are as fast.
        self._paces: dict[tuple[Layout, int, int, int], Pace] = (
            like._paces if like and shares and like.rates == self.rates else {}
        )
        # Candidates (a layout with a number of replicas) judged so far, memory alone included.
        self.judged = 0
        self.max_sequences = default_max_sequences(question.gpu)
        self.correction: Correction = like.correction if like else Correction()

    def best_confirmed(self) -> Candidate | None:
        """The best layout by the replay's figures.

        What the formulas find is replayed once. What the replay found corrects the formulas from then on, for this load. Where that changes
        what the layout achieves, or lets others keep objectives that they missed, the search is repeated until it finds what was replayed.
        """
        for _ in range(_MOST_CONFIRMATIONS):
            found = self.best()
            if found is None or found.service is None:
                return found
            if (found.layout, found.replicas, found.batched_tokens) in self._confirmed:
                return found
            confirmed = self.confirm(found)
            if confirmed.tier <= found.tier and not self._others_gain():
                return confirmed
        return min(self._confirmed.values(), key=lambda candidate: candidate.key)

    def _others_gain(self) -> bool:
        """True where the last replay found a time with an objective shorter than the formula had it."""
        goals, factors = self.question.objectives, dict(self.correction.factors)
        first = "steady_ttft_p95_s" if "steady_ttft_p95_s" in factors else "ttft_p95_s"
        watched = ((first, goals.ttft_p95_ms), ("tpot_p95_s", goals.tpot_p95_ms))
        return any(goal is not None and factors.get(name, 1.0) < 1.0 for name, goal in watched)

    def confirm(self, candidate: Candidate) -> Candidate:
        """The candidate with its service replayed request by request, and the tier that follows."""
        key = (candidate.layout, candidate.replicas, candidate.batched_tokens)
        if candidate.service is None:
            return candidate
        if key not in self._confirmed:
            cut, memory = self.cut(candidate.layout, candidate.batched_tokens)
            formula = self._formula(cut, memory, candidate.batched_tokens, candidate.replicas)
            service = observe(
                self.rates,
                cut,
                self._load(candidate.replicas),
                kv_capacity_tokens=memory.kv_capacity_tokens,
                batched_tokens=candidate.batched_tokens,
                max_sequences=self.max_sequences,
            )
            self.correction = Correction.between(formula, service)
            tier, badness = self._tier(service, candidate.replicas)
            self._confirmed[key] = dataclass_replace(candidate, service=service, tier=tier, badness=badness)
        return self._confirmed[key]

    def plainly(self, candidate: Candidate) -> Candidate:
        """The candidate by the formula, also where it was replayed."""
        cut, memory = self.cut(candidate.layout, candidate.batched_tokens)
        service = self.serve(cut, memory, candidate.batched_tokens, candidate.replicas)
        tier, badness = self._tier(service, candidate.replicas)
        return dataclass_replace(candidate, service=service, tier=tier, badness=badness)

    def confirmed_or_judged(self, layout: Layout, replicas: int) -> Candidate:
        """A layout exactly as given, with exactly ``replicas``: as replayed, where it was."""
        return self._of_budgets(layout, replicas, None)

    def best(self) -> Candidate | None:
        """The best layout, or None where no layout holds the model. Stops as soon as nothing better can follow."""
        best: Candidate | None = None
        for layout in layouts(self.question):
            # Later layouts only get larger: once one does everything, a larger replica can win only with as few GPUs.
            if best is not None and best.tier == 0:
                if layout.nodes > 1 and best.layout.nodes == 1:
                    break
                if layout.world_size > best.gpus:
                    continue
            if not self.could_hold(layout):
                continue
            if best is not None and best.tier == 0 and self._least_gpus(layout) > best.gpus:
                continue
            candidate = self.judge(layout, beat=best)
            if candidate.tier < 3 and (best is None or candidate.key < best.key):
                best = candidate
        return best

    def _least_gpus(self, layout: Layout) -> int:
        """GPUs below which this layout certainly does not carry the load; cheap."""
        return layout.world_size * self.fewest(layout)

    def fewest(self, layout: Layout) -> int:
        """Replicas below which the load is certainly not carried, whatever the token budget; 1 where nothing is held at all."""
        large = default_batched_tokens(self.question.gpu)
        _, memory = self.cut(layout, large)
        if not self._holds(memory):
            return self._fewest(layout, BATCHED_SMALL) if self._holds(self.cut(layout, BATCHED_SMALL)[1]) else 1
        found = self._fewest(layout, large)
        if found == 1 or large == BATCHED_SMALL:
            return found
        return min(found, self._fewest(layout, BATCHED_SMALL)) if self._kv_limits(layout) else found

    def _kv_limits(self, layout: Layout) -> bool:
        """True where the KV cache is what limits: only there can a smaller token budget carry more."""
        slots = []
        for tokens in (BATCHED_SMALL, default_batched_tokens(self.question.gpu)):
            cut, memory = self.cut(layout, tokens)
            slots.append(self._slots(self._pace(cut, tokens), memory))
        return slots[0] > slots[1]

    def _holds(self, memory: Memory) -> bool:
        return memory.fits and memory.kv_capacity_tokens >= self.question.max_model_len

    def requests_per_s(self, candidate: Candidate) -> float:
        """Requests per second of all replicas together."""
        return 0.0 if candidate.service is None else candidate.service.requests_per_s * self.busy(candidate.replicas)

    def busy(self, replicas: int) -> float:
        """How many replicas are as busy as the fullest, which is the one that is judged: a closed loop may not divide evenly."""
        loop = self.question.workload.concurrency
        return float(replicas) if loop is None else loop / -(-loop // replicas)

    def _fewest(self, layout: Layout, batched_tokens: int) -> int:
        """Replicas below which the load is certainly not carried."""
        work = self.question.workload
        if work.request_rate_per_s is None:
            return 1
        cut, memory = self.cut(layout, batched_tokens)
        pace = self._pace(cut, batched_tokens)
        top = pace.rate(self._slots(pace, memory))
        return max(1, math.ceil(work.request_rate_per_s / (HEADROOM * top) - 1e-9))

    def could_hold(self, layout: Layout) -> bool:
        """False where all ranks together cannot hold one copy of the weights: cheap, and never wrongly false."""
        usable = self.question.gpu.memory.value * self.question.utilization
        return layout.world_size * usable >= self._weights_bytes

    def judge(self, layout: Layout, replicas: int | None = None, *, beat: Candidate | None = None) -> Candidate:
        """One layout with the fewest replicas that do, or with exactly ``replicas``.

        Where it cannot come out better than ``beat``, its replicas are not counted out to the fewest. A pipeline whose fullest stage has no
        room is judged with its layers split unevenly, where that makes room.
        """
        found = self._of_budgets(layout, replicas, beat)
        if (
            found.tier < 3
            or layout.partition is not None
            or layout.pipeline_parallel_size == 1
            or not self._may_hold(found)
        ):
            return found
        for other in uneven(layout, self.question.model.layers):
            relieved = self._of_budgets(other, replicas, beat)
            if relieved.tier < 3:
                return relieved
        return found

    def _may_hold(self, candidate: Candidate) -> bool:
        """True where all stages together have room for what the fullest has not: cheap, and never wrongly false."""
        if self._holds(candidate.memory):
            return False
        _, memory = self.cut(candidate.layout, BATCHED_SMALL)
        length = self.question.max_model_len
        used = sum(stage.weights + length * stage.kv_per_token for stage in memory.stages)
        return used <= len(memory.stages) * (memory.usable - memory.reserve - memory.activations)

    def _of_budgets(self, layout: Layout, replicas: int | None, beat: Candidate | None) -> Candidate:
        tokens = default_batched_tokens(self.question.gpu)
        first = self._judge(layout, replicas, tokens, beat)
        if tokens == BATCHED_SMALL:
            return first
        carried = first.service is not None and first.service.sustained
        if carried and not self._kv_limits(layout):
            return first
        # Fewer tokens per step leave more memory to the KV cache: more may be carried, or the same by fewer replicas.
        second = self._judge(layout, replicas, BATCHED_SMALL, beat)
        fewer = second.replicas < first.replicas and _as_good(second, first)
        return second if second.tier < first.tier or (second.tier == first.tier and fewer) else first

    def cut(self, layout: Layout, batched_tokens: int) -> tuple[Costs, Memory]:
        """The model cut by ``layout``, and its memory."""
        made = self._made.get((layout, batched_tokens))
        if made is None:
            question = self.question
            cut = self._cuts.get(layout)
            if cut is None:
                cut = (
                    costs(question.model, question.weights, layout, self._runs),
                    stage_memory(question.model, question.weights, layout, self._runs),
                )
                self._cuts[layout] = cut
            memory = replica_memory(
                question.model,
                question.weights,
                layout,
                gpu_memory_bytes=question.gpu.memory.value,
                utilization=question.utilization,
                batched_tokens=batched_tokens,
                max_sequences=self.max_sequences,
                cuda=question.gpu.cuda,
                stages=cut[1],
            )
            made = self._made[layout, batched_tokens] = (cut[0], memory)
        return made

    def _judge(
        self, layout: Layout, replicas: int | None, batched_tokens: int, beat: Candidate | None = None
    ) -> Candidate:
        cut, memory = self.cut(layout, batched_tokens)
        room = layout.replicas_on(self.question.nodes) - self.question.spares
        fixed = replicas is not None
        most = replicas if replicas is not None else room
        if most < 1 or not self._holds(memory):
            self.judged += 1
            return Candidate(layout, max(1, most), memory, batched_tokens, None, 3, 0.0)

        def at(count: int) -> Candidate:
            replayed = self._confirmed.get((layout, count, batched_tokens))
            if replayed is not None:
                return replayed
            self.judged += 1
            service = self.serve(cut, memory, batched_tokens, count)
            tier, badness = self._tier(service, count)
            return Candidate(layout, count, memory, batched_tokens, service, tier, badness)

        if fixed or most == 1:
            return at(most)
        low = self._fewest(layout, batched_tokens)
        if low >= most:
            return self._as_few(at(most), at)
        first = at(low)
        if first.tier == 0:
            return first
        if beat is not None and beat.tier == 0:
            # Only with as few GPUs: more of them would not win.
            most = max(low, min(most, beat.gpus // layout.world_size))
        full = at(most)
        if beat is not None and (full.tier, full.badness) > (beat.tier, beat.badness):
            return full
        # More replicas never do worse, so the fewest that do as well are found by halving; fewer than the load needs are not tried.
        high, found = most, full
        if _as_good(first, full):
            return first
        while low < high:
            middle = (low + high) // 2
            candidate = at(middle)
            if _as_good(candidate, full):
                high, found = middle, candidate
            else:
                low = middle + 1
        return found

    @staticmethod
    def _as_few(full: Candidate, at: Callable[[int], Candidate]) -> Candidate:
        """Where even all replicas do not carry the load: the fewest that come within a twentieth of that."""
        if full.tier != 2 or full.replicas == 1:
            return full
        fewer = at(max(1, math.ceil(full.replicas / _ALMOST)))
        return fewer if _as_good(fewer, full) else full

    def serve(
        self,
        cut: Costs,
        memory: Memory,
        batched_tokens: int,
        replicas: int,
        case: Rates | None = None,
    ) -> Service:
        """One of ``replicas`` replicas under its share of the load, by formula, corrected by what was replayed."""
        return self.correction.of(self._formula(cut, memory, batched_tokens, replicas, case))

    def _formula(
        self, cut: Costs, memory: Memory, batched_tokens: int, replicas: int, case: Rates | None = None
    ) -> Service:
        load = self._load(replicas)
        pace = self._pace(cut, batched_tokens) if case is None else pace_of(case, cut, load, batched_tokens)
        return served(pace, load, self._slots(pace, memory))

    def _pace(self, cut: Costs, batched_tokens: int) -> Pace:
        work = self.question.workload
        key = (cut.layout, batched_tokens, work.input_tokens, work.output_tokens)
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = pace_of(self.rates, cut, self._load(1), batched_tokens)
        return pace

    def _slots(self, pace: Pace, memory: Memory) -> float:
        return pace.slots(kv_capacity_tokens=memory.kv_capacity_tokens, max_sequences=self.max_sequences)

    def _load(self, replicas: int) -> Load:
        work = self.question.workload
        return Load(
            input_tokens=work.input_tokens,
            output_tokens=work.output_tokens,
            rate_per_s=None if work.request_rate_per_s is None else work.request_rate_per_s / replicas,
            concurrency=None if work.concurrency is None else max(1.0, -(-work.concurrency // replicas)),
        )

    def _tier(self, service: Service, replicas: int) -> tuple[int, float]:
        """Tier and how far off: predicted over allowed for objectives, wanted over possible for load."""
        work, goals = self.question.workload, self.question.objectives
        if not service.sustained or service.kept_ttft_p95_s is None:
            wanted = work.request_rate_per_s
            top = service.max_requests_per_s * replicas
            return 2, round(1 / top if wanted else service.ttft_s or 0.0, 9)
        over = 1.0
        if goals.ttft_p95_ms is not None:
            over = max(over, service.kept_ttft_p95_s * 1e3 / goals.ttft_p95_ms)
        if goals.tpot_p95_ms is not None:
            over = max(over, service.tpot_p95_s * 1e3 / goals.tpot_p95_ms)
        return (0, 0.0) if over <= 1.0 else (1, round(over, 6))
