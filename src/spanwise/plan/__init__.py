"""plan: a verdict made concrete: layout, placement, engine arguments, settings, the state it expects; hashed."""

from spanwise.plan.compare import Difference, diff
from spanwise.plan.load import check_plan, load_plan, parse_plan
from spanwise.plan.make import plan
from spanwise.plan.types import Plan

__all__ = ["Difference", "Plan", "check_plan", "diff", "load_plan", "parse_plan", "plan"]
