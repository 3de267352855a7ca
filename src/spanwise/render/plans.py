"""What several plans, or one that somebody else wrote, must not be before files are made of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spanwise.errors import PlanError
from spanwise.render.lint.engine import SECRET, SECRET_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

# What a pasted secret looks like wherever it stands: a token of the model hub, a password inside an address.
SECRET_TEXT = re.compile(r"\bhf_[A-Za-z0-9]{16,}|://[^/\s@]*:[^/\s@]+@")


def refuse_same_names(plans: Sequence[Plan]) -> None:
    """Two models of one name cannot stand behind one door.

    Raises:
        PlanError: Two plans share a name or a served name.
    """
    for attribute in ("name", "served name"):
        names = [plan.name if attribute == "name" else plan.model.served_name for plan in plans]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PlanError(
                f"two plans have the {attribute} {twice[0]!r}",
                remedy="give each plan once; two deployments of one model are `replicas` of one plan",
            )


def refuse_secrets(plans: Sequence[Plan]) -> None:
    """Files are shown, copied and committed: what is secret goes into a Secret.

    Raises:
        PlanError: A plan carries one; the message names the place and not the value.
    """
    for plan in plans:
        for key, value in _leaves(plan.model_dump(mode="json", by_alias=True)):
            text = value if isinstance(value, str) else ""
            last = key.rsplit(".", 1)[-1]
            named = last in SECRET or SECRET_VARIABLE.search(last) is not None
            if (text and named) or SECRET_TEXT.search(text):
                raise PlanError(
                    f"{key[:200]} holds a secret (not repeated here); rendered files must not carry it",
                    where=plan.name,
                    remedy="plan without it, and give it to the containers: --token-secret, --env-secret, or the hosts' environment",
                )


def _leaves(value: Any) -> list[tuple[str, Any]]:
    """Every scalar with its dotted key; a setting counts under its own name."""
    found: list[tuple[str, Any]] = []
    level: list[tuple[str, Any]] = [("plan", value)]
    while level:
        key, item = level.pop()
        if isinstance(item, dict) and isinstance(item.get("name"), str) and "value" in item:
            found.append((f"{key}.{item['name']}", item["value"]))
        if isinstance(item, dict):
            # A key may itself be the secret.
            found += [(f"{key}.…", name) for name in item if isinstance(name, str)]
            level += [(f"{key}.{name}", inner) for name, inner in item.items()]
        elif isinstance(item, list | tuple):
            level += [(f"{key}[{index}]", inner) for index, inner in enumerate(item)]
        else:
            found.append((key, item))
    return found
