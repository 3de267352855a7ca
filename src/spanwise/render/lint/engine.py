"""Judgement on engine arguments, wherever they stand: a command line or a Serve config."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from spanwise.render.engine_flags import Flag, flag_table
from spanwise.render.lint.finding import Severity

# add(code, severity, argument, message, fix); the caller knows file and line of an argument.
Add = Callable[[str, Severity, str, str, str], None]

# Arguments that hold a secret, and names of environment variables that do; their values are never repeated.
SECRET = frozenset({"hf_token", "api_key"})
SECRET_VARIABLE = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS|(API|ACCESS|PRIVATE|SECRET)_KEY)$", re.IGNORECASE
)


# No argument of vLLM has a value with more digits; longer ones cannot be multiplied and printed.
_MOST_DIGITS = 19


def value_problem(flag: Flag, value: Any) -> str:
    """What is wrong with a value for this flag, as a half sentence; empty when nothing is."""
    if isinstance(value, bool) and flag.kind in ("bool", "switch"):
        return ""
    text = str(value)
    wrong = _not_of_kind(flag.kind, text) or _not_in_range(flag, text)
    if not wrong:
        return ""
    return f"{text[:60]!r} is {wrong}"


def _not_of_kind(kind: str, text: str) -> str:
    if kind == "int":
        try:
            int(text)
        except ValueError:
            return "not a whole number"
        if len(text) > _MOST_DIGITS:
            return f"a number of more than {_MOST_DIGITS} digits"
    if kind == "float":
        try:
            number = float(text)
        except ValueError:
            return "not a number"
        return "" if math.isfinite(number) else "not a finite number"
    if kind == "human-int" and not _human_int(text):
        return "not a number of tokens (such as 8192, 32k or auto)"
    return ""


def _not_in_range(flag: Flag, text: str) -> str:
    if flag.choices and text not in {str(choice) for choice in flag.choices}:
        return f"not one of {', '.join(map(str, flag.choices[:12]))}"
    if flag.keyword == "gpu_memory_utilization" and not 0 < float(text) <= 1:
        return "not a share of the GPU's memory (above 0, at most 1)"
    if flag.keyword.endswith("_parallel_size") and int(text) < 1:
        return "less than 1"
    return ""


def _human_int(text: str) -> bool:
    if text.strip().lower() in ("auto", "-1"):
        return True
    number = text.strip().rstrip("kKmMgGtT")
    return number.replace(".", "", 1).isdigit() and number.isascii() and len(text.strip()) - len(number) <= 1


def judge(arguments: dict[str, Any], gpus_per_node: int | None, add: Add) -> None:
    """Findings on a whole set of arguments (Python names, values already checked one by one).

    Args:
        arguments: ``tensor_parallel_size`` and so on; text or numbers.
        gpus_per_node: GPUs of one host; None when unknown.
        add: Takes code, severity, the argument concerned, message, fix.
    """
    sizes = {
        name: size(arguments.get(name), 1)
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    }
    tensor = sizes["tensor_parallel_size"]
    if gpus_per_node and tensor > gpus_per_node:
        add(
            "tensor_parallel_exceeds_host",
            "warning",
            "tensor_parallel_size",
            f"tensor_parallel_size {tensor} on hosts of {gpus_per_node} GPUs: all-reduces cross the network",
            f"use at most {gpus_per_node} and let pipeline_parallel_size span hosts; "
            "`spanwise decide` says what either costs on your fabric",
        )
    if str(arguments.get("trust_remote_code", "")).lower() in ("true", "1"):
        add(
            "trust_remote_code",
            "warning",
            "trust_remote_code",
            "trust_remote_code runs Python from the model's repository with the engine's rights",
            "leave it out (vLLM has the common architectures built in), or pin `revision` to a commit that was read",
        )
    backend = arguments.get("distributed_executor_backend")
    ranks = tensor * sizes["pipeline_parallel_size"]
    if gpus_per_node and ranks > gpus_per_node and backend in ("mp", "uni") and size(arguments.get("nnodes"), 1) == 1:
        add(
            "executor_cannot_span_hosts",
            "error",
            "distributed_executor_backend",
            f"{ranks} ranks need more than one host of {gpus_per_node} GPUs, and {backend!r} starts them on one",
            "use `ray`, or `mp` with --nnodes and --node-rank on every host",
        )


def size(value: Any, default: int) -> int:
    """A parallel size as given; the default where it is absent, was a variable, or has more digits than any size."""
    text = str(value)
    try:
        return max(1, int(text)) if len(text) <= _MOST_DIGITS else default
    except ValueError:
        return default


def suggestion(name: str) -> str:
    """What an unknown argument may have meant, under the spelling that was used (flag or keyword)."""
    if name.startswith("-"):
        near = get_close_matches(name.replace("_", "-"), flag_table().by_name, n=1, cutoff=0.75)
    else:
        near = get_close_matches(name, flag_table().keywords, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`?" if near else "remove it, or check the version of vLLM that it was written for"
