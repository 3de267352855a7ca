"""vLLM's engine arguments as data, from its own parser (tools/vllm_flags.py): lint and render run without vLLM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from spanwise.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: Without dashes in front, as ``tensor-parallel-size``.
        kind: ``bool`` (has a ``--no-`` form), ``switch``, ``int``, ``human-int`` (``32k``), ``float``, ``json``,
        ``list``
            (one or more words), ``optional`` (none or one), ``str``.
        default: None where vLLM's is None or is no plain value.
        choices: The values allowed; empty where any is.
    """

    name: str
    kind: str
    default: bool | int | float | str | None = None
    choices: tuple[str | int, ...] = ()
    short: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    dest: str = ""

    @property
    def keyword(self) -> str:
        """The engine argument's Python name."""
        return self.dest or self.name.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagTable:
    """Every flag of one vLLM version. ``by_name`` knows aliases and short forms too, ``by_keyword`` Python's names."""

    version: str
    flags: dict[str, Flag]
    by_name: dict[str, Flag]
    by_keyword: dict[str, Flag]
    keywords: frozenset[str]


@cache
def flag_table() -> FlagTable:
    """The table that comes with spanwise."""
    document = json.loads(
        resources.files("spanwise.render").joinpath("data/vllm-flags.json").read_text(encoding="utf-8")
    )
    flags = {name: _flag(name, entry) for name, entry in document["flags"].items()}
    by_name = {f"--{name}": flag for name, flag in flags.items()}
    for flag in flags.values():
        by_name |= {f"--{alias}": flag for alias in flag.aliases} | dict.fromkeys(flag.short, flag)
        if flag.kind == "bool":
            by_name |= {f"--no-{name}": flag for name in (flag.name, *flag.aliases)}
    keywords = {flag.keyword for flag in flags.values()} - set(document["flags_without_keyword"])
    return FlagTable(
        version=document["vllm"],
        flags=flags,
        by_name=by_name,
        by_keyword={flag.keyword: flag for flag in flags.values()},
        keywords=frozenset(keywords | set(document["keywords_without_flag"])),
    )


def _flag(name: str, entry: dict[str, Any]) -> Flag:
    lists = {key: tuple(entry[key]) for key in ("choices", "short", "aliases") if key in entry}
    return Flag(name=name, kind=entry["kind"], default=entry.get("default"), dest=entry.get("dest", ""), **lists)


def to_flags(arguments: dict[str, Any]) -> list[tuple[str, ...]]:
    """Engine arguments as flags, one tuple of words each; those at vLLM's default are left out.

    Args:
        arguments: Under vLLM's names (``tensor_parallel_size``).

    Raises:
        PlanError: One that no flag sets.
    """
    by_keyword = flag_table().by_keyword
    words: list[tuple[str, ...]] = []
    for name, value in arguments.items():
        flag = by_keyword.get(name)
        if flag is None:
            raise PlanError(
                f"{name[:80]} has no flag on vLLM's command line",
                where="engine_args",
                remedy="leave it out, or render for Ray (--target ray)",
            )
        if value is None or value == flag.default:
            continue
        if flag.kind in ("bool", "switch"):
            words.append((f"--{flag.name}" if value else f"--no-{flag.name}",))
        elif isinstance(value, dict | list) and flag.kind != "list":
            words.append((f"--{flag.name}", json.dumps(value, sort_keys=True)))
        elif isinstance(value, list | tuple):
            words.append((f"--{flag.name}", *map(str, value)))
        else:
            words.append((f"--{flag.name}", str(value)))
    return words
