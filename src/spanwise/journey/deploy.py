"""Run the driver (serve/driver.py) on a host of the lab or against a cluster, and turn its events into our errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spanwise import errors
from spanwise.errors import ClusterError, EngineError, Interrupted, LabError, SpanwiseError
from spanwise.journey.events import Progress, Told
from spanwise.lab import enter
from spanwise.lab.logs import root_causes
from spanwise.lab.spec import LabState
from spanwise.lab.wiring import SERVE_PORT
from spanwise.plan.types import Plan
from spanwise.serve.follow import START_TIMEOUT_S

JOIN_TIMEOUT_S = 60
# A hang limit for a loaded machine: four ranks took up to 450 s on two cores beside other work.
START_PER_RANK_S = 120
# Events that answer a request; all others are told as they come.
_ANSWERS = ("ready", "status", "removed", "described", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where plans run: a lab, or the address of a Ray cluster that this machine can reach."""

    lab: LabState | None = None
    ray_address: str | None = None

    @property
    def endpoint(self) -> str:
        """URL of the door as this machine reaches it."""
        return self.lab.endpoint if self.lab else f"http://127.0.0.1:{SERVE_PORT}"


def _start(target: Target, errors_to: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "spanwise.serve.driver"]
    options: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": errors_to,
        "text": True,
        "start_new_session": True,
    }
    if target.lab is not None:
        return enter.start(target.lab, target.lab.hosts[0], command, **options)
    return subprocess.Popen(
        command,
        env=os.environ | {"RAY_ADDRESS": target.ray_address or "auto", "RAY_USAGE_STATS_ENABLED": "0"},
        **options,
    )


def _error(event: dict[str, Any], log_tail: str) -> SpanwiseError:
    # Guard: beside foreign code the driver's words are not only ours; of the names in errors.py only those of errors are meant.
    named = getattr(errors, str(event.get("kind", "")), ClusterError)
    kind = named if isinstance(named, type) and issubclass(named, SpanwiseError) else ClusterError
    error: SpanwiseError = kind(event["what"], where="serving", remedy=event.get("remedy", ""))
    if log_tail and kind in (ClusterError,):
        error.remedy = f"{error.remedy}\n  last words of the driver: {log_tail}"
    return error


def drive(target: Target, request: dict[str, Any], on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Send one request to the driver and follow its events.

    Args:
        target: Where it runs.
        request: ``{"do": "deploy" | "apply" | "status" | "remove" | "describe", ...}`` (serve/driver.py).
        on_event: Called for every event but the answer, when it comes.

    Returns:
        The last event.

    Raises:
        SpanwiseError: What the driver reported, as our own class; ClusterError when it died without a word.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = _start(target, log)
        assert process.stdin is not None
        assert process.stdout is not None
        # Ray itself waits for minutes for a cluster that is not there.
        watchdog = threading.Timer(JOIN_TIMEOUT_S, _end, args=(process,))
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            last: dict[str, Any] = {}
            for line in process.stdout:
                last = json.loads(line)
                if last["event"] not in _ANSWERS:
                    on_event(last)
                if last["event"] == "joining":
                    watchdog.start()
                elif last["event"] == "joined":
                    watchdog.cancel()
            process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            watchdog.cancel()
        log.seek(0)
        tail = " | ".join(line.strip() for line in log.read().splitlines()[-4:] if line.strip())
    # A driver that goes down with the lab may say so in Ray's words first; input that was refused needs no second look.
    unanswered = last.get("event") not in _ANSWERS or last.get("kind") in ("ClusterError", "EngineError")
    if target.lab is not None and unanswered and _lab_is_gone(target.lab):
        raise LabError(
            "the lab was taken down meanwhile",
            where="serving",
            remedy="bring it up and try again; `spanwise lab down` in another terminal ends what runs on it",
        )
    if last.get("event") == "joining":
        raise ClusterError(
            f"no Ray cluster answered within {JOIN_TIMEOUT_S} s",
            where=f"--ray {target.ray_address}" if target.ray_address else "the lab",
            remedy="check the address; `ray status --address ADDRESS` must work from this machine",
        )
    if last.get("event") == "failed":
        error = _error(last, tail)
        if isinstance(error, EngineError) and target.lab is not None and (causes := root_causes(target.lab)):
            error.remedy = "the engine's own words:\n     " + "\n     ".join(causes)
        raise error
    if process.returncode or last.get("event") not in _ANSWERS:
        raise ClusterError(
            f"the driver on the cluster ended with status {process.returncode}",
            where="serving",
            remedy=tail or "run again with --debug",
        )
    return last


def _end(process: subprocess.Popen[str]) -> None:
    """End the driver's whole process group (nsenter and what it entered)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


_GOING_S = 3.0


def _lab_is_gone(lab: LabState) -> bool:
    """True where the lab that we started on is no longer there; a host that is going takes a moment."""
    deadline = time.monotonic() + _GOING_S
    while time.monotonic() < deadline:
        if not all(host.alive for host in lab.hosts):
            return True
        time.sleep(0.1)
    return False


def deploy(target: Target, plans: list[Plan], progress: Progress, *, clean_up: bool = False) -> list[dict[str, Any]]:
    """Serve ``plans`` and check that every rank stands where it was planned; plans that are served already are left alone.

    Args:
        target: Where they run.
        plans: All that shall be served; what else is served there is replaced.
        progress: Takes one line per step.
        clean_up: On an interrupt remove what was submitted; for callers who do not take down the target itself.

    Returns:
        The gangs as they are: id, model, plan_hash, ranks (rank, stage, tensor_rank, host, pid, address).

    Raises:
        StalePlanError: The cluster lacks a host or a GPU that a plan needs.
        MisplacedGang: A rank landed elsewhere.
        EngineError: An engine did not start.
        ClusterError: Ray did not answer.
        Interrupted: With ``clean_up``: what became of the gangs.
    """
    request = {
        "do": "deploy",
        "plans": [plan.model_dump(mode="json", by_alias=True) for plan in plans],
        # Inside the lab the door listens on the head's link address, which only the lab's relay reaches; elsewhere on loopback.
        "http_host": target.lab.hosts[0].address if target.lab else "127.0.0.1",
        "http_port": SERVE_PORT,
    }
    told = Told(progress, logs="`spanwise lab logs HOST`" if target.lab else "Ray's dashboard")
    try:
        gangs: list[dict[str, Any]] = drive(target, request, told)["gangs"]
    except KeyboardInterrupt:
        if clean_up:
            raise _withdrawn(target, progress, submitting=told.submitting) from None
        raise
    return gangs


def _withdrawn(target: Target, progress: Progress, *, submitting: bool) -> Interrupted:
    """Remove what an interrupted request put on the cluster; the words about it."""
    if not submitting:
        return Interrupted("interrupted; nothing was changed yet")
    progress("interrupted: removing the gangs that were starting")
    try:
        remove(target)
    except SpanwiseError as error:
        return Interrupted(
            f"interrupted; the gangs that were starting could not be removed: {error.what}", remedy="spanwise down"
        )
    kept = "the lab" if target.lab else "the Ray cluster"
    return Interrupted(f"interrupted; the gangs that were starting were removed, {kept} is still up")


def status(target: Target) -> dict[str, Any]:
    """What runs: ``{"models": [...], "gangs": [...]}``; empty lists when nothing does.

    Raises:
        ClusterError: Ray did not answer.
    """
    return drive(target, {"do": "status"}, lambda _: None)


def remove(target: Target) -> bool:
    """Stop what `deploy` started; False when there was nothing.

    Raises:
        ClusterError: Ray did not answer.
    """
    return bool(drive(target, {"do": "remove"}, lambda _: None)["removed"])


def apply_config(target: Target, config: dict[str, Any], progress: Progress, *, ranks: int = 0) -> list[dict[str, Any]]:
    """Apply a Serve config file, as KubeRay does, and wait until everything of it runs.

    Args:
        target: Where; nothing else is served there.
        config: The config; whoever calls has made it of known parts.
        progress: Takes one line per step.
        ranks: How many engines import on one machine's cores; more than a few are waited for longer.

    Returns:
        Replicas with bundles of their own: application, deployment, hosts (one per bundle).

    Raises:
        ManifestError: Ray's schema refuses the config.
        EngineError: An engine did not start.
        ClusterError: Ray did not answer, or found no room.
    """
    request = {
        "do": "apply",
        "config": config,
        "patience_s": START_TIMEOUT_S + START_PER_RANK_S * ranks,
        "http_host": target.lab.hosts[0].address if target.lab else "127.0.0.1",
        "http_port": SERVE_PORT,
    }
    replicas: list[dict[str, Any]] = drive(target, request, Told(progress, logs="`spanwise lab logs HOST`"))["replicas"]
    return replicas


def describe(target: Target) -> dict[str, Any]:
    """What a cluster is and serves: ``ray_version``, ``nodes``, ``applications``; changes nothing.

    Raises:
        InputError: It runs another version of Ray.
        ClusterError: It did not answer.
    """
    return drive(target, {"do": "describe"}, lambda _: None)
