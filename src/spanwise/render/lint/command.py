"""Rules for a vLLM command line in any form: ``vllm serve``, the module, an image with flags behind it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spanwise.errors import ManifestError
from spanwise.render.engine_flags import Flag, flag_table
from spanwise.render.lint.engine import SECRET, SECRET_VARIABLE, judge, suggestion, value_problem
from spanwise.render.lint.finding import Finding, Severity
from spanwise.render.lint.shell import Word, commands

if TYPE_CHECKING:
    from spanwise.render.lint.report import Options

_MODULE = "vllm.entrypoints.openai.api_server"
# Guard: nothing unbounded in front of a word: a line of 300,000 slashes took minutes.
_LOOKS_LIKE_ONE = re.compile(r"(^|[\s/;&|(])(vllm\s+serve\b|-m\s+vllm\.|ray\s+start\b)|vllm-openai")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# A negative number is a value, not a flag.
_NUMBER = re.compile(r"-\d+(\.\d+)?")


def looks_like_command(text: str) -> bool:
    """True where ``text`` holds a vLLM command, or the `ray start` that joins its hosts, outside comments."""
    return any(
        _LOOKS_LIKE_ONE.search(line) and not line.lstrip().startswith("#")
        for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    )


@dataclass(slots=True, kw_only=True)
class _Command:
    """One vLLM command: the words behind the program, and what stands in front of it."""

    start: Word
    form: str
    words: list[Word]
    environment: dict[str, str] = field(default_factory=dict)


def lint_command(text: str, file: str, options: Options) -> list[Finding]:
    """Findings on every vLLM command in ``text``, and on the `ray start` beside it.

    Raises:
        ManifestError: No such command in it, a quotation that does not end, or something too long to be a command.
    """
    try:
        listed = commands(text)
    except ValueError as error:
        raise ManifestError(
            f"not a command line: {error}", where=file, remedy="close the quotation, or give the command alone"
        ) from None
    found = [command for words in listed if (command := _recognise(words))]
    ray = [words for words in listed if len(words) > 1 and [word.text for word in words[:2]] == ["ray", "start"]]
    if not found and not ray:
        raise ManifestError(
            "no vLLM command found",
            where=file,
            remedy="give a line with `vllm serve MODEL …` or "
            f"`python -m {_MODULE} --model MODEL …`, or a YAML manifest",
        )
    findings = [finding for words in ray for finding in _ray_start(words, file)]
    for command in found:
        _Checker(command, file, options, findings).run()
    return findings


def _ray_start(words: list[Word], file: str) -> list[Finding]:
    """`ray start` must either begin a cluster or join one; without either it fails."""
    if any(word.variable or word.text.split("=")[0] in ("--head", "--address") for word in words[2:]):
        return []
    return [
        Finding(
            code="ray_start_alone",
            severity="error",
            file=file,
            line=words[0].line,
            path="",
            message="`ray start` neither begins a cluster nor joins one",
            fix="add --head on the first host, --address=HOST:6379 on the others",
        )
    ]


def _recognise(words: list[Word]) -> _Command | None:
    environment: dict[str, str] = {}
    for index, word in enumerate(words):
        text = word.text
        following = words[index + 1].text if index + 1 < len(words) else ""
        if _ASSIGNMENT.match(text):
            name, value = text.split("=", 1)
            environment[name] = value
        elif text.rsplit("/", 1)[-1] == "vllm" and following == "serve":
            return _Command(start=word, form="serve", words=words[index + 2 :], environment=environment)
        elif text == "-m" and following in (_MODULE, "vllm.entrypoints.cli.main", "vllm"):
            rest = words[index + 2 :]
            if following != _MODULE:
                if not rest or rest[0].text != "serve":
                    return None
                rest = rest[1:]
            form = "module" if following == _MODULE else "serve"
            return _Command(start=word, form=form, words=rest, environment=environment)
        elif "vllm-openai" in text and not text.startswith("-"):
            return _Command(start=word, form="image", words=words[index + 1 :], environment=environment)
    return None


class _Checker:
    """Walks one command as vLLM's FlexibleArgumentParser does, and reports instead of leaving."""

    def __init__(self, command: _Command, file: str, options: Options, findings: list[Finding]) -> None:
        self.command = command
        self.file = file
        self.options = options
        self.findings = findings
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.positional: list[Word] = []
        self.opaque = False  # a variable stands where flags may hide

    def add(self, code: str, severity: Severity, line: int, message: str, fix: str, argument: str = "") -> None:
        """Record one finding."""
        self.findings.append(
            Finding(code=code, severity=severity, file=self.file, line=line, path=argument, message=message, fix=fix)
        )

    def run(self) -> None:
        """Check every word, then the whole."""
        words = self.command.words
        index = 0
        while index < len(words):
            index = self._take(words, index)
        self._whole()

    def _take(self, words: list[Word], index: int) -> int:
        """Read the flag or value at ``index``; returns the index after it."""
        word = words[index]
        if not word.text.startswith("-") or _NUMBER.fullmatch(word.text) or word.text == "-":
            self.positional.append(word)
            self.opaque |= word.variable
            return index + 1
        if word.variable and "=" not in word.text:
            self.opaque = True
            return index + 1
        name, glued = word.text.split("=", 1) if "=" in word.text else (word.text, None)
        if name.startswith("-O") and not name.startswith("--"):
            return index + 1 + (name == "-O" and glued is None)
        flag, spelled = self._find(str(name), word.line)
        dotted = "." in str(name)
        if flag is None:
            return self._past_values(words, index + 1, glued)
        self._seen(flag, spelled, word.line, dotted)
        if flag.kind in ("bool", "switch"):
            self._switch(flag, spelled, glued, word.line)
            return index + 1
        return self._value(flag, spelled, glued, words, index, dotted=dotted)

    def _find(self, name: str, line: int) -> tuple[Flag | None, str]:
        """The flag of that name: exact, with underscores, with a dotted key, or a unique beginning of one."""
        table = flag_table().by_name
        spelled = name.split(".", 1)[0]
        if spelled.startswith("--"):
            spelled = "--" + spelled[2:].replace("_", "-")
        spelled = spelled.rstrip("+")
        if spelled in table:
            return table[spelled], spelled
        longer = sorted(key for key in table if spelled.startswith("--") and key.startswith(spelled))
        if len({table[key].name for key in longer}) == 1 and len(spelled) > 4:
            self.add(
                "flag_abbreviated",
                "warning",
                line,
                f"{spelled} is an abbreviation of {longer[0]}; it breaks as soon as vLLM adds a flag that begins so",
                f"write {longer[0]}",
                spelled,
            )
            return table[longer[0]], longer[0]
        message = f"{spelled[:60]} is no flag of vLLM {flag_table().version}"
        if longer:
            message = f"{spelled[:60]} is ambiguous: {', '.join(longer[:6])}"
        self.add("flag_unknown", "error", line, message, suggestion(spelled[:60]), spelled[:60])
        return None, spelled

    def _seen(self, flag: Flag, spelled: str, line: int, dotted: bool) -> None:
        if flag.keyword in self.lines and not dotted and flag.keyword != "middleware":
            self.add(
                "flag_repeated",
                "warning",
                line,
                f"{spelled} is given twice (first in line {self.lines[flag.keyword]}); the last one wins",
                "keep one",
                spelled,
            )
        self.lines[flag.keyword] = line

    def _switch(self, flag: Flag, spelled: str, glued: str | None, line: int) -> None:
        if glued is not None:
            self.add(
                "flag_takes_no_value", "error", line, f"{spelled} takes no value", f"write {spelled} alone", spelled
            )
        self.values[flag.keyword] = not spelled.startswith("--no-")

    def _value(
        self, flag: Flag, spelled: str, glued: str | None, words: list[Word], index: int, *, dotted: bool
    ) -> int:
        """Read the value or values of ``flag``; returns the index after them."""
        line = words[index].line
        after = index + 1
        if glued is not None:
            given = [Word(text=glued, line=line)]
        else:
            end = self._past_values(words, after, None)
            limit = end if flag.kind == "list" else min(end, after + 1)
            given = words[after:limit]
            after = limit
        if not given or (given[0].text == "" and flag.kind != "str"):
            if flag.kind != "optional":
                self.add("value_missing", "error", line, f"{spelled} needs a value", f"write {spelled} VALUE", spelled)
            return after
        if flag.keyword in SECRET and not any(word.variable for word in given):
            self.add(
                "secret_in_plain_text",
                "warning",
                line,
                f"{spelled} carries a secret in plain text (not repeated here), for process lists and histories",
                "set HF_TOKEN or VLLM_API_KEY in the environment from a secret store",
                spelled,
            )
        for word in given:
            problem = (
                "" if word.variable or dotted else value_problem(flag, word.text) or _json_problem(flag, word.text)
            )
            if problem:
                self.add("value_not_allowed", "error", word.line, f"{spelled}: {problem}", _allowed(flag), spelled)
                return after
        if not any(word.variable for word in given) and not dotted:
            self.values[flag.keyword] = given[0].text
        return after

    @staticmethod
    def _past_values(words: list[Word], index: int, glued: str | None) -> int:
        """The index of the next flag: what stands before it may be values of the flag just read."""
        if glued is not None:
            return index
        while index < len(words) and (
            not words[index].text.startswith("-") or _NUMBER.fullmatch(words[index].text) is not None
        ):
            index += 1
        return index

    def _whole(self) -> None:
        start = self.command.start.line
        for name, value in self.command.environment.items():
            if value and "$" not in value and SECRET_VARIABLE.search(name):
                self.add(
                    "secret_in_plain_text",
                    "warning",
                    start,
                    f"{name} is given in plain text (not repeated here), for histories to keep",
                    "export it from a secret store before the command",
                    name,
                )
        if self.command.form == "module":
            self.add(
                "module_form_deprecated",
                "info",
                start,
                f"vLLM {flag_table().version} calls `python -m {_MODULE}` deprecated; it still works",
                "write `vllm serve MODEL` with the same flags when you move on",
            )
        if "model" not in self.values and not self.positional and "config" not in self.lines and not self.opaque:
            default = flag_table().flags["model"].default
            if "model" not in self.lines:
                self.add(
                    "model_missing",
                    "warning",
                    start,
                    f"no model is named: vLLM serves its default, {default}",
                    "add --model MODEL",
                )
        for word in (item for item in self.positional[1:] if not item.variable):
            # Behind a flag that takes a secret a stray word may be the rest of it.
            shown = "a word (not repeated here)" if SECRET & self.lines.keys() else repr(word.text[:60])
            self.add(
                "argument_unexpected",
                "error",
                word.line,
                f"{shown} belongs to no flag",
                "remove it, or quote the value that it is part of",
            )
        judge(self.values, self._gpus(), self._judged)

    def _judged(self, code: str, severity: Severity, argument: str, message: str, fix: str) -> None:
        self.add(code, severity, self.lines.get(argument, self.command.start.line), message, fix, argument)

    def _gpus(self) -> int | None:
        """GPUs of the host, as far as the command or the user says."""
        visible = self.command.environment.get("CUDA_VISIBLE_DEVICES", "")
        if visible and "$" not in visible:
            return len([part for part in visible.split(",") if part.strip()])
        return self.options.gpus_per_node


def _json_problem(flag: Flag, text: str) -> str:
    if flag.kind != "json" or not text.lstrip().startswith(("{", "[")):
        return ""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({str(error)[:60]})"
    return ""


def _allowed(flag: Flag) -> str:
    if flag.choices:
        return f"use one of {', '.join(map(str, flag.choices[:12]))}"
    words = {"int": "a whole number", "float": "a number", "human-int": "a number such as 8192 or 32k", "json": "JSON"}
    return f"give {words.get(flag.kind, 'another value')}"
