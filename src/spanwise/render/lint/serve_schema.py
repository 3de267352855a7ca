"""A Serve config against Ray's own schema (ray.serve.schema.ServeDeploySchema), kept as data so that no Ray is needed.

Ray reads the config with pydantic, which is lenient: ``"2"`` is a number, ``"yes"`` is true. What it would read is no
finding. Fields that a part of the schema does not have are ignored there (a warning) or refused (an error).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.report import items, mapping
from spanwise.render.upstream import RAY_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.render.lint.documents import Path
    from spanwise.render.lint.finding import Severity

_TRUTHS = frozenset({"0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"})
_WORDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "null": "null"}
_WORDS |= {"number": "a number", "boolean": "true or false"}
_INTEGER = re.compile(r"\s*[+-]?[0-9_]+(\.0*)?\s*")
_LOG_LEVELS = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")
# ray._private.runtime_env.protocol.ProtocolsProvider.
_PROTOCOLS = frozenset({"abfss", "azure", "conda", "file", "gcs", "gs", "http", "https", "local", "pip", "s3", "uv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One place where a config departs from Ray's schema."""

    code: str
    severity: Severity
    path: Path
    message: str
    fix: str


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a Serve config that comes with spanwise."""
    text = resources.files("spanwise.render").joinpath("data/serve-schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["schema"]
    return found


def reduced(node: Any) -> Any:
    """A JSON schema without what decides nothing: titles, descriptions, defaults."""
    if isinstance(node, list):
        return [reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    named = {"properties", "$defs"}  # their keys are names, not keywords
    return {
        key: {name: reduced(child) for name, child in value.items()} if key in named else reduced(value)
        for key, value in node.items()
        if key not in ("title", "description", "default")
    }


def departures(config: dict[str, Any]) -> list[Departure]:
    """Where ``config`` departs from the schema, and what Ray's validators refuse beyond it."""
    return [*_walk(config, schema(), ()), *_validators(config)]


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
    return found


def _walk(value: Any, node: dict[str, Any], path: Path) -> Iterator[Departure]:
    node = _resolved(node)
    if "anyOf" in node:
        yield from _any_of(value, [_resolved(member) for member in node["anyOf"]], path)
        return
    kind = node.get("type")
    if kind is not None and not _fits(value, kind):
        yield _wrong_type(value, [kind], path)
        return
    wrong = _out_of_bounds(value, node)
    if wrong:
        yield _refused("value_not_allowed", path, f"{_name(path)} {_shown(value)} is refused by Ray", f"give {wrong}")
    if isinstance(value, dict) and "properties" in node:
        yield from _fields(value, node, path)
    elif isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        for key, child in value.items():
            yield from _walk(child, node["additionalProperties"], (*path, key))
    elif isinstance(value, list) and "items" in node:
        for index, item in enumerate(value):
            yield from _walk(item, node["items"], (*path, index))


def _any_of(value: Any, members: list[dict[str, Any]], path: Path) -> Iterator[Departure]:
    tried = [list(_walk(value, member, path)) for member in members]
    clean = [found for found in tried if not any(item.severity == "error" for item in found)]
    if clean:
        yield from clean[0]
        return
    fitting = [found for found, member in zip(tried, members, strict=True) if _fits(value, member.get("type", ""))]
    if fitting:
        yield from fitting[0]
    else:
        yield _wrong_type(value, [str(member.get("type")) for member in members], path)


def _fields(value: dict[str, Any], node: dict[str, Any], path: Path) -> Iterator[Departure]:
    known = node["properties"]
    for key in node.get("required", []):
        if key not in value and key not in ("applications", "import_path"):  # said with more to go by elsewhere
            yield _refused("field_missing", (*path, key), f"{key} is required here and missing", f"add `{key}:`")
    refused = node.get("additionalProperties") is False
    for key, child in value.items():
        if key in known:
            yield from _walk(child, known[key], (*path, key))
            continue
        near = get_close_matches(key, known, n=1, cutoff=0.7) if len(key) < 100 else []
        yield Departure(
            code="serve_field_unknown",
            severity="error" if refused else "warning",
            path=(*path, key),
            message=f"Ray {'refuses' if refused else 'ignores'} {key[:60]!r}: no such field in Ray {RAY_VERSION}",
            fix=f"did you mean `{near[0]}`?" if near else f"remove it; allowed: {', '.join(sorted(known))}",
        )


def _fits(value: Any, kind: str) -> bool:
    """True for what pydantic takes for a value of this kind in a model that is not strict."""
    if kind == "null":
        return value is None
    if kind in ("integer", "number"):
        if kind == "integer" and isinstance(value, str):
            return _INTEGER.fullmatch(value) is not None
        number = _number(value)
        return number is not None and (kind == "number" or number.is_integer())
    if kind == "boolean":
        text = value.lower() if isinstance(value, str) else str(int(value)) if value in (0, 1) else ""
        return isinstance(value, bool) or text in _TRUTHS
    return isinstance(value, {"object": dict, "array": list, "string": str}.get(kind, object))


def _number(value: Any) -> float | None:
    if isinstance(value, str) and len(value) < 100:
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def _out_of_bounds(value: Any, node: dict[str, Any]) -> str:
    if "enum" in node and value not in node["enum"] and _number(value) not in node["enum"]:
        return f"one of {', '.join(map(str, node['enum']))}"
    bounds = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    number = _number(value) if any(key in node for key in bounds) else None
    if number is None:
        return ""
    if number < node.get("minimum", number):
        return f"at least {node['minimum']}"
    if "exclusiveMinimum" in node and number <= node["exclusiveMinimum"]:
        return f"more than {node['exclusiveMinimum']}"
    if number > node.get("maximum", number):
        return f"at most {node['maximum']}"
    return ""


def _validators(config: dict[str, Any]) -> Iterator[Departure]:
    """What Ray's validators say beyond the schema (ray/serve/schema.py)."""
    yield from _logging(config, ())
    for index, application in enumerate(items(config.get("applications"))):
        path: Path = ("applications", index)
        app = mapping(application)
        yield from _logging(app, path)
        yield from _sources(app.get("runtime_env"), (*path, "runtime_env"))
        if app.get("name") == "":
            yield _refused(
                "value_not_allowed", (*path, "name"), "an application's name is empty", "name it, or leave it out"
            )
        for number, deployment in enumerate(items(app.get("deployments"))):
            yield from _deployment(mapping(deployment), app, (*path, "deployments", number))


def _logging(owner: dict[str, Any], path: Path) -> Iterator[Departure]:
    logging = mapping(owner.get("logging_config"))
    level = logging.get("log_level")
    allowed = level in (0, 10, 20, 30, 40, 50) if isinstance(level, int | float) else level in _LOG_LEVELS
    if isinstance(level, int | float | str) and not allowed:
        yield _refused(
            "value_not_allowed",
            (*path, "logging_config", "log_level"),
            f"log_level {_shown(level)} is refused by Ray",
            f"give one of {', '.join(_LOG_LEVELS)}",
        )
    encoding = logging.get("encoding")
    if isinstance(encoding, str) and encoding not in ("TEXT", "JSON"):
        yield _refused(
            "value_not_allowed",
            (*path, "logging_config", "encoding"),
            f"encoding {_shown(encoding)} is refused by Ray",
            "give TEXT or JSON",
        )


def _sources(runtime_env: Any, path: Path) -> Iterator[Departure]:
    """Code must come from where every node can fetch it."""
    environment = mapping(runtime_env)
    listed = [((*path, "py_modules", index), uri) for index, uri in enumerate(items(environment.get("py_modules")))]
    for place, uri in [*listed, ((*path, "working_dir"), environment.get("working_dir"))]:
        scheme = uri.split("://")[0].lower() if isinstance(uri, str) and "://" in uri else ""
        if uri is not None and scheme not in _PROTOCOLS:
            yield _refused(
                "runtime_env_local",
                place,
                f"{_name(place)} is no URI that every node can fetch; Ray refuses that in a Serve config",
                "build it into the image, or give https:// or s3:// of a zip file",
            )


def _deployment(deployment: dict[str, Any], application: dict[str, Any], path: Path) -> Iterator[Departure]:
    count, scaling = deployment.get("num_replicas"), deployment.get("autoscaling_config")
    if isinstance(count, int) and scaling is not None:
        yield _refused(
            "replicas_twice",
            (*path, "num_replicas"),
            "num_replicas and autoscaling_config are both given; Ray refuses that",
            "keep one of the two, or write `num_replicas: auto`",
        )
    elif count not in (None, "auto") and not isinstance(count, int):
        yield _refused(
            "value_not_allowed",
            (*path, "num_replicas"),
            f"num_replicas {_shown(count)} is refused by Ray",
            "give a whole number, or auto",
        )
    if application.get("external_scaler_enabled") is True and (count == "auto" or scaling is not None):
        yield _refused(
            "replicas_twice",
            (*path, "autoscaling_config"),
            "external_scaler_enabled stands beside autoscaling; Ray refuses that",
            "keep one of the two",
        )
    if deployment.get("max_replicas_per_node") is not None and deployment.get("placement_group_bundles") is not None:
        yield _refused(
            "placement_contradicts",
            (*path, "max_replicas_per_node"),
            "max_replicas_per_node stands beside placement_group_bundles; Ray refuses that",
            "keep one of the two",
        )
    queued = _number(deployment.get("max_queued_requests"))
    if queued is not None and queued < 1 and queued != -1:
        yield _refused(
            "value_not_allowed",
            (*path, "max_queued_requests"),
            f"max_queued_requests {queued:g} is refused by Ray",
            "give -1 (no limit) or a number above 0",
        )
    actor = mapping(deployment.get("ray_actor_options"))
    yield from _sources(actor.get("runtime_env"), (*path, "ray_actor_options", "runtime_env"))


def _refused(code: str, path: Path, message: str, fix: str) -> Departure:
    return Departure(code=code, severity="error", path=path, message=message, fix=fix)


def _wrong_type(value: Any, kinds: list[str], path: Path) -> Departure:
    wanted = " or ".join(dict.fromkeys(_WORDS.get(kind, kind) for kind in kinds))
    given = _WORDS[_kind(value)]
    return _refused(
        "wrong_type", path, f"{_name(path)} must be {wanted}, not {given}; Ray refuses that", f"give {wanted}"
    )


def _kind(value: Any) -> str:
    named: list[tuple[type, str]] = [(bool, "boolean"), (dict, "object"), (list, "array"), (str, "string")]
    return next((word for kind, word in named if isinstance(value, kind)), "null" if value is None else "number")


def _name(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "the config")


def _shown(value: Any) -> str:
    return "" if isinstance(value, dict | list) else repr(value)[:60]
