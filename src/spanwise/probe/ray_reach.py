"""Hosts of a Ray cluster as the probe reaches them: by tasks pinned to nodes, through one process that speaks with Ray."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from typing import Any, Self

from spanwise.errors import ClusterError
from spanwise.probe.reach import Answer, Host

# Ray itself waits for minutes for a cluster that is not there.
JOIN_S = 60.0


class RayJob:
    """A task on a node."""

    def __init__(self, reach: RayReach, number: int) -> None:
        self._reach, self._number, self._started = reach, number, time.monotonic()
        self.box: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answer: Answer | None = None

    def result(self, patience_s: float) -> Answer:
        """See :class:`spanwise.probe.reach.Job`."""
        if self._answer is None:
            try:
                said = self.box.get(timeout=max(0.1, patience_s))
                self._answer = Answer(
                    code=said["code"],
                    text=said["text"],
                    errors=said["errors"],
                    seconds=time.monotonic() - self._started,
                )
            except queue.Empty:
                self.end()
                self._answer = Answer(code=None, text="", errors="", seconds=time.monotonic() - self._started)
        return self._answer

    def end(self) -> None:
        """See :class:`spanwise.probe.reach.Job`."""
        if self._answer is None:
            self._reach.order({"end": self._number})
            # Whoever waits for it in another thread is not kept until the cluster has said so.
            self.box.put({"code": None, "text": "", "errors": ""})


class RayReach:
    """The nodes of a cluster; a context manager, so that the process between is ended."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.hosts: tuple[Host, ...] = ()
        self._nodes: dict[str, str] = {}
        self._jobs: dict[int, RayJob] = {}
        self._numbers = itertools.count()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Join the cluster.

        Raises:
            ClusterError: No cluster answers there.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "spanwise.cluster.ray_jobs", self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        )
        try:
            said = self._first_line(self._process)
        except BaseException:
            self.__exit__()
            raise
        self._nodes = {node["name"]: node["node"] for node in said["nodes"]}
        self.hosts = tuple(
            Host(name=node["name"], address=node["address"], python="{python}") for node in said["nodes"]
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _first_line(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        stdout = process.stdout
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=JOIN_S)
        except queue.Empty:
            line = ""
        said: dict[str, Any] = (
            json.loads(line) if line.startswith("{") else {"failed": f"no answer within {JOIN_S:.0f} s"}
        )
        if "failed" in said:
            raise ClusterError(
                f"no Ray cluster answers: {said['failed']}"[:400],
                where=f"--ray {self.address}"[:120],
                remedy="check the address; `ray status --address ADDRESS` must work from this machine",
            )
        return said

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            job = self._jobs.pop(said["id"], None)
            if job is not None:
                job.box.put(said)
        for job in self._jobs.values():
            job.box.put({"code": 1, "text": "", "errors": "the connection to the cluster ended"})

    def order(self, order: dict[str, Any]) -> None:
        """One line to the process; silent where it has gone (its jobs are told)."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> RayJob:
        """See :class:`spanwise.probe.reach.Reach`."""
        number = next(self._numbers)
        job = self._jobs[number] = RayJob(self, number)
        self.order({"id": number, "node": self._nodes[host.name], "command": command, "environment": environment or {}})
        return job

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
