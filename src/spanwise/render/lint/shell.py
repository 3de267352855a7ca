"""A shell text cut into commands of words, each word with its line. Nothing is expanded and nothing is run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_OPERATORS = ";&|()<>"
_CLOSING = {"(": ")", "{": "}"}
# Longer words and commands are no command that a person or a program writes for vLLM; reading them takes time that grows with its square.
_LONGEST_WORD, _MOST_WORDS = 8192, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of a command, quotes removed; ``line`` counts from 1."""

    text: str
    line: int

    @property
    def variable(self) -> bool:
        """True where the shell would put something else here: the value is not known."""
        return "$" in self.text or "`" in self.text


def commands(text: str) -> list[list[Word]]:
    """The commands of a script or a pasted line, in order.

    Raises:
        ValueError: A quotation that does not end, or a word or command too long to be one; the message names the line.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if any(len(word) > _LONGEST_WORD for word in line.split()):
            raise ValueError(f"line {number}: a word of more than {_LONGEST_WORD} characters")
    lexer = shlex.shlex(_newlines_as_separators(text), posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[Word]] = [[]]
    while True:
        start = lexer.lineno
        try:
            token = lexer.get_token()
        except ValueError as error:
            raise ValueError(f"line {start}: {str(error).lower()}") from None
        if token is None:
            return [command for command in found if command]
        if token and set(token) <= set(_OPERATORS):
            found.append([])
        else:
            found[-1].append(Word(text=token, line=lexer.lineno))
            if len(found[-1]) > _MOST_WORDS:
                raise ValueError(f"line {lexer.lineno}: a command of more than {_MOST_WORDS} words")


def _substitution_end(text: str, start: int) -> int:
    """The index behind the substitution that begins at ``start``; 0 where it has no end."""
    if text[start] == "`":
        return text.find("`", start + 1) + 1
    opening = text[start + 1]
    closing = _CLOSING[opening]
    depth = 0
    quoted = False
    index = start + 1
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif char == "'" and opening == "(":
            quoted = not quoted
        elif not quoted and char in (opening, closing):
            depth += 1 if char == opening else -1
            if not depth:
                return index + 1
        index += 1
    return 0


def _newlines_as_separators(text: str) -> str:
    """Line ends outside quotes become ``;``, continued lines become spaces, comments vanish; line numbers stay.

    A substitution (``$(cat key)``, ``${KEY:-a b}``) becomes part of its word: its blanks and operators are not the command's.
    """
    result: list[str] = []
    quote = ""
    index = 0
    at_word_start = True
    closed = True
    while index < len(text):
        char = text[index]
        following = text[index + 1 : index + 2]
        if char in "$`" and quote != "'" and closed and (char == "`" or following in _CLOSING):
            end = _substitution_end(text, index)
            if end:
                inner = text[index:end].replace("\\", "_").replace('"', "_")
                result.append(inner if quote else f'"{inner}"')
                index = end
                at_word_start = False
                continue
            closed = False  # not looked for again: that would take time that grows with its square
        if quote:
            quote = "" if char == quote else quote
            if char == "\\" and quote == '"':
                result.append(char + following)
                index += 2
                continue
            result.append(char)
        elif char == "\\" and following in ("\n", "\r"):
            skip = 3 if text[index + 1 : index + 3] == "\r\n" else 2
            result.append(" \n")
            index += skip
            at_word_start = True
            continue
        elif char == "\\":
            result.append(char + following)
            index += 2
            at_word_start = False
            continue
        elif char == "#" and at_word_start:
            end = text.find("\n", index)
            index = len(text) if end < 0 else end
            continue
        elif char == "\n":
            result.append(" ;\n")
        else:
            quote = char if char in "'\"" else ""
            result.append(char)
        at_word_start = char in " \t\r\n;&|("
        index += 1
    return "".join(result)
