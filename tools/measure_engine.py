#!/usr/bin/env python3
"""Measure vLLM on one GPU: KV capacity, prefill and decode steps, closed and open loops, as one JSON file per model.

Needs vLLM and a GPU, no weights: the model is a shape with dummy weights. Run it for one model per process:

    python tools/measure_engine.py --model llama-3-8b --dtype bfloat16 --out results/gpu

``--gate FILE`` imports everything first and starts the engine when FILE exists, so that the next model's imports overlap with this
one's measurements. The conditions stand in the file under ``what``; every repetition is kept under ``all_ms``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MAX_MODEL_LEN, BATCHED_TOKENS, UTILIZATION = 9216, 8192, 0.9
WINDOWS, WINDOW_TOKENS, PREFILL_REPEATS = 3, 64, 5
CONDITIONS = (
    "vLLM, dummy weights, CUDA graphs on, prefix caching off, "
    f"max_model_len {MAX_MODEL_LEN}, gpu_memory_utilization {UTILIZATION}, max_num_batched_tokens {BATCHED_TOKENS}; greedy, "
    f"ignore_eos; the engine core in a process of its own. Decode: median over {WINDOWS} windows of {WINDOW_TOKENS} tokens. "
    f"Prefill: median of {PREFILL_REPEATS}, end to end in the process."
)
VOCABULARY = 30_000  # token ids are drawn below this

# name: (architecture, model_type, hidden, MLP width, layers, heads, KV heads, vocabulary, further keys)
SHAPES: dict[str, tuple[str, str, int, int, int, int, int, int, dict[str, Any]]] = {
    "llama-3.2-1b": ("LlamaForCausalLM", "llama", 2048, 8192, 16, 32, 8, 128256, {"head_dim": 64, "tie_word_embeddings": True}),
    "llama-3.2-3b": ("LlamaForCausalLM", "llama", 3072, 8192, 28, 24, 8, 128256, {"head_dim": 128, "tie_word_embeddings": True}),
    "llama-3-8b": ("LlamaForCausalLM", "llama", 4096, 14336, 32, 32, 8, 128256, {}),
    "qwen2.5-14b": ("Qwen2ForCausalLM", "qwen2", 5120, 13824, 48, 40, 8, 152064, {}),
    "qwen2.5-32b": ("Qwen2ForCausalLM", "qwen2", 5120, 27648, 64, 40, 8, 152064, {}),
    "llama-3-70b": ("LlamaForCausalLM", "llama", 8192, 28672, 80, 64, 8, 128256, {}),
    "mixtral-8x7b": (
        "MixtralForCausalLM", "mixtral", 4096, 14336, 32, 32, 8, 32000,
        {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    ),
}  # fmt: skip

DECODE = {
    "small": [(1, 16), (1, 512), (1, 2048), (1, 7900), (2, 512), (4, 512), (4, 4096), (8, 512), (8, 7900), (16, 512), (16, 2048), (32, 128),
              (32, 512), (32, 2048), (64, 512), (64, 2048), (128, 512), (128, 1024), (192, 512), (256, 256), (256, 1024)],
    "large": [(1, 16), (1, 512), (1, 2048), (1, 7900), (2, 512), (4, 512), (8, 512), (8, 2048), (16, 512), (16, 2048), (32, 128), (32, 512),
              (32, 2048), (64, 512), (128, 256), (128, 512), (256, 128)],
}  # fmt: skip
PREFILL = [
    (1, 16),
    (1, 64),
    (1, 128),
    (1, 256),
    (1, 512),
    (1, 1024),
    (1, 2048),
    (1, 4096),
    (1, 8192),
    (4, 512),
    (4, 2048),
    (16, 128),
]
# input tokens, output tokens, concurrency, requests
LOOPS = {
    "small": [(1024, 128, 16, 96), (512, 256, 32, 128), (256, 64, 128, 512), (2048, 256, 48, 144), (4096, 128, 8, 32)],
    "large": [(1024, 128, 16, 48), (512, 128, 32, 96), (2048, 256, 8, 24)],
}
# input tokens, output tokens, requests per second, requests
OPEN = {
    "small": [(1024, 128, 6.0, 120), (1024, 128, 12.0, 240), (256, 128, 20.0, 300)],
    "large": [(1024, 128, 3.0, 60)],
}


def config_of(name: str) -> dict[str, Any]:
    """config.json of a shape."""
    architecture, kind, hidden, width, layers, heads, kv_heads, vocabulary, more = SHAPES[name]
    return {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "rope_theta": 500000.0,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        **more,
    }


class Bench:
    """One engine and the measurements on it."""

    def __init__(self, config: dict[str, Any], precision: str, **options: Any) -> None:
        """Start it; ``options`` are vLLM's own and go before those of the measurements on GPUs."""
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        directory = Path(tempfile.mkdtemp())
        (directory / "config.json").write_text(json.dumps(config))
        started = time.perf_counter()
        usual = {
            "model": str(directory),
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "max_model_len": MAX_MODEL_LEN,
            "gpu_memory_utilization": UTILIZATION,
            "max_num_batched_tokens": BATCHED_TOKENS,
            "enable_prefix_caching": False,
            "disable_log_stats": True,
            "quantization": "fp8" if precision == "fp8" else None,
        }
        self.llm = LLM(**usual | options)
        self.init_s = time.perf_counter() - started
        self.engine = self.llm.llm_engine
        cache = self.engine.vllm_config.cache_config
        self.kv_capacity_tokens = int(cache.num_gpu_blocks * cache.block_size)
        self.max_num_seqs = int(self.engine.vllm_config.scheduler_config.max_num_seqs)
        self.batched_tokens = int(self.engine.vllm_config.scheduler_config.max_num_batched_tokens)
        self._vocabulary = min(VOCABULARY, int(config["vocab_size"]))
        self._params, self._delta = SamplingParams, RequestOutputKind.DELTA
        self._random, self._next = random.Random(7), 0

    def add(self, prompt: int, output: int) -> str:
        """Queue a request of random tokens; its id."""
        self._next += 1
        tokens = [self._random.randrange(10, self._vocabulary) for _ in range(prompt)]
        params = self._params(
            temperature=0.0, ignore_eos=True, max_tokens=output, detokenize=False, output_kind=self._delta
        )
        self.engine.add_request(str(self._next), {"prompt_token_ids": tokens}, params)
        return str(self._next)

    def prefill(self, batch: int, tokens: int, repeats: int = PREFILL_REPEATS) -> list[float]:
        """Milliseconds until ``batch`` prompts of ``tokens`` tokens have their first token."""
        times = []
        for index in range(repeats + 1):
            for _ in range(batch):
                self.add(tokens, 1)
            started = time.perf_counter()
            while self.engine.has_unfinished_requests():
                self.engine.step()
            if index:  # the first one warms up
                times.append((time.perf_counter() - started) * 1e3)
        return times

    def decode(
        self, batch: int, prompt: int, windows: int = WINDOWS, window: int = WINDOW_TOKENS
    ) -> tuple[float, list[float]]:
        """Mean context, and milliseconds per token in each window, with ``batch`` requests running."""
        chunks = -(-batch * prompt // self.batched_tokens)
        output = chunks + windows * window + 24
        ids = [self.add(prompt, output) for _ in range(batch)]
        have = dict.fromkeys(ids, 0)

        def step() -> None:
            for out in self.engine.step():
                have[out.request_id] += len(out.outputs[0].token_ids)

        while min(have.values()) < 1:
            step()
        last = ids[-1]
        while have[last] < 8:
            step()
        context = prompt + sum(have.values()) / batch + windows * window / 2
        times = []
        for _ in range(windows):
            first, started = have[last], time.perf_counter()
            while have[last] < first + window:
                step()
            times.append((time.perf_counter() - started) * 1e3 / (have[last] - first))
        self.engine.abort_request(ids)
        while self.engine.has_unfinished_requests():
            self.engine.step()
        return context, times

    def loop(
        self, prompt: int, output: int, requests: int, *, concurrency: int | None = None, rate: float | None = None
    ) -> dict[str, Any]:
        """A closed loop at ``concurrency``, or Poisson arrivals at ``rate`` per second."""
        arrivals, at = [], 0.0
        draw = random.Random(11)
        for _ in range(requests):
            at += draw.expovariate(rate) if rate else 0.0
            arrivals.append(at)
        sent: dict[str, float] = {}
        first: dict[str, float] = {}
        done: dict[str, float] = {}
        count: dict[str, int] = {}
        queued, start = 0, time.perf_counter()
        while len(done) < requests:
            now = time.perf_counter() - start
            while queued < requests and (arrivals[queued] <= now if rate else queued - len(done) < (concurrency or 1)):
                sent[self.add(prompt, output)] = arrivals[queued] if rate else time.perf_counter() - start
                queued += 1
            if not self.engine.has_unfinished_requests():
                time.sleep(0.0005)
                continue
            outs = self.engine.step()
            now = time.perf_counter() - start
            for out in outs:
                name, new = out.request_id, len(out.outputs[0].token_ids)
                count[name] = count.get(name, 0) + new
                if new and name not in first:
                    first[name] = now
                if out.finished:
                    done[name] = now
        duration = time.perf_counter() - start
        order = sorted(sent, key=int)
        ttft = {name: (first[name] - sent[name]) * 1e3 for name in order}
        tpot = {name: (done[name] - first[name]) * 1e3 / (count[name] - 1) for name in order}
        later = order[concurrency:] if concurrency else order
        answer: dict[str, Any] = {"input_tokens": prompt, "output_tokens": output, "requests": requests}
        answer |= {"concurrency": concurrency} if concurrency else {"request_rate_per_s": rate}
        ordered = sorted(ttft.values())
        ordered_tpot = sorted(tpot.values())
        answer |= {
            "duration_s": round(duration, 3),
            "mean_ttft_ms": round(statistics.fmean(ttft.values()), 2),
            "median_ttft_ms": round(statistics.median(ttft.values()), 2),
            "p95_ttft_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
            "mean_tpot_ms": round(statistics.fmean(tpot.values()), 3),
            "median_tpot_ms": round(statistics.median(tpot.values()), 3),
            "p95_tpot_ms": round(ordered_tpot[int(0.95 * (len(ordered_tpot) - 1))], 3),
            "requests_per_s": round(requests / duration, 3),
            "output_tokens_per_s": round(requests * output / duration, 2),
        }
        if later and concurrency:
            answer["later_mean_ttft_ms"] = round(statistics.fmean(ttft[name] for name in later), 2)
            answer["later_mean_tpot_ms"] = round(statistics.fmean(tpot[name] for name in later), 3)
        return answer


def summary(times: list[float]) -> dict[str, Any]:
    """Median and every repetition."""
    return {"time_ms": round(statistics.median(times), 3), "all_ms": [round(time, 3) for time in times]}


def gpu_state() -> dict[str, str]:
    """What nvidia-smi says now."""
    fields = "name,driver_version,memory.total,clocks.sm,power.draw,temperature.gpu"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return dict(zip(fields.split(","), (part.strip() for part in done.stdout.split(",")), strict=False))


def main() -> None:
    """Measure one model and write its file; what was measured before a failure or the time limit is written too."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model", required=True, choices=sorted(SHAPES))
    ask.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "fp8"])
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--gate", type=Path)
    ask.add_argument("--points", default="small", choices=["small", "large"])
    ask.add_argument("--no-loops", action="store_true")
    ask.add_argument("--tensor-parallel-size", type=int, default=1)
    ask.add_argument("--pipeline-parallel-size", type=int, default=1)
    ask.add_argument("--limit-s", type=float, default=1e9, help="stop measuring after this time")
    args = ask.parse_args()
    started = time.perf_counter()
    import torch
    import vllm

    imported = time.perf_counter() - started
    while args.gate and not args.gate.exists():
        time.sleep(0.2)
    started = time.perf_counter()
    config = config_of(args.model)
    tensor, pipeline = args.tensor_parallel_size, args.pipeline_parallel_size
    bench = Bench(config, args.dtype, tensor_parallel_size=tensor, pipeline_parallel_size=pipeline)
    document: dict[str, Any] = {
        "what": CONDITIONS,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
        "versions": {"vllm": vllm.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "gpu_before": gpu_state(),
        "date": time.strftime("%Y-%m-%d"),
        "model": args.model,
        "dtype": args.dtype,
        "config": config,
        "kv_capacity_tokens": bench.kv_capacity_tokens,
        "max_num_seqs": bench.max_num_seqs,
        "start": {"import_s": round(imported, 1), "engine_init_s": round(bench.init_s, 1)},
        "points": [],
        "loops": [],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"{args.model}-{args.dtype}{'' if tensor * pipeline == 1 else f'-tp{tensor}-pp{pipeline}'}.json"

    def enough() -> bool:
        target.write_text(json.dumps(document, indent=1))
        return time.perf_counter() - started > args.limit_s

    for batch, tokens in PREFILL:
        if enough():
            break
        times = bench.prefill(batch, tokens)
        document["points"].append(
            {"phase": "prefill", "batch": batch, "context_tokens": 0, "new_tokens": tokens, **summary(times)}
        )
    for batch, prompt in DECODE[args.points]:
        if enough():
            break
        context, times = bench.decode(batch, prompt)
        document["points"].append(
            {"phase": "decode", "batch": batch, "context_tokens": round(context), "new_tokens": 1, **summary(times)}
        )
    if not args.no_loops:
        for prompt, output, concurrency, requests in LOOPS[args.points]:
            if enough():
                break
            document["loops"].append(bench.loop(prompt, output, requests, concurrency=concurrency))
        for prompt, output, rate, requests in OPEN[args.points]:
            if enough():
                break
            document["loops"].append(bench.loop(prompt, output, requests, rate=rate))
    document["gpu_after"] = gpu_state()
    document["measured_s"] = round(time.perf_counter() - started, 1)
    enough()
    print(
        args.model,
        args.dtype,
        "points",
        len(document["points"]),
        "loops",
        len(document["loops"]),
        "in",
        document["measured_s"],
        "s",
        flush=True,
    )


if __name__ == "__main__":
    main()
