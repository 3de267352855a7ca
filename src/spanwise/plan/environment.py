"""Which environment variables a plan or a stranger's manifest may set: those that tune the network, and nothing that loads or writes.

An environment variable can load a library (``LD_PRELOAD``), run a module (``PYTHONPATH``), name a plugin that the collective library
opens (``NCCL_NET_PLUGIN``, ``FI_PROVIDER_PATH``), run a command (``UCX_GDB_COMMAND``) or write a file (``NCCL_DEBUG_FILE``). So names are
allowed, never forbidden one by one: four families, without the members that take a path, a library or a command.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spanwise.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanwise.plan.types import Plan

FAMILIES = ("NCCL_", "GLOO_", "UCX_", "FI_")
# What `plan` itself writes beside those families.
_OURS = {"VLLM_PP_LAYER_PARTITION": re.compile(r"\d{1,4}(,\d{1,4}){0,255}")}
_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,126}[A-Z0-9]")
# A word of a name that says: a path, a library, a command. NCCL_CONF_FILE, UCX_MODULE_DIR, FI_PROVIDER_PATH, UCX_ERROR_MAIL_TO, ...
_REACHES_OUT = frozenset(
    {
        "PLUGIN", "PLUGINS", "PATH", "PATHS", "FILE", "FILES", "DIR", "DIRS", "DIRECTORY", "MODULE", "MODULES", "COMMAND", "CMD", "HOOK",
        "HOOKS", "LIB", "LIBS", "LIBRARY", "PRELOAD", "LOAD", "LOADER", "MAIL", "DEST", "EXEC", "SCRIPT", "CONF", "CONFIG", "HANDLE",
    }
)  # fmt: skip
_LONGEST_VALUE = 1024
ALLOWED = f"{', '.join(f'{family}*' for family in FAMILIES)} (none that names a file, a plugin or a command) and {', '.join(_OURS)}"


def refusal(name: str, value: str) -> str:
    """Why ``name`` may not be set to ``value``, as a half sentence that never repeats the value; empty where it may."""
    if name in _OURS:
        return "" if _OURS[name].fullmatch(value) else "its value is not of the form that it has"
    if not _NAME.fullmatch(name) or not name.startswith(FAMILIES):
        return "it is not on the list of variables that may be set"
    if set(name.split("_")) & _REACHES_OUT:
        return "it names a file, a plugin or a command"
    if len(value) > _LONGEST_VALUE or not value.isprintable():
        return "its value is too long, or has characters that cannot be printed"
    return ""


def check_environment(plans: Iterable[Plan], where: str) -> None:
    """Refuse plans that set anything else; whoever wrote a plan can seal it again.

    Raises:
        PlanError: Names the plan and the variable, not its value.
    """
    for plan in plans:
        for setting in plan.environment:
            if reason := refusal(setting.name, setting.value):
                raise PlanError(
                    f"plan {plan.name} sets {setting.name[:80]}: {reason}",
                    where=where,
                    remedy=f"leave it out; a plan may set {ALLOWED}",
                )
