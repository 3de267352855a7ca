"""Waiting for hosts that are on their way: KubeRay submits the Serve config once the head is ready, before workers have joined."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from spanwise.errors import InputError, StalePlanError
from spanwise.plan.types import Plan
from spanwise.serve.inventory import selectors_for

# Serve builds an application in a task that may take as long as it likes, and one that failed stays failed until its config changes
# (ray.serve._private.application_state): giving up early costs a person, waiting costs nothing. A new node and an image with an
# engine in it (15 GB) take ten to twenty minutes.
WAIT_S = 1800.0
POLL_S = 2.0
# How often the log of Serve's controller hears what is missing.
TELL_S = 30.0

_LOG = logging.getLogger("ray.serve")


def wait_of(value: Any) -> float:
    """The seconds that ``wait_for_hosts_s`` gives.

    Raises:
        InputError: No number of seconds, zero or more.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InputError(
            f"{str(value)[:40]!r} is no time to wait",
            where="args.wait_for_hosts_s",
            remedy=f"give seconds, 0 or more; left out, it is {WAIT_S:.0f}",
        )
    return float(value)


def await_hosts(
    read_nodes: Callable[[], list[dict[str, Any]]],
    plans: Sequence[Plan],
    wait_s: float = WAIT_S,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[dict[str, dict[str, str]]]:
    """How the hosts of each plan are found in the cluster, as soon as they all are there.

    Args:
        read_nodes: ``ray.nodes``.
        plans: Plans that are served together.
        wait_s: How long hosts may take to join; 0 looks once.
        clock: Seconds that only grow.
        sleep: Passes time.

    Raises:
        StalePlanError: After ``wait_s`` something is still missing; says what.
    """
    started = told = clock()
    while True:
        try:
            return selectors_for(read_nodes(), plans)
        except StalePlanError as missing:
            now = clock()
            left = started + wait_s - now
            if left <= 0:
                waited = f" (waited {now - started:.0f} s for hosts to join)" if wait_s else ""
                raise StalePlanError(f"{missing.what}{waited}", remedy=missing.remedy) from None
            if now - told >= TELL_S or now == started:
                told = now
                _LOG.info("waiting for hosts to join, at most %.0f s more: %s", left, missing.what)
        sleep(min(POLL_S, left))
