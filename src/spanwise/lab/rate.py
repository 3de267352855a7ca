"""Another rate for all links of a running lab: on all of them or on none, and never for a lab that has gone meanwhile."""

from __future__ import annotations

import contextlib
from typing import Any

from spanwise.errors import LabError
from spanwise.lab import state as state_file
from spanwise.lab.links import ends, shape
from spanwise.lab.spec import LabState

_LOCK_WAIT_S = 3
_AGAIN = "take the lab down and up again: `spanwise lab down`"


def change_rate(asked: LabState, rate_bit_per_s: float | None) -> LabState:
    """Give every link of the lab ``asked`` another rate, in both directions; None takes the limit away.

    Holds the lab's lock, so that no other command brings a lab up or down meanwhile.

    Returns:
        The state as it is now and as it was written.

    Raises:
        InputError: Another command holds the lock.
        LabError: The loopback fallback, which has no links; a host or the lab has gone; or a link could not be changed.
    """
    if asked.isolation == "loopback":
        raise LabError(
            "this lab has no links: its hosts are addresses of one machine (isolation loopback)",
            where="lab rate",
            remedy="a lab in namespaces has links: spanwise lab up --isolation userns",
        )
    with state_file.lock(wait_s=_LOCK_WAIT_S):
        state = _still_up(asked)
        gone = [host.name for host in state.hosts if not host.alive]
        if gone:
            raise LabError(
                f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone: no link was changed",
                where="lab rate",
                remedy=_AGAIN,
            )
        _all_or_none(state, rate_bit_per_s)
        # The keeper may have died by itself: its state must not be written back.
        state = _still_up(asked)
        changed: dict[str, Any] = {
            "rate_bit_per_s": rate_bit_per_s,
            "link": "unlimited" if rate_bit_per_s is None else f"rate {rate_bit_per_s / 1e6:g}mbit",
            "scale": 1.0,
        }
        return _written(state, changed)


def _still_up(asked: LabState) -> LabState:
    """The lab as its file has it now.

    Raises:
        LabError: It has gone, or another one stands there.
    """
    state = state_file.read()
    if state is not None and state.token == asked.token:
        return state
    if state is None:
        with contextlib.suppress(OSError):  # the lock made the directory again, where the lab's end had removed it
            state_file.state_path().parent.rmdir()
    raise LabError(
        "the lab has gone meanwhile" if state is None else "another lab has come up meanwhile",
        where="lab rate",
        remedy="see `spanwise lab status`",
    )


def _all_or_none(state: LabState, rate_bit_per_s: float | None) -> None:
    """Change every end; where one fails, give those that were changed their old rate again.

    Raises:
        LabError: An end could not be changed; says so where one could not be put back either.
    """
    touched: list[tuple[str, int, str]] = []
    try:
        for end in ends(state):
            touched.append(end)
            shape(state, *end[1:], rate_bit_per_s)
    except BaseException as error:
        left = _put_back(state, touched)
        if isinstance(error, LabError):
            what = f"{error.what}; the other links have their old rate again"
            if left:
                what = f"{error.what}; the links of {', '.join(left)} could not be given their old rate again"
            raise LabError(what, where="lab rate", remedy=_AGAIN if left else error.remedy) from None
        raise


def _put_back(state: LabState, touched: list[tuple[str, int, str]]) -> list[str]:
    """Give ends their old rate; the living hosts for which that failed, which the state file then says."""
    failed = []
    for name, target, device in touched:
        try:
            shape(state, target, device, state.spec.rate_bit_per_s)
        except LabError:
            failed.append(name)
    left = sorted({host.name for host in state.hosts if host.name in failed and host.alive})
    if left:
        with contextlib.suppress(LabError):
            _written(_still_up(state), {"link": f"{state.spec.link}; unknown for {', '.join(left)}: a change failed"})
    return left


def _written(state: LabState, changes: dict[str, Any]) -> LabState:
    now = state.model_copy(update={"spec": state.spec.model_copy(update=changes)})
    state_file.write(now)
    return now
