#!/usr/bin/env python3
"""One vLLM engine on a host of the lab, measured on command: JSON lines in, JSON lines out. Started by tools/measure_lab.py.

    {"do": "loop", "prompt": 64, "output": 32, "concurrency": 8, "requests": 24}
    {"do": "prefill", "batch": 1, "tokens": 256}      {"do": "decode", "batch": 4, "prompt": 64}

The engine stays up between commands, so that the same ranks are measured under one link rate after another.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from measure_engine import Bench, summary

INTERFACE = "eth0"


def pin(worker: Any) -> tuple[int, int]:
    """Bind a rank to one core, as if it had a host of its own: its rank, and the core."""
    import os
    from pathlib import Path

    cores = sorted(os.sched_getaffinity(0))
    core = cores[worker.rank % len(cores)]
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
    return worker.rank, core


def main() -> None:
    """Start the engine, say so, then answer one command after another until standard input ends."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--config", type=Path, required=True, help="config.json of the model; its weights are random")
    ask.add_argument("--tensor", type=int, default=1)
    ask.add_argument("--pipeline", type=int, default=1)
    ask.add_argument("--batched-tokens", type=int, default=512)
    ask.add_argument("--kv-bytes", type=int, default=256 << 20)
    args = ask.parse_args()
    # Only answers may stand on standard output; the engine prints there too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # `pin` is sent to the ranks; all are ours
    bench = Bench(
        json.loads(args.config.read_text()),
        "float32",
        dtype="float32",
        tensor_parallel_size=args.tensor,
        pipeline_parallel_size=args.pipeline,
        distributed_executor_backend="ray",
        compilation_config={"mode": 2, "backend": "eager"},
        max_model_len=2048,
        max_num_batched_tokens=args.batched_tokens,
        max_num_seqs=64,
        gpu_memory_utilization=0.2,
        kv_cache_memory_bytes=args.kv_bytes,
    )
    pins = bench.llm.collective_rpc(pin)
    import torch
    import vllm

    say(
        ready=True,
        start_s=round(bench.init_s, 1),
        pins=pins,
        kv_capacity_tokens=bench.kv_capacity_tokens,
        async_scheduling=bool(bench.engine.vllm_config.scheduler_config.async_scheduling),
        versions={"vllm": vllm.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
    )
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        kind = order.pop("do")
        if kind == "loop":
            found = bench.loop(order["prompt"], order["output"], order["requests"], concurrency=order["concurrency"])
        elif kind == "prefill":
            found = summary(bench.prefill(order["batch"], order["tokens"], order.get("repeats", 3)))
        else:
            context, times = bench.decode(
                order["batch"], order["prompt"], order.get("windows", 3), order.get("window", 16)
            )
            found = {"context_tokens": round(context), **summary(times)}
        say(**found, took_s=round(time.perf_counter() - started, 2))


if __name__ == "__main__":
    main()
