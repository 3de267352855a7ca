"""Typed values as YAML text: block style, keys in the order given, embedded documents as literal blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

# Guard: kubectl and KubeRay read YAML with Go's reader, which takes more plain words for numbers or truth values than
# PyYAML does: a plan's hash `9e12345678901234` arrived as a float, the label value `y` as true.
_NOT_TEXT_IN_GO = re.compile(
    r"[yYnN]|[-+]?(\.[0-9_]+|[0-9][0-9_]*\.?[0-9_]*)([eE][-+]?[0-9]+)?|[-+]?0[xXoObB][0-9a-fA-F_]+"
)


class _Dumper(yaml.SafeDumper):
    """No aliases (people read this), lists indented under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else "'" if _NOT_TEXT_IN_GO.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(value: dict[str, Any] | list[Any], header: Sequence[str] = ()) -> str:
    """``value`` as one YAML document, with ``header`` as comment lines above it."""
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20, default_flow_style=False)
    return "".join(f"# {line}".rstrip() + "\n" for line in header) + body
