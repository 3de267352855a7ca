"""The address of a Ray cluster as somebody wrote it. Imports nothing of Ray: commands check it before they start anything."""

from __future__ import annotations

import re

from spanwise.errors import InputError

_FORM = re.compile(r"auto|(?:ray://)?(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def ray_address(text: str, *, where: str = "--ray") -> str:
    """``text`` where it can be an address.

    Raises:
        InputError: It is none; its words are not repeated where they may hold a password.
    """
    if not text.strip():
        raise InputError("is empty", where=where, remedy="name a cluster (host:port, auto), or leave it away")
    if "@" in text:
        raise InputError("a Ray address carries no user and no password", where=where, remedy="write host:port")
    if len(text) > 300 or not _FORM.fullmatch(text.strip()):
        raise InputError(
            f"{text[:80]!r} is no address of a Ray cluster", where=where, remedy="write host:port, or auto"
        )
    return text.strip()
