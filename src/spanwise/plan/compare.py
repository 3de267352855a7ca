"""Two documents of one schema, side by side: every path at which they differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from spanwise.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "spanwise.diff/1"
_COMPARABLE = ("spanwise.plan/1", "spanwise.verdict/1")
# Items of a list are compared with their namesakes, not with whatever stands at the same index.
_IDENTITIES = ("id", "name", "code", "rank", "index", "what")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One path with both values; the value of an absent one is None and ``change`` says so."""

    path: str
    change: Literal["changed", "only_a", "only_b"]
    a: Any
    b: Any

    def as_json(self) -> dict[str, Any]:
        """The difference as one JSON object."""
        return asdict(self)


def diff(a: dict[str, Any], b: dict[str, Any]) -> tuple[Difference, ...]:
    """Every difference between two plans or two verdicts, in the order of the first.

    Raises:
        InputError: No schema, one that cannot be compared, or two different ones.
    """
    for label, document in (("A", a), ("B", b)):
        if document.get("schema") not in _COMPARABLE:
            raise InputError(
                f"{label} has schema {str(document.get('schema'))[:80]!r}",
                where="diff",
                remedy=f"give two files of one schema: {' or '.join(_COMPARABLE)}",
            )
    if a["schema"] != b["schema"]:
        raise InputError(
            f"A is a {a['schema']} and B a {b['schema']}", where="diff", remedy="give two plans, or two verdicts"
        )
    return tuple(_walk(a, b, ""))


def _walk(a: Any, b: Any, path: str) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        yield from _keys(a, b, lambda key: f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list):
        identity = _identity(a, b)
        first = {item[identity] if identity else index: item for index, item in enumerate(a)}
        second = {item[identity] if identity else index: item for index, item in enumerate(b)}
        yield from _keys(first, second, lambda key: f"{path}[{key}]")
    elif type(a) is not type(b) or a != b:
        yield Difference(path=path, change="changed", a=a, b=b)


def _keys(a: dict[Any, Any], b: dict[Any, Any], name: Any) -> Iterator[Difference]:
    for key in [*a, *(key for key in b if key not in a)]:
        if key not in b:
            yield Difference(path=name(key), change="only_a", a=a[key], b=None)
        elif key not in a:
            yield Difference(path=name(key), change="only_b", a=None, b=b[key])
        else:
            yield from _walk(a[key], b[key], name(key))


def _identity(a: list[Any], b: list[Any]) -> str | None:
    """The key that tells the items of both lists apart; None where there is none."""
    for key in _IDENTITIES:
        values = [[item.get(key) if isinstance(item, dict) else None for item in items] for items in (a, b)]
        if all(
            isinstance(value, str | int) and not isinstance(value, bool) for column in values for value in column
        ) and all(len(set(column)) == len(column) for column in values):
            return key if a or b else None
    return None
