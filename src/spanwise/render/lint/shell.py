"""A shell text cut into commands of words, each word with its line. Nothing is expanded and nothing is run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_OPERATORS = ";&|()<>"
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


def _newlines_as_separators(text: str) -> str:
    """Line ends outside quotes become ``;``, continued lines become spaces, comments vanish; line numbers stay."""
    result: list[str] = []
    quote = ""
    index = 0
    at_word_start = True
    while index < len(text):
        char = text[index]
        following = text[index + 1 : index + 2]
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
