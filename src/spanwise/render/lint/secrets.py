"""A last look at every finding: a secret of the file must not stand in what is printed, wherever a slip has put it.

The rules do not repeat what stands in a secret's place. This module is for the secret that stands in another one: a
token behind the wrong flag, an assignment after the command instead of before it, a password where a number belongs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanwise.render.lint.finding import Finding

_NAME = r"(?:token|secret|passw(?:or)?d|passphrase|_pass|(?:api|access|private|secret)[_-]?key)"
_VALUE = r"[\"']?([^\s\"',;}{\[\]]{6,})"
# `hf_token: x`, `HF_TOKEN=x`, `--api-key x` (also as two items of a list), and a Kubernetes variable's `name: HF_TOKEN` with
# `value: x` behind it.
_GIVEN = (
    re.compile(rf"{_NAME}[\"']?\s{{0,9}}[:=]\s{{0,9}}{_VALUE}", re.IGNORECASE),
    re.compile(rf"--[a-z-]{{0,20}}{_NAME}[\s=]{{1,9}}{_VALUE}", re.IGNORECASE),
    re.compile(rf"--[a-z-]{{0,20}}{_NAME}[\"']?,?\s{{1,60}}(?:-\s{{1,9}})?(?![\"']?-){_VALUE}", re.IGNORECASE),
    re.compile(rf"{_NAME}[\"']?,?\s{{1,40}}[\"']?value[\"']?:\s{{0,9}}{_VALUE}", re.IGNORECASE),
)
# What looks like a secret by itself (Hugging Face, OpenAI, GitHub, AWS, Slack, JSON web tokens), and NAME=VALUE.
_SHAPES = re.compile(
    r"\b(?:hf_|sk-|gh[pousr]_|AKIA|ASIA|xox[abpr]-|eyJ)[A-Za-z0-9_.-]{8,}"
    r"|(?<=TOKEN=)[^\s'\"]+|(?<=SECRET=)[^\s'\"]+|(?<=PASSWORD=)[^\s'\"]+|(?<=PASSWD=)[^\s'\"]+|(?<=_PASS=)[^\s'\"]+"
    r"|(?<=_KEY=)[^\s'\"]+"
)
# Line ends of a text inside a quoted one: a Serve config written as "applications:\n- name: …".
_QUOTED_LINE_END = re.compile(r"\\n|\\[ ]{0,9}\n[ ]{0,60}\\?")
_SHOWN = "(not shown)"
# Messages cut long values: the beginning of a secret is one too.
_BEGINNING = 12


def without_secrets(findings: list[Finding], text: str) -> list[Finding]:
    """``findings`` with every secret of ``text``, and what looks like one, left out of their words."""
    texts = [text, _QUOTED_LINE_END.sub("\n", text)] if "\\" in text else [text]
    given = {match[1] for each in texts for pattern in _GIVEN for match in pattern.finditer(each)}
    beginnings = sorted((re.escape(secret[:_BEGINNING]) for secret in given), key=len, reverse=True)
    known = re.compile("|".join(rf"{beginning}[^\s'\"]*" for beginning in beginnings)) if beginnings else None

    def clean(words: str) -> str:
        words = known.sub(_SHOWN, words) if known else words
        return _SHAPES.sub(_SHOWN, words)

    return [
        replace(finding, message=clean(finding.message), path=clean(finding.path), fix=clean(finding.fix))
        for finding in findings
    ]
