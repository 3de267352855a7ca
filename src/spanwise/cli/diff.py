"""``spanwise diff``: two plans or two verdicts side by side."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from spanwise.cli import frame

_WIDTH = 48  # of one value; longer ones are cut in the table and whole in --json


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A plan or a verdict (JSON).")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind.")],
    as_json: frame.JsonFlag = False,
) -> None:
    """Two plans or verdicts side by side: every path at which they differ.

    `spanwise plan INTENT.yaml -o FILE` writes plans, `spanwise decide INTENT.yaml --json > FILE` verdicts.

    Example: spanwise diff out/plan.json out/two-hosts.json
    """
    frame.wants_json(as_json)
    from spanwise.plan.compare import SCHEMA
    from spanwise.plan.compare import diff as compare
    from spanwise.plan.load import read_json

    a, b = read_json(first), read_json(second)
    differences = compare(a, b)
    if as_json:
        frame.print_json(
            {
                "schema": SCHEMA,
                "of": a["schema"],
                "a": first,
                "b": second,
                "differences": [difference.as_json() for difference in differences],
            }
        )
        return
    if not differences:
        frame.echo("no difference")
        return
    rows = [
        (item.path, _shown(item.a, item.change == "only_b"), _shown(item.b, item.change == "only_a"))
        for item in differences
    ]
    rows.insert(0, ("", first, second))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for path, left, right in rows:
        frame.echo(f"{path:<{widths[0]}}  {left:<{widths[1]}}  {right}".rstrip())


def _shown(value: Any, absent: bool) -> str:
    if absent:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
