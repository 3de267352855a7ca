"""The ten prompts of the equivalence check: different lengths, subjects and languages; one is longer than 512 tokens."""

from __future__ import annotations

_SUBJECTS = (
    "river",
    "harbour",
    "market",
    "library",
    "bridge",
    "station",
    "garden",
    "tower",
    "mill",
    "school",
    "chapel",
    "theatre",
)
_ACTS = (
    "was measured by the surveyors in the spring",
    "kept its old name through three governments",
    "stood empty for eleven winters before anybody asked why",
    "paid its debts in salt, wool and copper",
)


def _chronicle() -> str:
    """A chronicle of 48 sentences, about 700 tokens, without a repeated sentence."""
    years = iter(range(1702, 1900, 4))
    return " ".join(f"In {next(years)} the {subject} {act}." for act in _ACTS for subject in _SUBJECTS)


PROMPTS: dict[str, str] = {
    "capital": "The capital of France is",
    "history": "The history of the city of Rome began when",
    "arithmetic": "To add two fractions, first",
    "code": "def fibonacci(n):\n    ",
    "list": "Five fruits that grow on trees are:\n1.",
    "story": "Once upon a time, in a village at the edge of a forest, there lived an old clockmaker who",
    "science": "Water boils at a lower temperature on a mountain because",
    "letter": "Dear Sir or Madam,\n\nI am writing to",
    "french": "Bonjour, je m'appelle Marie et",
    "chronicle": _chronicle() + " The last entry of the chronicle says that",
}
OUTPUT_TOKENS = 64
# "What is the capital of France?" alone leaves this small model's first two candidates 0.12 nats apart: noise would decide. Asked like
# this they lie 1.7 nats apart.
QUESTION = "What is the capital of France? Answer in one sentence."
RIGHT_ANSWER = "Paris"
