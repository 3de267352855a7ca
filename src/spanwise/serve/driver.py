"""The driver that runs plans on a Ray cluster. Runs on one of its hosts; speaks JSON lines with whoever started it.

Input, one JSON document on standard input: ``{"do": "deploy", "plans": [...], "http_host": "...", "http_port": 8000}``,
``{"do": "status"}``, ``{"do": "remove"}``, ``{"do": "apply", "config": {...}, ...}`` (a Serve config) or ``{"do": "describe"}``.
Output: one JSON object per line, ``{"event": ..., ...}``; the last one answers the request, or is ``failed`` with a kind (the
name of an error class), what and remedy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from typing import Any

from spanwise.errors import ClusterError, InputError, MisplacedGang, SpanwiseError
from spanwise.serve.follow import await_running
from spanwise.serve.inventory import check_gpus, host_selectors, hosts_by_node

APPLICATION = "spanwise"
GANG_PREFIX = "gang-"
# A gang that serves answers at once; one that starts, or hangs, is not waited for.
ANSWER_S = 20


def say(event: str, **fields: Any) -> None:
    """One event, on the real standard output (Ray's own prints go to standard error)."""
    _STDOUT.write(json.dumps({"event": event, **fields}) + "\n")
    _STDOUT.flush()


_STDOUT = sys.stdout


def gang_ranks(serve: Any, host_of: dict[str, str], name: str) -> list[dict[str, Any]]:
    """Where every rank of the deployment ``name`` is, asked of the ranks themselves."""
    handle = serve.get_deployment_handle(name, APPLICATION)
    reports: list[dict[str, Any]] = handle.ranks.remote().result(timeout_s=60)
    return [{**rank, "host": host_of.get(rank["node_id"], "?")} for rank in reports]


def placement(serve: Any, nodes: list[dict[str, Any]], plans: list[Any]) -> list[dict[str, Any]]:
    """Where every rank really is; a gang that landed elsewhere than planned is an error, not a surprise.

    Raises:
        MisplacedGang: A rank is on another host than planned, or missing.
    """
    host_of = hosts_by_node(nodes)
    gangs = []
    for plan in plans:
        for gang in plan.gangs:
            found = gang_ranks(serve, host_of, f"{GANG_PREFIX}{gang.id}")
            planned = [(rank.rank, rank.stage, rank.tensor_rank, rank.host) for rank in gang.ranks]
            real = [(rank["rank"], rank["stage"], rank["tensor_rank"], rank["host"]) for rank in found]
            if planned != real:
                wrong = [
                    f"rank {p[0]}: planned {p[3]}, found {r[3]}" for p, r in zip(planned, real, strict=False) if p != r
                ]
                raise MisplacedGang(
                    f"gang {gang.id} stands elsewhere than planned: {'; '.join(wrong) or f'{len(real)} ranks of {len(planned)}'}",
                    remedy="nothing is served from it; it was taken down",
                )
            gangs.append({"id": gang.id, "model": plan.model.served_name, "plan_hash": plan.hash, "ranks": found})
    return gangs


# Ray's own check of a driver against its cluster, done before anything else (ray/_private/utils.py, check_version_info).
_FOREIGN = re.compile(r"Version mismatch.*?Ray: (\S+)", re.DOTALL)


def connect(request: dict[str, Any]) -> Any:
    """Join the cluster as a driver.

    Raises:
        ClusterError: No Ray cluster answers.
        InputError: The cluster runs another version of Ray.
    """
    import ray

    say("joining")
    try:
        ray.init(
            address=request.get("ray_address", "auto"), log_to_driver=False, logging_level="ERROR", namespace="serve"
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if foreign := _FOREIGN.search(str(error)):
            raise InputError(
                f"the cluster runs Ray {foreign[1]}, this spanwise runs with {ray.__version__}; nothing was changed there",
                remedy="docs/versions.md holds the tested versions; use an environment with the cluster's Ray, or move the cluster",
            ) from error
        raise ClusterError(
            f"no Ray cluster answers: {error}"[:400], remedy="check the address; `ray status` must work"
        ) from error
    say("joined")
    return ray


def deploy(request: dict[str, Any]) -> None:
    """Serve the plans of ``request`` and report where their ranks stand."""
    from spanwise.plan.types import Plan

    plans = [Plan.model_validate(plan) for plan in request["plans"]]
    started = time.time()
    ray = connect(request)
    from ray import serve

    nodes = ray.nodes()
    selectors = host_selectors(nodes, {rank.host for plan in plans for gang in plan.gangs for rank in gang.ranks})
    check_gpus(nodes, plans)
    say("connected", hosts=len([node for node in nodes if node["Alive"]]), after_s=round(time.time() - started, 1))

    there = _there(serve)
    if there == {gang.id: f"plan {plan.hash}" for plan in plans for gang in plan.gangs}:
        with contextlib.suppress(MisplacedGang):  # then it is replaced like another plan
            gangs = placement(serve, nodes, plans)
            say("serving")
            say("ready", gangs=gangs, after_s=round(time.time() - started, 1))
            return
    if there:
        say("replacing", gangs=there)

    say("preparing")
    from spanwise.serve.application import build_application

    serve.start(http_options={"host": request["http_host"], "port": request["http_port"], "location": "HeadOnly"})
    # What the application is made of travels with it: `status` on any later day needs no file of ours.
    target = serve.RunTarget(
        target=build_application(plans, [selectors] * len(plans)), name=APPLICATION, route_prefix="/"
    )
    say("submitting")
    serve.run_many([target], wait_for_applications_running=False)  # we follow the start ourselves, to say what happens
    say("submitted", after_s=round(time.time() - started, 1))
    try:
        await_running(serve, say, started, [APPLICATION])
        gangs = placement(serve, nodes, plans)
    except SpanwiseError:
        serve.delete(APPLICATION)
        raise
    say("ready", gangs=gangs, after_s=round(time.time() - started, 1))


def _there(serve: Any) -> dict[str, str]:
    """What each gang on the cluster is: ``plan HASH`` by its own word where it is served, else its state."""
    application = serve.status().applications.get(APPLICATION)
    if application is None:
        return {}
    running = str(application.status.value) == "RUNNING"
    found = {}
    for name, deployment in application.deployments.items():
        if not name.startswith(GANG_PREFIX):
            continue
        gang, state = name.removeprefix(GANG_PREFIX), str(deployment.status.value)
        found[gang] = state_word(state)
        if running and state == "HEALTHY":
            with contextlib.suppress(Exception):  # whatever ails it: it is not what was asked for, and is replaced
                described = serve.get_deployment_handle(name, APPLICATION).describe.remote().result(timeout_s=60)
                found[gang] = f"plan {described['plan_hash']}"
    return found


def state_word(state: str) -> str:
    """Ray Serve's state of a deployment as people call it."""
    return "starting" if state == "UPDATING" else state.lower()


def status(request: dict[str, Any]) -> None:
    """What runs, gang by gang."""
    ray = connect(request)
    from ray import serve

    application = serve.status().applications.get(APPLICATION)
    host_of = hosts_by_node(ray.nodes())
    gangs = []
    for name, deployment in (application.deployments if application else {}).items():
        if not name.startswith(GANG_PREFIX):
            continue
        state = str(deployment.status.value)
        described = (
            serve.get_deployment_handle(name, APPLICATION).describe.remote().result(timeout_s=60)
            if state == "HEALTHY"
            else {}
        )
        gangs.append(
            {
                "id": name.removeprefix(GANG_PREFIX),
                "model": described.get("model"),
                "plan_hash": described.get("plan_hash"),
                "domain": described.get("domain"),
                "epoch": described.get("epoch", 0),
                "state": state_word(state),
                "ranks": gang_ranks(serve, host_of, name) if state == "HEALTHY" else [],
            }
        )
    say("status", gangs=gangs, models=sorted({gang["model"] for gang in gangs if gang["model"]}))


def remove(request: dict[str, Any]) -> None:
    """Stop the application."""
    connect(request)
    from ray import serve

    there = APPLICATION in serve.status().applications
    if there:
        serve.delete(APPLICATION)
    say("removed", removed=there)


def apply(request: dict[str, Any]) -> None:
    """Apply a Serve config file and report where its replicas stand."""
    ray = connect(request)
    from spanwise.serve.config import apply_config

    say("ready", replicas=apply_config(ray, request, say))


def describe(request: dict[str, Any]) -> None:
    """What the cluster is and serves; changes nothing."""
    ray = connect(request)
    from ray import serve

    from spanwise.serve.config import describe as described

    found = described(ray)
    for application in found["applications"]:
        if application["name"] == APPLICATION and not application["config"]:
            application["plans"], application["silent"] = _plans_of_gangs(serve)
    say("described", **found)


def _plans_of_gangs(serve: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The plans that our own application serves, by the word of its gangs, and the gangs that did not say."""
    found: dict[str, dict[str, Any]] = {}
    silent = []
    for name in serve.status().applications[APPLICATION].deployments:
        if not name.startswith(GANG_PREFIX):
            continue
        try:
            described = serve.get_deployment_handle(name, APPLICATION).describe.remote().result(timeout_s=ANSWER_S)
            found.setdefault(described["plan_hash"], described["plan"])
        except Exception:  # noqa: BLE001 - starting, dead, or of a version that carried no plan: said by name
            silent.append(name.removeprefix(GANG_PREFIX))
    return list(found.values()), silent


_REQUESTS = {"deploy": deploy, "status": status, "remove": remove, "apply": apply, "describe": describe}


def _leave_with_parent(parent: int) -> None:
    """End this process when the command that started it is gone (killed without a chance to end us)."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Read the request, act, report; never a traceback on standard output."""
    global _STDOUT  # noqa: PLW0603 - Ray prints to standard output; only events may stand there
    _STDOUT = sys.stdout
    sys.stdout = sys.stderr
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        request = json.loads(sys.stdin.read())
        _REQUESTS[request["do"]](request)
    except SpanwiseError as failure:
        say("failed", kind=type(failure).__name__, what=failure.what, remedy=failure.remedy)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it was, the other side gets an answer
        import traceback

        traceback.print_exc()
        say(
            "failed",
            kind="ClusterError",
            what=f"{type(error).__name__}: {error}"[:600],
            remedy="see the driver's last words below",
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
