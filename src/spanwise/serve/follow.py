"""Following Serve applications until they run, and what their failures mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from spanwise.errors import ClusterError, EngineError

START_TIMEOUT_S = 600
HEARTBEAT_S = 20
# Serve says after 30 s that replicas wait for room; a cluster that takes longer than this to find some never does.
ROOM_TIMEOUT_S = 120
_NO_ROOM = "to be scheduled"

Say = Callable[..., None]


def await_running(
    serve: Any, say: Say, started: float, names: Sequence[str], patience_s: float = START_TIMEOUT_S
) -> None:
    """Follow the applications ``names`` until every deployment of each is healthy.

    Args:
        serve: The module ``ray.serve``.
        say: Takes an event and its fields.
        started: When the request began (``time.time()``).
        names: Applications.
        patience_s: Give up after so long.

    Raises:
        EngineError: A deployment failed, or nothing happened for too long.
        ClusterError: Replicas found no room on the cluster.
    """
    told: dict[str, str] = {}
    heard = submitted = time.time()
    crowded: dict[str, float] = {}
    while True:
        there = serve.status().applications
        applications = {name: there[name] for name in names if name in there}
        for application in applications.values():
            for name, deployment in application.deployments.items():
                state = str(deployment.status.value)
                if told.get(name) != state:
                    told[name] = state
                    say("deployment", name=name, state=state, after_s=round(time.time() - started, 1))
                message = deployment.message or ""
                if state == "DEPLOY_FAILED" or "failed to start" in message:
                    raise EngineError(reason_of(message), remedy="see the gang's log on its host")
                _find_room(name, message if state == "UPDATING" else "", crowded)
            if str(application.status.value) == "DEPLOY_FAILED":
                raise EngineError(reason_of(application.message), remedy="see the gang's log on its host")
        if len(applications) == len(names) and all(
            str(application.status.value) == "RUNNING" for application in applications.values()
        ):
            return
        if time.time() - heard > HEARTBEAT_S:
            heard = time.time()
            say("waiting", after_s=round(heard - started))
        if time.time() - submitted > patience_s:
            raise EngineError(f"the gangs were not ready within {patience_s:.0f} s", remedy="see `spanwise status`")
        time.sleep(0.5)


def _find_room(name: str, message: str, crowded: dict[str, float]) -> None:
    """Remember since when ``name`` waits for room.

    Raises:
        ClusterError: For too long.
    """
    if _NO_ROOM not in message:
        crowded.pop(name, None)
    elif time.time() - crowded.setdefault(name, time.time()) > ROOM_TIMEOUT_S:
        asked = message.split(_NO_ROOM, 1)[1].lstrip(" .")[:300]
        raise ClusterError(
            f"{name} found no room on the cluster: {asked}",
            remedy="compare the bundles it asks for with the hosts' GPUs, CPUs and custom resources",
        )


def reason_of(message: str | None) -> str:
    """The last exception line of a Serve failure message: its cause, without the tracebacks around it."""
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0] or line.startswith("RuntimeError")]
    return (errors[-1] if errors else lines[-1] if lines else "no reason given")[:600]
