"""The judgement: equal, noise, or wrong.

Pipeline parallelism computes the same sums in the same order: its tokens must be equal. Tensor parallelism adds partial sums
in another order, in a 16-bit format: it may choose another token, but only where the two best candidates lay so close that
the engine's own noise could swap them. That noise is measured, not assumed: the reference answers the same prompts
again, alone and batched together, which changes the order of its sums as well.

After a first difference two greedy answers say nothing more about each other. So the reference's answers are also *scored* by
both layouts, token by token on the same text: there every position counts, and a layout that is a little wrong everywhere
moves its log-probabilities further than the engine's own noise does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

from spanwise.equivalence.types import Answer

Rule = Literal["exact", "noise"]

# The distance of two candidates changes by the movement of both: twice the movement of one.
_BOTH_MOVE = 2.0
# Scores of a right layout move about as far as the reference's own do (measured: 0.0 for pipelines, 0.7 to 1.3 times the noise for
# TP=2 and TP=3); a lost partial sum moves them tens of times as far. Three times leaves both sides room.
MOST_MOVEMENT = 3.0

Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What the reference engine does to itself.

    Args:
        logprob: Largest movement seen of one candidate's log-probability between repeats (nats).
        movement: Mean movement of a chosen token's log-probability between two ways of computing it (nats).
        resolution: Smallest non-zero distance between two candidates seen (nats): the step of the 16-bit logits.
        repeats: Number of answers compared.
        positions: Number of token positions compared.
    """

    logprob: float
    movement: float
    resolution: float
    repeats: int
    positions: int

    @property
    def swappable_gap(self) -> float:
        """Two candidates closer than this may change places by noise alone (nats)."""
        return max(_BOTH_MOVE * self.logprob, self.resolution)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One prompt, reference against candidate.

    Args:
        prompt_id: Which prompt.
        tokens: Positions compared.
        first_divergence: First position where the tokens differ; None when they are equal.
        gap: Distance of the reference's best two candidates there (nats); None when equal.
        logprob_distance: Largest movement of the chosen token's log-probability before the divergence (nats).
        verdict: ``equal``, ``noise`` (differs where noise could swap), or ``wrong``.
        reason: In one sentence.
    """

    prompt_id: str
    tokens: int
    first_divergence: int | None
    gap: float | None
    logprob_distance: float
    verdict: Literal["equal", "noise", "wrong"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All prompts together."""

    rule: Rule
    noise: Noise
    comparisons: tuple[Comparison, ...]
    movement: float | None = None
    """Mean movement of the scores on the reference's text (nats); None when nothing was scored."""

    @property
    def scores_hold(self) -> bool:
        """True when the scores moved no further than noise explains; also when nothing was scored."""
        return self.movement is None or self.movement <= MOST_MOVEMENT * max(
            self.noise.movement, self.noise.resolution / 100
        )

    @property
    def equivalent(self) -> bool:
        """True when no prompt is wrong and the scores hold."""
        return self.scores_hold and all(comparison.verdict != "wrong" for comparison in self.comparisons)

    @property
    def wrong(self) -> tuple[Comparison, ...]:
        """The prompts that differ by more than noise."""
        return tuple(comparison for comparison in self.comparisons if comparison.verdict == "wrong")


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading positions where ``a`` and ``b`` agree."""
    for position, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return position
    return min(len(a), len(b))


def movement(a: Scores, b: Scores) -> float:
    """Mean absolute difference of two sets of scores of the same texts (nats); 0 when there is nothing.

    Raises:
        ValueError: The sets are not of the same texts.
    """
    if a.keys() != b.keys() or any(len(a[key]) != len(b[key]) for key in a):
        raise ValueError("scores of different texts cannot be compared")
    return fmean([abs(x - y) for key in a for x, y in zip(a[key], b[key], strict=True)] or [0.0])


def calibrate(runs: Sequence[Sequence[Answer]], scored: Scores | None = None) -> Noise:
    """Noise of the reference from repeats of the same prompts.

    Args:
        runs: Each a full set of answers of the same engine to the same prompts; the first is the reference.
        scored: The reference's own scores of the first run's answers: computed in one pass instead of token by token.

    Raises:
        ValueError: Fewer than two runs: nothing to compare.
    """
    if len(runs) < 2:
        raise ValueError("noise needs at least one repeat")
    by_prompt = {answer.prompt_id: answer for answer in runs[0]}
    moved, repeats, positions = 0.0, 0, 0
    for run in runs[1:]:
        for answer in run:
            reference = by_prompt[answer.prompt_id]
            repeats += 1
            shared = common_prefix(reference.token_ids, answer.token_ids)
            # The position of a divergence still shares its context: its candidates are comparable too.
            for position in range(min(shared + 1, len(reference.token_ids), len(answer.token_ids))):
                positions += 1
                known = {candidate.token: candidate.logprob for candidate in reference.top[position]}
                for candidate in answer.top[position][:2]:
                    if candidate.token in known:
                        moved = max(moved, abs(candidate.logprob - known[candidate.token]))
    steps = [
        a.logprob - b.logprob
        for run in runs
        for answer in run
        for top in answer.top
        for a, b in pairwise(top)
        if a.logprob > b.logprob
    ]
    own = {answer.prompt_id: answer.logprobs for answer in runs[0]}
    return Noise(
        logprob=moved,
        movement=movement(own, scored) if scored is not None else 0.0,
        resolution=min(steps, default=0.0),
        repeats=repeats,
        positions=positions,
    )


def _compare(reference: Answer, candidate: Answer, rule: Rule, noise: Noise) -> Comparison:
    shared = common_prefix(reference.token_ids, candidate.token_ids)
    distance = max(
        (abs(a - b) for a, b in zip(reference.logprobs[:shared], candidate.logprobs[:shared], strict=True)), default=0.0
    )
    same = shared == len(reference.token_ids) == len(candidate.token_ids)

    def verdict(kind: Literal["equal", "noise", "wrong"], reason: str, gap: float | None = None) -> Comparison:
        return Comparison(
            prompt_id=reference.prompt_id,
            tokens=max(len(reference.token_ids), len(candidate.token_ids)),
            first_divergence=None if same else shared,
            gap=gap,
            logprob_distance=distance,
            verdict=kind,
            reason=reason,
        )

    if same:
        if candidate.finish_reason != reference.finish_reason:
            return verdict("wrong", f"finish reason {candidate.finish_reason!r} instead of {reference.finish_reason!r}")
        return verdict("equal", f"{shared} tokens equal")
    if shared >= min(len(reference.token_ids), len(candidate.token_ids)):
        return verdict("wrong", f"{len(candidate.token_ids)} tokens instead of {len(reference.token_ids)}")
    gap = reference.gap(shared)
    if rule == "exact":
        return verdict("wrong", f"token {shared} differs, and this layout must match exactly", gap)
    chosen = candidate.top[shared][0].token if candidate.top[shared] else ""
    if chosen not in {known.token for known in reference.top[shared]}:
        return verdict("wrong", f"token {shared}: {chosen!r} is not among the reference's best candidates", gap)
    if gap > noise.swappable_gap:
        return verdict(
            "wrong",
            f"token {shared} differs where the best two lie {gap:.3f} apart; noise swaps up to {noise.swappable_gap:.3f}",
            gap,
        )
    return verdict(
        "noise",
        f"token {shared} differs where the best two lie {gap:.3f} apart, within noise {noise.swappable_gap:.3f}",
        gap,
    )


def judge(
    reference: Sequence[Answer],
    candidate: Sequence[Answer],
    *,
    rule: Rule,
    noise: Noise,
    reference_scores: Scores | None = None,
    candidate_scores: Scores | None = None,
) -> Judgement:
    """Compare two sets of answers to the same prompts.

    Args:
        reference: One rank's answers.
        candidate: The split layout's answers; a prompt without an answer is wrong.
        rule: ``exact`` for pipeline parallelism, ``noise`` where sums are added in another order.
        noise: From `calibrate`.
        reference_scores: The reference's scores of its own answers.
        candidate_scores: The split layout's scores of the same texts.
    """
    moved = (
        movement(reference_scores, candidate_scores)
        if reference_scores is not None and candidate_scores is not None
        else None
    )
    found = {answer.prompt_id: answer for answer in candidate}
    comparisons = []
    for answer in reference:
        other = found.get(answer.prompt_id)
        if other is None:
            comparisons.append(
                Comparison(
                    prompt_id=answer.prompt_id,
                    tokens=0,
                    first_divergence=0,
                    gap=None,
                    logprob_distance=0.0,
                    verdict="wrong",
                    reason="no answer",
                )
            )
        else:
            comparisons.append(_compare(answer, other, rule, noise))
    return Judgement(rule=rule, noise=noise, comparisons=tuple(comparisons), movement=moved)
