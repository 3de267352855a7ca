"""Intent + facts -> Verdict."""

from spanwise.decide.judge import decide
from spanwise.decide.types import PinnedLayout, Verdict

__all__ = ["PinnedLayout", "Verdict", "decide"]
