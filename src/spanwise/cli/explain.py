"""``spanwise decide --explain CODE``: what a code means, with the formula and the example of its page where the page is at hand."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from spanwise.cli import frame
from spanwise.errors import InputError

# A checkout has its pages beside its source; a wheel has none.
_CHECKOUT = Path(__file__).resolve().parents[3]
_OVERVIEW = "docs/verdicts.md"
_SHOWN = ("Formula", "Example")


def explain(code: str, *, as_json: bool) -> None:
    """Print what ``code`` means.

    Raises:
        InputError: No verdict has such a code; names those that look like it.
    """
    from spanwise.decide.codes import MEANINGS

    if code not in MEANINGS:
        near = _nearest(code, list(MEANINGS))
        remedy = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"no verdict has the code {code[:80]!r}",
            where="--explain",
            remedy=f"{remedy}{_OVERVIEW} lists all {len(MEANINGS)}",
        )
    page = f"docs/verdicts/{code}.md"
    parts = _parts(_CHECKOUT / page)
    if as_json:
        texts = {title.lower(): parts.get(title) for title in _SHOWN}
        frame.print_json({"code": code, "meaning": MEANINGS[code], **texts, "page": page})
        return
    frame.echo(MEANINGS[code])
    for title in _SHOWN:
        if title in parts:
            frame.echo(f"\n{title}\n\n{parts[title]}")
    frame.echo(
        f"\nThe page with sources and what to do: {page}" if parts else f"Formula, sources and an example: {page}"
    )


def _nearest(code: str, known: list[str]) -> list[str]:
    """At most three: those spelled alike, then those that hold the word."""
    held = [name for name in known if len(code) > 2 and code.lower() in name]
    return list(dict.fromkeys([*difflib.get_close_matches(code, known, n=3, cutoff=0.6), *held]))[:3]


def _parts(page: Path) -> dict[str, str]:
    """The sections of a page by title, links as plain words and fences left out; none where there is no page."""
    try:
        text = page.read_text("utf-8")
    except OSError:
        return {}
    sections = (section.split("\n", 1) for section in text.split("\n## ")[1:])
    return {title: _plain(body) for title, body in sections}


def _plain(markdown: str) -> str:
    lines = [line for line in markdown.strip("\n").splitlines() if not line.startswith("```")]
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", "\n".join(lines)).strip("\n")
