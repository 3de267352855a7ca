"""One greedy answer, token by token, with the candidates the engine considered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token and its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an engine said to one prompt, greedily.

    Args:
        prompt_id: Which prompt.
        token_ids: Chosen tokens, in order.
        logprobs: Natural-log probability of each chosen token; same length.
        top: For each position the best candidates, best first (at least two); same length.
        text: The decoded answer.
        finish_reason: As the engine gave it.
        prompt_token_ids: The prompt as the engine saw it; empty where the engine did not say.
    """

    prompt_id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: tuple[tuple[Candidate, ...], ...]
    text: str
    finish_reason: str
    prompt_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.token_ids) == len(self.logprobs) == len(self.top):
            raise ValueError("token_ids, logprobs and top must have the same length")

    def gap(self, position: int) -> float:
        """Log-probability distance of the best two candidates at ``position``; infinite where only one is known."""
        best = sorted((candidate.logprob for candidate in self.top[position]), reverse=True)
        return best[0] - best[1] if len(best) > 1 else float("inf")
