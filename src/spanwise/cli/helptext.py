"""Help in the words of this project: typer's braces around arguments and its Python types are left out."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_METAVARS = {int: "N", float: "X"}


class PlainCommand(TyperCommand):
    """A command whose usage line reads as one types it: ``spanwise render [OPTIONS] PLAN...``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Options, then the arguments by name; a command that takes another command ends with that."""
        pieces = ["[OPTIONS]", *(_shown(param) for param in self.get_params(ctx) if _is_argument(param))]
        return [*pieces, "COMMAND [ARGS]..."] if ctx.allow_extra_args else pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments without types, options with a word for what they take, under the headings that they name."""
        # The common options come first, whatever order a command has them in.
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        params: list[Any] = list(self.get_params(ctx))
        for param in params:
            if _is_argument(param):
                sections["Arguments"].append((_shown(param), param.help or ""))
                continue
            descriptor = getattr(param, "type_descriptor", None)
            if descriptor is not None and param.metavar is None and not param.is_flag and not descriptor.is_choice:
                param.metavar = _METAVARS.get(descriptor.annotation, "TEXT")
            if (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _shown(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    return name if param.nargs == 1 else f"{name}..."
