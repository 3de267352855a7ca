"""The shape of KubeRay's objects: a compact form of their CRDs, and a check of a document against it.

A CRD has a megabyte, most of it descriptions and the pod template twice over. The compact form keeps what decides
whether the API server accepts an object (field names, types, required fields, allowed values, bounds), with equal
subtrees kept once: 25 KB. The keys are short because there are thousands: ``t`` type, ``p`` properties, ``a``
additional properties, ``i`` items, ``r`` required, ``e`` enum, ``n`` minimum, ``x`` maximum, ``f`` pattern, ``l``
longest text.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from spanwise.errors import ManifestError
from spanwise.render.lint.documents import Path, read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYWORDS = {"enum": "e", "minimum": "n", "maximum": "x", "pattern": "f", "maxLength": "l"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "int-or-string": (int, str),
}


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


def compact_text(version: str, crds: list[str]) -> str:
    """The data file for these CRDs (YAML texts), one shape a line."""
    fields = compact(version, [yaml.load(text, Loader=_LOADER) for text in crds])  # noqa: S506 (a safe loader)
    shapes = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(shape, separators=(',', ':'))}"
        for name, shape in sorted(fields.shapes.items())
    )
    head = f'{{\n  "version": {json.dumps(version)},\n  "kinds": {json.dumps(fields.kinds)},\n  "shapes": {{\n'
    return head + shapes + "\n  }\n}\n"


def from_crd(text: str, name: str) -> Fields:
    """The compact schema of a CRD that the user gives (``--crd``).

    Raises:
        ManifestError: Not a CustomResourceDefinition with a structural schema.
    """
    try:
        return compact(f"the CRD {name}", [document.value for document in read_documents(text, name)])
    except (KeyError, StopIteration, TypeError, AttributeError, IndexError, RecursionError, ValueError) as error:
        raise ManifestError(
            f"not a CustomResourceDefinition ({type(error).__name__}: {str(error)[:120]})",
            where=name,
            remedy="give KubeRay's own file, for example ray.io_rayservices.yaml, "
            "or what `kubectl get crd rayservices.ray.io -o yaml` prints",
        ) from None


def compact(version: str, crds: list[dict[str, Any]]) -> Fields:
    """The compact form of parsed CRDs; of several served versions, the one that is stored."""
    shapes: dict[str, dict[str, Any]] = {}
    kinds: dict[str, str] = {}
    for crd in crds:
        chosen = next(item for item in crd["spec"]["versions"] if item.get("storage"))
        schema = chosen["schema"]["openAPIV3Schema"]
        reference = _shape({**schema["properties"]["spec"], "x-always-shared": True}, shapes)
        kinds[crd["spec"]["names"]["kind"]] = str(reference)
    if not kinds:
        raise KeyError("no document")
    return Fields(version=version, kinds=kinds, shapes=shapes)


def _shape(node: dict[str, Any], shapes: dict[str, dict[str, Any]]) -> str | dict[str, Any]:
    """The compact form of one schema node; anything large goes into ``shapes`` and is named by its hash."""
    result: dict[str, Any] = {"t": _type(node)}
    properties = node.get("properties") or {}
    if properties:
        result["p"] = {key: _shape(child, shapes) for key, child in sorted(properties.items())}
    for keyword, short in (("additionalProperties", "a"), ("items", "i")):
        if isinstance(node.get(keyword), dict):
            result[short] = _shape(node[keyword], shapes)
    # The API server fills a default in before it validates: a required field with a default is not missed.
    required = [key for key in node.get("required", []) if "default" not in properties.get(key, {})]
    if required:
        result["r"] = required
    for keyword, short in _KEYWORDS.items():
        if keyword in node and not (keyword == "pattern" and not _compiles(node[keyword])):
            result[short] = node[keyword]
    text = json.dumps(result, sort_keys=True)
    if not properties and len(text) <= 60 and "x-always-shared" not in node:
        return result
    name = hashlib.sha256(text.encode()).hexdigest()[:8]
    shapes[name] = result
    return name


def _compiles(pattern: str) -> bool:
    """CRDs hold Go's regular expressions; one that Python does not know is left to the API server."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    if node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-embedded-resource"):
        return "any"
    return str(node.get("type", "any"))


def mismatches(value: Any, fields: Fields, reference: Any, path: Path) -> Iterator[Mismatch]:
    """Where ``value`` departs from the shape, in document order. Depth is bounded by the reader (100)."""
    shape = fields.shape(reference)
    kind = shape["t"]
    if value is None or kind == "any":  # the API server drops nulls before it validates
        return
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield _wrong_type(value, kind, path)
        return
    yield from _bounds(value, shape, path)
    if isinstance(value, dict):
        yield from _mapping(value, fields, shape, path)
    elif isinstance(value, list) and "i" in shape:
        for index, item in enumerate(value):
            yield from mismatches(item, fields, shape["i"], (*path, index))


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
        elif properties:
            near = get_close_matches(key, properties, n=1, cutoff=0.7)
            yield Mismatch(
                code="field_unknown",
                path=(*path, key),
                message=f"{key[:80]!r} is no field here, in {fields.version}; the API server refuses or drops it",
                fix=f"did you mean `{near[0]}`?" if near else f"remove it; allowed: {_some(sorted(properties))}",
            )


def _bounds(value: Any, shape: dict[str, Any], path: Path) -> Iterator[Mismatch]:
    wrong = ""
    if "e" in shape and value not in shape["e"]:
        wrong = f"allowed: {', '.join(map(str, shape['e']))}"
    elif "n" in shape and value < shape["n"]:
        wrong = f"at least {shape['n']}"
    elif "x" in shape and value > shape["x"]:
        wrong = f"at most {shape['x']}"
    elif "l" in shape and len(value) > shape["l"]:
        wrong = f"at most {shape['l']} characters"
    elif "f" in shape and isinstance(value, str) and len(value) < 500 and not re.search(shape["f"], value):
        wrong = f"must match {shape['f']}"
    if wrong:
        yield Mismatch(
            code="value_not_allowed", path=path, message=f"{str(value)[:80]!r} is not allowed here", fix=f"use {wrong}"
        )


def _wrong_type(value: Any, kind: str, path: Path) -> Mismatch:
    names = {"object": "a mapping", "array": "a list", "string": "text", "int-or-string": "a number or text"}
    wanted = names.get(kind, f"{'an' if kind == 'integer' else 'a'} {kind}")
    given = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    quoted = kind == "string" and isinstance(value, int | float)
    shown = "" if isinstance(value, dict | list) else f" ({str(value)[:60]})"
    return Mismatch(
        code="wrong_type",
        path=path,
        message=f"{path[-1] if path else 'the document'} must be {wanted}, not {given[type(value)]}{shown}",
        fix=f'quote it: "{str(value).lower()[:60]}"' if quoted else f"give {wanted}",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
