"""A lab with engines on it that answer measuring orders (tools/lab_engine.py), for the tools that measure on the lab."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from spanwise.lab import bring, enter
from spanwise.lab.processes import command_line, descendants
from spanwise.lab.rate import change_rate
from spanwise.lab.spec import LabSpec, LabState

TOOLS = Path(__file__).resolve().parent
START_HANG_S, ORDER_HANG_S = 420.0, 600.0


class Engine:
    """One vLLM engine whose driver runs on host-1; its ranks stand on the first hosts of the lab, one on each."""

    def __init__(self, state: LabState, config: Path, *, log: Path, host: int = 0, **options: int) -> None:
        """Start it; `ready` waits for it.

        Args:
            state: The lab.
            config: config.json of the model; its weights are random.
            log: Takes what the engine prints.
            host: Index of the host on which the driver runs.
            options: Those of tools/lab_engine.py: tensor, pipeline, batched_tokens, kv_bytes.
        """
        command = [sys.executable, str(TOOLS / "lab_engine.py"), "--config", str(config)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self._log = log.open("w")
        self._keeper = state.keeper_pid
        self.options = options
        self.process: subprocess.Popen[str] = enter.start(
            state,
            state.hosts[host],
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.log = log
        self.said: dict[str, Any] = {}

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            enter.end(self.process)
        self._log.close()

    def _answer(self, patience_s: float) -> dict[str, Any]:
        """One line of the engine's, or its last words as an error."""
        assert self.process.stdout is not None
        stdout = self.process.stdout
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(patience_s)
        if not lines or not lines[0]:
            enter.end(self.process)
            tail = self.log.read_text(errors="replace")[-1500:]
            raise SystemExit(f"the engine {self.options} gave no answer; its last words:\n{tail}")
        found: dict[str, Any] = json.loads(lines[0])
        return found

    def ready(self) -> dict[str, Any]:
        """What it says of itself once it is up; from then on its ranks run as if each had a core of its own."""
        found = self._answer(START_HANG_S)
        found["realtime"] = self._run_at_once()
        return found

    def _run_at_once(self) -> bool:
        """Let the ranks, and before them the engine core, run whenever they can: True where the kernel allowed it.

        Hosts of a real cluster share no cores. Here Ray's daemons, and whatever else the machine does, hold a rank up for a timer tick of
        4 ms whenever it is woken: an all-reduce of 6 KB took 2.2 ms on average, and 0.26 ms with real-time priority.
        """
        core = [self.process.pid, *descendants(self.process.pid)]
        ranks = [pid for pid in descendants(self._keeper) if "RayWorkerProc" in " ".join(command_line(pid))]
        try:
            for pids, priority in ((core, 6), (ranks, 5)):
                for pid in pids:
                    for task in Path(f"/proc/{pid}/task").iterdir():
                        os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(priority))
        except PermissionError:
            return False
        return len(ranks) > 0

    def order(self, do: str, **fields: Any) -> dict[str, Any]:
        """One measurement."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        return self._answer(ORDER_HANG_S)


class Lab:
    """A lab of ``hosts`` hosts with one logical GPU each, as a context."""

    def __init__(self, hosts: int) -> None:
        self._spec = LabSpec(hosts=hosts, gpus_per_host=1, link="unlimited")
        self.state: LabState

    def __enter__(self) -> Lab:
        leash = bring.up(self._spec, port=0, wanted=None, progress=lambda text: print(f"  {text}", flush=True))
        leash.commit()
        self.state = leash.state
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        bring.down()

    def rate(self, mbit: float | None) -> None:
        """Every link at this rate from now on; None: not limited."""
        self.state = change_rate(self.state, None if mbit is None else mbit * 1e6)

    def ping(self, sizes: tuple[int, ...], repeats: int = 15) -> dict[int, list[float]]:
        """Milliseconds of all-reduces of these sizes (bytes) between the first two hosts."""
        words = [self.state.hosts[0].address, str(repeats), *map(str, sizes)]
        started = [
            enter.start(
                self.state, self.state.hosts[rank], [sys.executable, str(TOOLS / "lab_ping.py"), str(rank), *words],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=_run_at_once,
            )
            for rank in (1, 0)
        ]  # fmt: skip
        answer, _ = started[1].communicate(timeout=ORDER_HANG_S)
        started[0].wait(20)
        return {int(size): times for size, times in json.loads(answer).items()}


def _run_at_once() -> None:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
