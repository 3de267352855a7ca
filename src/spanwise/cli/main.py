"""The command line: one module per command, each imported only when it is called or when help is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from spanwise import __version__
from spanwise.cli import frame
from spanwise.cli.helptext import PlainCommand
from spanwise.errors import InputError

# Typer carries its own copy of click and shows only the leaves of its error tree.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
_NoArguments: Any = getattr(sys.modules[_UsageError.__module__], "NoArgsIsHelpError", ())

# name -> (module, object, one line for the overview). The object is a function (a command) or a Typer (a group).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "decide": ("spanwise.cli.decide", "decide", "Is spreading this model justified?"),
    "plan": ("spanwise.cli.plan", "plan", "Make a verdict concrete: placement, arguments."),
    "probe": ("spanwise.cli.probe", "probe", "What hosts and links really are, as facts."),
    "diff": ("spanwise.cli.diff", "diff", "Two plans or verdicts side by side."),
    "estimate": ("spanwise.cli.estimate", "estimate", "The bare model's answer for single points."),
    "render": ("spanwise.cli.render", "render", "Plans as files for vLLM, Ray Serve or KubeRay."),
    "lint": ("spanwise.cli.lint", "lint", "Findings on manifests and commands."),
    "adopt": ("spanwise.cli.adopt", "adopt", "What runs, as an intent and a plan."),
    "up": ("spanwise.cli.serve", "up", "Run a plan on the lab or on a Ray cluster."),
    "status": ("spanwise.cli.serve", "status", "What runs: gangs, ranks, endpoint."),
    "down": ("spanwise.cli.serve", "down", "Stop what `up` started."),
    "lab": ("spanwise.cli.lab", "app", "Emulated hosts on this machine."),
    "demo": ("spanwise.cli.demo", "demo", "The whole journey, with a real small model."),
}


class LazyCommands(TyperGroup):
    """A group that imports a command's module only when that command is named (start-up stays under half a second)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the journey."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build the command ``cmd_name``; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, summary = COMMANDS[cmd_name]
        if ctx.resilient_parsing or cmd_name not in sys.argv:
            return TyperCommand(cmd_name, short_help=summary)  # the overview needs only names and lines
        target = getattr(importlib.import_module(module), name)
        if isinstance(target, typer.Typer):
            group = typer.main.get_command(target)
            group.name = cmd_name
            return group
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(cmd_name, cls=PlainCommand)(target)
        return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        frame.echo(f"spanwise {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Take a model that outgrows its GPU or machine the whole way: decide, plan, serve, and know what you get.

    Example: spanwise decide examples/llama-3-70b-10gbe.yaml
    """
    frame.set_debug(debug)


def run() -> None:
    """Entry point of the console script."""
    frame.guarded(_command_line, sys.argv[1:])


def _named(words: list[str]) -> str:
    """The command that ``words`` name: an option without its argument is refused before the parser knows whose it is."""
    plain = [word for word in words if not word.startswith("-")]
    if not plain or plain[0] not in COMMANDS:
        return "spanwise"
    target = getattr(importlib.import_module(COMMANDS[plain[0]][0]), COMMANDS[plain[0]][1])
    below = typer.main.get_command(target) if isinstance(target, typer.Typer) else None
    inner = plain[1:2] if below is not None and plain[1:2] and plain[1] in getattr(below, "commands", {}) else []
    return " ".join(["spanwise", plain[0], *inner])


def _command_line() -> int:
    """Parse and run; usage errors take the same way out as all others."""
    try:
        code = app(prog_name="spanwise", standalone_mode=False)
    except _UsageError as error:
        if isinstance(error, _NoArguments):
            error.show()
            return 2
        command = error.ctx.command_path if error.ctx else _named(sys.argv[1:])
        # frame puts the program's name before every error: only what follows it is a place.
        where = command.removeprefix("spanwise").strip()
        raise InputError(error.format_message(), where=where, remedy=f"see `{command} --help`") from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    run()
