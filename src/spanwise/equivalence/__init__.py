"""Do two layouts of one model say the same? Pure: answers in, judgement out."""

from spanwise.equivalence.judge import Comparison, Judgement, Noise, calibrate, judge
from spanwise.equivalence.types import Answer, Candidate

__all__ = ["Answer", "Candidate", "Comparison", "Judgement", "Noise", "calibrate", "judge"]
