"""A vLLM server's command read as engine arguments. Nothing is expanded and nothing is run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from spanwise.errors import ManifestError
from spanwise.render.engine_flags import Flag, flag_table
from spanwise.render.lint.command import looks_like_command
from spanwise.render.lint.shell import Word, commands

_MODULE = "vllm.entrypoints.openai.api_server"
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_HUMAN = {"k": 1000, "m": 1000**2, "g": 1000**3, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(slots=True, kw_only=True)
class ServerCommand:
    """One server, as its command says.

    Attributes:
        line: Where it begins.
        model: The model named, by position or flag; empty where none is, or a variable stands there.
        arguments: Engine arguments under vLLM's names, as values.
        environment: Variables set in front of it or exported above.
        unknown: What could not be read: variables, and flags that this vLLM does not have.
    """

    line: int
    model: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


# A manifest may quote a vLLM command; a script never has one of these at the beginning of a line.
_MANIFEST = ("apiVersion:", "kind:", "applications:", "{")


def is_command(text: str) -> bool:
    """True for a text with a vLLM command that is no manifest."""
    return looks_like_command(text) and not any(line.startswith(_MANIFEST) for line in text.splitlines())


def server_commands(text: str, file: str) -> list[ServerCommand]:
    """Every vLLM server that ``text`` starts.

    Raises:
        ManifestError: None, or a text that is no shell text.
    """
    try:
        listed = commands(text)
    except ValueError as error:
        raise ManifestError(f"not a command line: {error}", where=file, remedy="give the command alone") from None
    exported: dict[str, str] = {}
    found = []
    for words in listed:
        if words[0].text == "export":
            exported |= {match[1]: match[2] for word in words[1:] if (match := _ASSIGNMENT.fullmatch(word.text))}
        elif command := _recognise(words, exported):
            found.append(command)
    if not found:
        raise ManifestError(
            "starts no vLLM server",
            where=file,
            remedy="give the command of the first host: `vllm serve MODEL …` or `python -m vllm.entrypoints.openai.api_server …`",
        )
    return found


def _recognise(words: list[Word], exported: dict[str, str]) -> ServerCommand | None:
    command = ServerCommand(line=words[0].line, environment=dict(exported))
    for index, word in enumerate(words):
        following = words[index + 1].text if index + 1 < len(words) else ""
        if match := _ASSIGNMENT.fullmatch(word.text):
            command.environment[match[1]] = match[2]
        elif (word.text.rsplit("/", 1)[-1] == "vllm" and following == "serve") or (
            word.text == "-m" and following == _MODULE
        ):
            return _read(command, words[index + 2 :])
        elif "vllm-openai" in word.text and not word.text.startswith("-"):
            return _read(command, words[index + 1 :])
    return None


def _read(command: ServerCommand, words: list[Word]) -> ServerCommand:
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not _is_flag(word):
            if word.variable:
                command.unknown.append("a variable where the model or a flag may stand")
            elif not command.model:
                command.model = word.text
            continue
        name, glued, value = word.text.partition("=")
        flag = _flag(name)
        if flag is None:
            command.unknown.append(name[:60])
            while index < len(words) and not glued and not _is_flag(words[index]):
                index += 1
            continue
        if flag.kind in ("bool", "switch"):
            command.arguments[flag.keyword] = not name.replace("_", "-").startswith("--no-")
            continue
        given = [Word(text=value, line=word.line)] if glued else []
        while not glued and index < len(words) and not _is_flag(words[index]) and (flag.kind == "list" or not given):
            given.append(words[index])
            index += 1
        _take(command, flag, given)
    named = command.arguments.pop("model", "")
    command.model = named if isinstance(named, str) and named else command.model
    return command


def _is_flag(word: Word) -> bool:
    return word.text.startswith("-") and len(word.text) > 1 and not _NUMBER.fullmatch(word.text)


def _flag(name: str) -> Flag | None:
    """The flag of that name, spelled with dashes or underscores; a beginning counts where it is unique."""
    table = flag_table().by_name
    spelled = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
    if spelled in table:
        return table[spelled]
    longer = {flag.name: flag for key, flag in table.items() if len(spelled) > 4 and key.startswith(spelled)}
    return next(iter(longer.values())) if len(longer) == 1 else None


def _take(command: ServerCommand, flag: Flag, given: list[Word]) -> None:
    if any(word.variable for word in given) or not given:
        command.unknown.append(f"--{flag.name}")
        return
    value = _value(flag, [word.text for word in given])
    if value is None:
        command.unknown.append(f"--{flag.name}")
    else:
        command.arguments[flag.keyword] = value


def _value(flag: Flag, texts: list[str]) -> Any:
    """The flag's value as vLLM would hold it; None where it is none."""
    text = texts[0]
    try:
        if flag.kind == "list":
            return texts
        if flag.kind == "int":
            return int(text) if len(text) < 19 else None
        if flag.kind == "human-int":
            factor = _HUMAN.get(text[-1:], 1)
            return int(float(text[:-1] if factor > 1 else text) * factor)
        if flag.kind == "float":
            return float(text)
        if flag.kind == "json" and text.lstrip().startswith(("{", "[")):
            return json.loads(text)
    except (ValueError, OverflowError, RecursionError):
        return None
    return text
