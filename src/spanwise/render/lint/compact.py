"""The compact form of KubeRay's CRDs: what decides whether the API server accepts an object, and nothing else.

A CRD has a megabyte, most of it descriptions and the pod template twice over. The compact form keeps field names,
types, required fields, allowed values, bounds and lists without repetition, with equal subtrees kept once: 30 KB. The
keys are short because there are thousands: ``t`` type, ``p`` properties, ``a`` additional properties, ``i`` items,
``r`` required, ``e`` enum, ``n`` minimum, ``x`` maximum, ``f`` pattern, ``l`` longest and ``s`` shortest text, ``k``
keys (with their defaults) by which the items of a list differ, ``u`` items that differ as wholes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from typing import Any

import yaml

from spanwise.errors import ManifestError
from spanwise.render.lint.documents import read_documents
from spanwise.render.lint.schema import Fields, shipped

# How Python itself reads a pattern; it has no public door.
_PARSER: Any = importlib.import_module("re._parser")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYWORDS = {"enum": "e", "minimum": "n", "maximum": "x", "pattern": "f", "maxLength": "l", "minLength": "s"}
_NUMBERS = ("integer", "int32", "int64", "number", "int-or-string")
# keyword -> what its value is, and the types that it says something about (None: all); elsewhere the API server ignores it.
_MEANS: dict[str, tuple[tuple[type, ...], tuple[str, ...] | None]] = {
    "enum": ((list,), None),
    "minimum": ((int, float), ("integer", "int32", "int64", "number")),
    "maximum": ((int, float), ("integer", "int32", "int64", "number")),
    "pattern": ((str,), ("string", "int-or-string")),
    "maxLength": ((int,), ("string",)),
    "minLength": ((int,), ("string",)),
}
_KNOWN_TYPES = frozenset({"object", "array", "string", "boolean", "any", *_NUMBERS})
# A stranger's pattern of more repetitions than this may take time that grows with that power of the text.
_MOST_REPEATS = 3
# The one form of CEL rule that KubeRay has beside "immutable" (which needs the object before the change).
_ONE_OF = re.compile(r"self in \[('[^']*'(?:, *'[^']*')*)\]")


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
    """The compact schema of a CRD that the user gives (``--crd``): KubeRay's file, or what the cluster says of its own.

    Raises:
        ManifestError: Not a CustomResourceDefinition with a structural schema.
    """
    try:
        return _bounded(compact(f"the CRD {name}", [document.value for document in read_documents(text, name)]))
    except (KeyError, StopIteration, TypeError, AttributeError, IndexError, RecursionError, ValueError) as error:
        raise ManifestError(
            f"not a CustomResourceDefinition ({type(error).__name__}: {str(error)[:120]})",
            where=name,
            remedy="give KubeRay's own file, for example ray.io_rayservices.yaml, "
            "or what `kubectl get crd rayservices.ray.io -o yaml` prints",
        ) from None


def compact(version: str, crds: list[dict[str, Any]]) -> Fields:
    """The compact form of parsed CRDs, alone or in a List as kubectl prints several.

    ``kinds`` has the stored version under the kind's name, and every other served one under ``KIND/VERSION``.
    """
    shapes: dict[str, dict[str, Any]] = {}
    kinds: dict[str, str] = {}
    for crd in (item for document in crds for item in (document.get("items", [document]))):
        kind = crd["spec"]["names"]["kind"]
        versions = crd["spec"]["versions"]
        stored = next(item for item in versions if item.get("storage"))
        for item in versions:
            if item is stored or item.get("served"):
                spec = item["schema"]["openAPIV3Schema"]["properties"]["spec"]
                reference = _shape({**spec, "x-always-shared": True}, shapes)
                kinds[kind if item is stored else f"{kind}/{item['name']}"] = str(reference)
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
        if keyword in node and _says_something(keyword, node[keyword], result["t"]):
            result[short] = node[keyword]
    result |= _differing(node)
    for rule in node.get("x-kubernetes-validations") or []:
        if one_of := _ONE_OF.fullmatch(rule["rule"]):
            result["e"] = re.findall(r"'([^']*)'", one_of[1])
    text = json.dumps(result, sort_keys=True)
    if not properties and len(text) <= 60 and "x-always-shared" not in node:
        return result
    name = hashlib.sha256(text.encode()).hexdigest()[:8]
    shapes[name] = result
    return name


def _differing(node: dict[str, Any]) -> dict[str, Any]:
    """How the items of a list must differ: the API server refuses a port or a volume that is there twice."""
    if node.get("x-kubernetes-list-type") == "set":
        return {"u": True}
    if node.get("x-kubernetes-list-type") == "map":
        inner = node["items"].get("properties") or {}
        return {"k": {key: inner.get(key, {}).get("default") for key in node["x-kubernetes-list-map-keys"]}}
    return {}


def _says_something(keyword: str, value: Any, kind: str) -> bool:
    """True where the keyword bounds a value of this type.

    Raises:
        TypeError: It is none of the form that a schema has.
    """
    form, kinds = _MEANS[keyword]
    if not isinstance(value, form) or isinstance(value, bool):
        raise TypeError(f"{keyword} is {str(value)[:40]!r}")
    return (kinds is None or kind in kinds) and not (keyword == "pattern" and not _compiles(str(value)))


def _bounded(fields: Fields) -> Fields:
    """``fields`` without patterns that may run for hours on a text made for it: Go's expressions never do, Python's can.

    Those of our own copy stay: they are KubeRay's, and were looked at.
    """
    known = {shape["f"] for shape in _each(list(shipped().shapes.values())) if "f" in shape}
    for shape in _each(list(fields.shapes.values())):
        if "f" in shape and shape["f"] not in known and _may_run_away(shape["f"]):
            del shape["f"]
    return fields


def _each(shapes: list[Any]) -> list[dict[str, Any]]:
    """``shapes``, and those that are written in place inside them."""
    found: list[dict[str, Any]] = []
    waiting = list(shapes)
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, dict):
            found.append(shape)
            waiting += [*shape.get("p", {}).values(), shape.get("a"), shape.get("i")]
    return found


def _may_run_away(pattern: str) -> bool:
    """True for a repetition or a choice inside a repetition, and for many repetitions side by side."""
    repeats = 0
    waiting: list[tuple[Any, bool]] = [(_PARSER.parse(pattern), False)]
    while waiting:
        part, inside = waiting.pop()
        if isinstance(part, _PARSER.SubPattern):
            waiting += [(item, inside) for item in part]
        elif isinstance(part, tuple) and str(part[0]).endswith("REPEAT"):
            least, most, inner = part[1]
            repeats += most > 1
            if (inside and least != most) or repeats > _MOST_REPEATS:
                return True
            waiting.append((inner, inside or most > 1))
        elif isinstance(part, tuple) and str(part[0]) == "BRANCH" and inside:
            return True
        elif isinstance(part, tuple | list):
            waiting += [(item, inside) for item in part]
    return False


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
    if node.get("type") == "integer" and node.get("format") in ("int32", "int64"):
        return str(node["format"])
    kind = str(node.get("type", "any"))
    if kind not in _KNOWN_TYPES:
        raise ValueError(f"a field of the type {kind[:40]!r}")
    return kind
