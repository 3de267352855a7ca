"""The shape of KubeRay's objects, and a check of a document against it as the API server would do it.

The shapes are compact forms of KubeRay's CRDs; :mod:`spanwise.render.lint.compact` makes them and says what their short
keys mean.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.documents import Path

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "int32": (int,),
    "int64": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "int-or-string": (int, str),
}
_WHOLE = {"integer": 2**63, "int32": 2**31, "int64": 2**63, "int-or-string": 2**63}
# Patterns are for names and quantities; nothing that they describe is longer.
_LONGEST_MATCHED = 500
# Where a value may be a secret: `value` is what an environment variable holds.
_SECRET = re.compile(r"^value$|password|token|secret|credential|api_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Compact schemas by kind; ``version`` is KubeRay's (or says that the user gave the CRD)."""

    version: str
    kinds: dict[str, str]
    shapes: dict[str, dict[str, Any]]

    def shape(self, reference: Any) -> dict[str, Any]:
        """A shape, whether written in place or by reference."""
        return self.shapes[reference] if isinstance(reference, str) else reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One place where a document departs from the schema."""

    code: str
    path: Path
    message: str
    fix: str


@cache
def shipped() -> Fields:
    """The compact schemas that come with spanwise."""
    text = resources.files("spanwise.render").joinpath("data/kuberay-fields.json").read_text(encoding="utf-8")
    return Fields(**json.loads(text))


def mismatches(value: Any, fields: Fields, reference: Any, path: Path) -> Iterator[Mismatch]:
    """Where ``value`` departs from the shape, in document order. Depth is bounded by the reader (100)."""
    shape = fields.shape(reference)
    kind = shape["t"]
    if kind == "any":
        return
    if value is None:
        # In a mapping the API server drops nulls before it validates; in a list they stay, and are refused.
        if path and isinstance(path[-1], int):
            yield _wrong_type(value, kind, path)
        return
    if not _fits(value, kind):
        yield _wrong_type(value, kind, path)
        return
    yield from _bounds(value, shape, path)
    if isinstance(value, dict):
        yield from _mapping(value, fields, shape, path)
    elif isinstance(value, list):
        yield from _repeated(value, shape, path)
        if "i" in shape:
            for index, item in enumerate(value):
                yield from mismatches(item, fields, shape["i"], (*path, index))


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and kind in _WHOLE:  # `2.0` becomes `2` on its way into JSON
        return value.is_integer() and abs(value) < 2**53
    return isinstance(value, _TYPES[kind])


def _mapping(value: dict[str, Any], fields: Fields, shape: dict[str, Any], path: Path) -> Iterator[Mismatch]:
    properties = shape.get("p", {})
    for key in shape.get("r", []):
        if value.get(key) is None:
            yield Mismatch(
                code="field_missing",
                path=(*path, key),
                message=f"{key} is required here and missing",
                fix=f"add `{key}:`",
            )
    for key, child in value.items():
        if key in properties:
            yield from mismatches(child, fields, properties[key], (*path, key))
        elif "a" in shape:
            yield from mismatches(child, fields, shape["a"], (*path, key))
        else:
            near = get_close_matches(key, properties, n=1, cutoff=0.7) if len(key) < 100 else []
            allowed = f"allowed: {_some(sorted(properties))}" if properties else "no field is allowed here"
            yield Mismatch(
                code="field_unknown",
                path=(*path, key),
                message=f"{key[:80]!r} is no field here, in {fields.version}; the API server refuses or drops it",
                fix=f"did you mean `{near[0]}`?" if near else f"remove it; {allowed}",
            )


def _repeated(value: list[Any], shape: dict[str, Any], path: Path) -> Iterator[Mismatch]:
    """Items that the API server takes for the same one: equal keys (``k``), or equal as a whole (``u``)."""
    keys: dict[str, Any] | None = shape.get("k")
    if keys is None and "u" not in shape:
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        if keys is None:
            identity = item
        elif isinstance(item, dict):
            given = {key: default if item.get(key) is None else item[key] for key, default in keys.items()}
            identity = {key: part for key, part in given.items() if part is not None}
        else:
            continue
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            shown = " ".join(f"{key} {str(part)[:60]!r}" for key, part in identity.items()) if keys else str(item)[:60]
            yield Mismatch(
                code="item_repeated",
                path=(*path, index),
                message=f"a second item with {shown or 'the same (empty) key'} in {path[-1]}; the API server refuses that",
                fix="remove one of them",
            )
        seen.add(text)


def _bounds(value: Any, shape: dict[str, Any], path: Path) -> Iterator[Mismatch]:
    limit = _WHOLE.get(shape["t"])
    wrong = ""
    if "e" in shape and value not in shape["e"]:
        wrong = f"allowed: {', '.join(map(str, shape['e']))}"
    elif "n" in shape and value < shape["n"]:
        wrong = f"at least {shape['n']}"
    elif "x" in shape and value > shape["x"]:
        wrong = f"at most {shape['x']}"
    elif limit is not None and isinstance(value, int | float) and not -limit <= value < limit:
        # The API server lets some of these through; KubeRay's operator cannot decode them, and stops at that object.
        wrong = f"a number from {-limit} to {limit - 1}"
    elif "l" in shape and len(value) > shape["l"]:
        wrong = f"at most {shape['l']} characters"
    elif "s" in shape and len(value) < shape["s"]:
        wrong = f"at least {shape['s']} characters"
    elif "f" in shape and isinstance(value, str) and not _matches(shape["f"], value):
        wrong = f"must match {shape['f']}"
    if wrong:
        yield Mismatch(
            code="value_not_allowed",
            path=path,
            message=f"{_shown(value, path) or 'the value'} is not allowed here",
            fix=f"use {wrong}",
        )


@cache
def _go_pattern(pattern: str) -> re.Pattern[str]:
    """Go's ``$`` is the end of the text; Python's also stands before a last line end."""
    return re.compile(rf"{pattern[:-1]}\Z" if pattern.endswith("$") and not pattern.endswith("\\$") else pattern)


def _matches(pattern: str, value: str) -> bool:
    return len(value) < _LONGEST_MATCHED and _go_pattern(pattern).search(value) is not None


def _wrong_type(value: Any, kind: str, path: Path) -> Mismatch:
    names = {"object": "a mapping", "array": "a list", "string": "text", "int-or-string": "a number or text"}
    names |= dict.fromkeys(("integer", "int32", "int64"), "a whole number")
    wanted = names.get(kind, f"a {kind}")
    given = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    quoted = kind == "string" and isinstance(value, int | float)
    text = "" if value is None or isinstance(value, dict | list) else _shown(value, path)
    return Mismatch(
        code="wrong_type",
        path=path,
        message=f"{_name(path)} must be {wanted}, not {given.get(type(value), 'null')}{f' ({text})' if text else ''}",
        fix=f'quote it: "{text.lower() or "…"}"' if quoted else f"give {wanted}",
    )


def _shown(value: Any, path: Path) -> str:
    """``value`` for a message; nothing where it may be a secret."""
    hidden = any(isinstance(part, str) and _SECRET.search(part) for part in path[-2:])
    return "" if hidden else repr(value[:60]) if isinstance(value, str) else str(value)[:60]


def _name(path: Path) -> str:
    """The last part of ``path`` that has a name; an item with its number."""
    if not path:
        return "the document"
    last = path[-1]
    if isinstance(last, int):
        return f"{path[-2] if len(path) > 1 else 'item'}[{last}]"
    return last


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
