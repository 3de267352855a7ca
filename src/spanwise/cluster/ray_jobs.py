"""Commands on the hosts of a Ray cluster, as tasks pinned to nodes. A process: `python -m spanwise.cluster.ray_jobs ADDRESS`.

Speaks lines of JSON: first ``{"nodes": [{"name", "address"}]}`` or ``{"failed": reason}``; then takes
``{"id", "node", "command", "environment"}`` or ``{"end": id}``, and answers each command with ``{"id", "code", "text", "errors"}``. A
``{python}``
in a command is the interpreter of that node's workers. When standard input ends, everything that was started is ended.

What runs on the nodes travels with the task (this module is ``__main__`` here): nothing of spanwise needs to be installed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

LIFE_S = 900
HOST_LABEL = "spanwise.io/host"
_MOST_TEXT = 64 << 20


def on_node(command: list[str], environment: dict[str, str], life_s: float) -> dict[str, Any]:
    """Runs on the node: one command, which dies with the worker."""

    def die_with_parent() -> None:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    words = [sys.executable if word == "{python}" else word for word in command]
    process = subprocess.Popen(
        words,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - Linux, and the worker runs one task
    )
    try:
        out, errors = process.communicate(timeout=life_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
    return {
        "code": process.returncode,
        "text": out.decode(errors="replace")[:_MOST_TEXT],
        "errors": errors.decode(errors="replace")[-2000:],
    }


class Jobs:
    """Tasks under way, and the thread-safe way to say what became of them."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.lock = threading.Lock()
        self.under_way: dict[int, Any] = {}
        self.task = ray.remote(num_cpus=0, max_retries=0)(on_node)

    def say(self, document: dict[str, Any]) -> None:
        """One line."""
        with self.lock:
            _STDOUT.write(json.dumps(document) + "\n")
            _STDOUT.flush()

    def start(self, order: dict[str, Any]) -> None:
        """Start one command; a thread waits for its end."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        pinned = self.task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=order["node"], soft=False)
        )
        reference = pinned.remote(order["command"], order.get("environment") or {}, LIFE_S)
        self.under_way[order["id"]] = reference
        threading.Thread(target=self._wait, args=(order["id"], reference), daemon=True).start()

    def _wait(self, number: int, reference: Any) -> None:
        try:
            answer = self.ray.get(reference)
        except Exception as error:  # noqa: BLE001 - whatever Ray says of a task that is lost goes to the other side
            answer = {"code": 1, "text": "", "errors": f"{type(error).__name__}: {error}"[-600:]}
        self.say({"id": number, **answer})

    def end(self, number: int) -> None:
        """End one command."""
        reference = self.under_way.pop(number, None)
        if reference is not None:
            with contextlib.suppress(Exception):
                self.ray.cancel(reference, force=True)


_STDOUT = sys.stdout


def main() -> None:
    """Join, name the nodes, take orders until standard input ends."""
    sys.stdout = sys.stderr  # Ray prints there
    import ray

    try:
        ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", namespace="spanwise-probe")
    except (ConnectionError, RuntimeError, ValueError) as error:
        _STDOUT.write(json.dumps({"failed": str(error)[:600]}) + "\n")
        _STDOUT.flush()
        sys.exit(1)
    jobs = Jobs(ray)
    nodes = [
        {
            "node": node["NodeID"],
            "name": (node.get("Labels") or {}).get(HOST_LABEL, node["NodeManagerHostname"]),
            "address": node["NodeManagerAddress"],
        }
        for node in ray.nodes()
        if node["Alive"]
    ]
    jobs.say({"nodes": sorted(nodes, key=lambda node: node["name"]), "ray": ray.__version__})
    for line in sys.stdin:
        order = json.loads(line)
        if "end" in order:
            jobs.end(order["end"])
        else:
            jobs.start(order)
    for number in list(jobs.under_way):
        jobs.end(number)
    ray.shutdown()


if __name__ == "__main__":
    main()
