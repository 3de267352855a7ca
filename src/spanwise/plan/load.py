"""Read a plan back: from any bytes whatever, with one clear message for everything that is no plan."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from spanwise.errors import InputError, PlanError
from spanwise.plan.types import SCHEMA, Plan
from spanwise.reading import read_file, shown

_MAX_BYTES = 64 * 1024 * 1024  # a plan of 100,000 ranks has about 12 MiB
_MAX_DEPTH = 48
_AGAIN = "make it again with `spanwise plan INTENT.yaml -o plan.json`"

# Names end up in file names, labels and shell scripts: the same narrow set for all of them.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON file that holds one object, strictly: no key twice, no NaN or Infinity, no number beyond a float.

    Raises:
        InputError: Not readable or not that; the message names the file and the place.
    """
    return parse_json(read_file(path, most_bytes=_MAX_BYTES), shown(path))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """As :func:`read_json`, from bytes."""
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise InputError("is nested too deeply", where=where, remedy="is this the file?") from None
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=where, remedy="is this the file?") from None
    except json.JSONDecodeError as error:
        what = (
            "is empty" if not data.strip() else f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        )
        raise InputError(what, where=where, remedy="write the file again; do not edit it by hand") from None
    except ValueError as error:
        raise InputError(
            f"is not usable JSON: {str(error)[:200]}", where=where, remedy="write the file again"
        ) from None
    if not isinstance(document, dict):
        raise InputError("holds no JSON object", where=where, remedy="is this the file?")
    if _too_deep(document):
        raise InputError("is nested too deeply", where=where, remedy="is this the file?")
    return document


def _too_deep(document: Any) -> bool:
    """True where lists and mappings stand in each other deeper than any file of ours."""
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _whole(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"{text[:24]}... is no number that belongs here")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return result


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def load_plan(path: str | Path) -> Plan:
    """Read the plan at ``path``, and check that nobody edited it.

    Raises:
        PlanError: Not readable, no plan, a plan of another schema, one that contradicts itself, or one that was edited.
    """
    try:
        document = read_json(path)
    except InputError as error:
        raise PlanError(error.what, where=error.where, remedy=error.remedy) from None
    return parse_plan(document, shown(path))


def parse_plan(document: dict[str, Any], where: str = "plan") -> Plan:
    """Validate a plan's JSON object; ``where`` names its origin in messages.

    Raises:
        PlanError: As in :func:`load_plan`.
    """
    schema = document.get("schema")
    if schema != SCHEMA:
        known = isinstance(schema, str) and schema.startswith("spanwise.")
        what = f"schema is {str(schema)[:80]!r}, not {SCHEMA!r}" if known else f"is no plan (no schema {SCHEMA!r})"
        raise PlanError(what, where=where, remedy=_AGAIN)
    try:
        result = Plan.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])[:200]
        raise PlanError(f"{key}: {first['msg']}"[:400], where=where, remedy=_AGAIN) from None
    except RecursionError:
        raise PlanError("is nested too deeply", where=where, remedy=_AGAIN) from None
    computed = result.computed_hash()
    if result.hash != computed:
        raise PlanError(
            f"this plan was edited after it was made: its hash says {result.hash[:64]!r}, its content has {computed!r}",
            where=where,
            remedy="plan again instead of editing: put the change into the intent, or give "
            "--tensor-parallel-size, --pipeline-parallel-size or --replicas to `spanwise plan`",
        )
    check_plan(result, where)
    return result


def check_plan(plan: Plan, where: str = "plan") -> None:
    """A plan must agree with itself, whoever wrote it.

    Raises:
        PlanError: Names that cannot be names; ranks, stages or engine arguments that contradict the layout; a host
        with more
            ranks than GPUs.
    """
    for what, name in _names(plan):
        if not _NAME.fullmatch(name):
            _refuse(f"{what} {name[:80]!r} is no name (letters, digits, '.', '_' and '-')", where)
    for setting in plan.environment:
        if not _VARIABLE.fullmatch(setting.name) or not (setting.value + setting.reason).isprintable():
            _refuse(f"environment: {setting.name[:80]!r} or its value cannot be set", where)
    for text in (plan.model.source, plan.model.served_name, plan.expected.gpu, plan.spanwise_version, plan.hash):
        if not text.isprintable():
            _refuse(f"{text[:80]!r} has characters that cannot be printed", where)
    _check_ranks(plan, where)
    for key in ("tensor_parallel_size", "pipeline_parallel_size"):
        if plan.engine_args.get(key) != getattr(plan.layout, key):
            _refuse(f"engine_args.{key} is {str(plan.engine_args.get(key))[:40]}, the layout says otherwise", where)
    if plan.engine_args.get("model") != plan.model.source:
        _refuse("engine_args.model is not model.source", where)


def _names(plan: Plan) -> list[tuple[str, str]]:
    names = [("name", plan.name)]
    for gang in plan.gangs:
        names.append(("gang", gang.id))
        names += [("host", host) for host in gang.hosts]
        names += [("domain", domain) for domain in dict.fromkeys(rank.domain for rank in gang.ranks)]
    return names


def _check_ranks(plan: Plan, where: str) -> None:
    layout = plan.layout
    tensor, stages = layout.tensor_parallel_size, layout.pipeline_parallel_size
    if len(plan.gangs) != layout.replicas:
        _refuse(f"{len(plan.gangs)} gangs for {layout.replicas} replicas", where)
    if len({gang.id for gang in plan.gangs}) != len(plan.gangs):
        _refuse("two gangs have one id", where)
    if [stage.index for stage in plan.stages] != list(range(min(stages, len(plan.stages) + 1))):
        _refuse(f"{len(plan.stages)} stages for pipeline_parallel_size {stages}", where)
    used: dict[str, int] = {}
    for gang in plan.gangs:
        if len(gang.ranks) != layout.world_size:
            _refuse(f"gang {gang.id} has {len(gang.ranks)} ranks, the layout {layout.world_size}", where)
        for index, rank in enumerate(gang.ranks):
            if (rank.rank, rank.stage, rank.tensor_rank) != (index, index // tensor, index % tensor):
                _refuse(f"gang {gang.id}: rank {index} is out of order", where)
            used[rank.host] = used.get(rank.host, 0) + 1
    for host, count in used.items():
        if count > plan.expected.gpus_per_node:
            _refuse(f"{host} has {plan.expected.gpus_per_node} GPUs and {count} ranks", where)
        if host not in plan.expected.hosts:
            _refuse(f"{host} is not among expected.hosts", where)


def _refuse(what: str, where: str) -> NoReturn:
    raise PlanError(what, where=where, remedy=_AGAIN)
