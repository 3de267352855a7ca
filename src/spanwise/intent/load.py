"""Read an intent file: YAML in, Intent out, one clear message for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from spanwise.errors import InputError, IntentError
from spanwise.intent.types import Intent
from spanwise.reading import read_file, shown

# An intent is a page of text; anything bigger is another file by mistake.
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 20

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Safe YAML that refuses a key given twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As in PyYAML, after the check."""
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def load_intent(path: str | Path) -> Intent:
    """Read and validate the intent file at ``path``.

    Raises:
        IntentError: Not readable, not YAML, not a mapping, or not an intent; names file, key, value and what is
        allowed.
    """
    return parse_intent(read_text(path), where=shown(path))


def read_text(
    path: str | Path,
    *,
    error: type[InputError] = IntentError,
    what: str = "an intent file",
    start: str = "examples/ has some to start from",
) -> str:
    """The text of a small UTF-8 file; ``error`` and ``what`` say what it should have been, ``start`` where there is one like it.

    Raises:
        InputError: It is missing, a directory, unreadable, too big, or not UTF-8.
    """
    data = read_file(
        path,
        most_bytes=_MAX_BYTES,
        what=what,
        remedy=f"give the path of {what}; {start}",
        error=error,
    )
    where = shown(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"is not UTF-8 text (byte {problem.start})", where=where, remedy="save it as UTF-8") from None


def parse_intent(text: str, *, where: str = "intent") -> Intent:
    """Validate YAML ``text``; ``where`` names its origin in messages.

    Raises:
        IntentError: As in :func:`load_intent`.
    """
    try:
        # Depth is checked on the event stream: constructing a deeply nested document would exhaust the stack.
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _MAX_DEPTH:
                    raise IntentError("is nested too deeply", where=where, remedy=_SEE)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                raise IntentError("uses a YAML alias (*name)", where=where, remedy="write the value out")
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  _Loader is a SafeLoader
    except yaml.YAMLError as error:
        raise IntentError(f"is not YAML: {_one_line(error)}", where=where, remedy=_SEE) from None
    except (ValueError, RecursionError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # PyYAML lets Python's own complaints through: integers of thousands of digits, impossible dates, tags on what they do not fit.
        raise IntentError(f"holds a value that cannot be read: {error}"[:300], where=where, remedy=_SEE) from None
    return intent_from(document, where=where)


_SEE = "write it as in examples/llama-3-70b-10gbe.yaml"
_KEYS = "docs/intent.md explains every key"


def intent_from(document: Any, *, where: str = "intent") -> Intent:
    """Validate an already parsed document.

    Raises:
        IntentError: Not a mapping, or not an intent.
    """
    if not isinstance(document, dict):
        kind = "empty" if document is None else f"a {type(document).__name__}, not a mapping of keys"
        raise IntentError(f"is {kind}", where=where, remedy=_SEE)
    if not all(isinstance(key, str) for key in document):
        odd = next(key for key in document if not isinstance(key, str))
        raise IntentError(f"has the key {_short(odd)}, which is not text", where=where, remedy=_SEE)
    try:
        return Intent.model_validate(document)
    except ValidationError as error:
        unknown = any(item["type"] == "extra_forbidden" for item in error.errors(include_url=False))
        see = _KEYS if unknown else _SEE
        raise IntentError(_explain(error), where=where, remedy=f"correct the key(s) named; {see}") from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise IntentError(f"holds an impossible value: {error}"[:300], where=where, remedy=_SEE) from None


def _explain(error: ValidationError) -> str:
    """Each problem as ``key = value: what is allowed``, the first five of them."""
    lines: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"] if part not in _UNION_ARMS)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"{key}: unknown key"
            allowed = _allowed(key)
            if allowed:
                text += f" (allowed here: {', '.join(allowed)})"
        elif item["type"] == "missing":
            text = f"{key}: is required"
        elif not key:
            text = message
        else:
            text = f"{key} = {_short(item['input'])}: {message}"
        if text not in lines:
            lines.append(text)
    shown = lines[:5] + ([f"and {len(lines) - 5} more"] if len(lines) > 5 else [])
    return "; ".join(shown)


# Names that pydantic puts into a location for the arms of a union; they are not keys of the file.
_UNION_ARMS = frozenset({"InlineGpu", "InlineFabric", "constrained-str", "str"})


def _allowed(key: str) -> list[str]:
    """The keys that the mapping around ``key`` may hold."""
    model: Any = Intent
    for part in key.split(".")[:-1]:
        info = getattr(model, "model_fields", {}).get(part)
        if info is None:
            return []
        arms = [info.annotation, *getattr(info.annotation, "__args__", ())]
        model = next((arm for arm in arms if hasattr(arm, "model_fields")), None)
        if model is None:
            return []
    return list(model.model_fields)


def _short(value: Any) -> str:
    """A value as shown in a message: never a page of it, and never a traceback for a number of a million digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())[:300]
