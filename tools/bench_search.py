"""Time the search on one core: candidates judged per second, and whole decisions. `make bench-search` keeps every run in results/search.

What is counted: a *candidate* is one layout (tensor x pipeline size, on nodes of so many GPUs) with one number of replicas, in one precision,
judged for memory, times under the load and objectives. Nothing that was pruned, or answered from what was judged before, counts.

- `sweep`: every layout of a question with a ladder of replicas, as for the Pareto front: the figure for "layouts per second".
- `judge`: every layout, each with as many numbers of replicas as are needed to find the fewest that do. Fewer per layout, so cutting
  the model weighs more.
- `search`: the search that a verdict starts with. It considers every layout with every number of replicas, and leaves out what an exact
  bound shows cannot win: `tests/unit/decide/test_properties.py` holds it against judging all of them. `considered` counts those.
- `decide`: a whole verdict, with its replay, alternatives and flips.

Each begins with nothing known but the question, and prunes nothing, but for `search`. Times are CPU time of this process (`time.process_time`), with collection of garbage left on. Runs of all questions take turns, so that
what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from provenance import cpu_name, git, save

import spanwise
from spanwise.decide import decide
from spanwise.decide.candidates import Judge
from spanwise.decide.judge import ask
from spanwise.decide.pareto import judged as candidates_of
from spanwise.decide.question import layouts
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from spanwise.intent.load import intent_from

ROOT = Path(__file__).resolve().parent.parent
L8, L70, L405, DS = (
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Meta-Llama-3-70B",
    "meta-llama/Llama-3.1-405B",
    "deepseek-ai/DeepSeek-V3",
)
# Name, model, precision, GPUs per node, nodes, load. All on H100-80GB-SXM, joined by ib-ndr-400g; 1,024 tokens in, 256 out.
QUESTIONS = [
    ("8B-8", L8, "bfloat16", 8, 1, {"request_rate_per_s": 20}),
    ("8B-1024", L8, "bfloat16", 8, 128, {"request_rate_per_s": 2000}),
    ("70B-16", L70, "bfloat16", 8, 2, {"request_rate_per_s": 8}),
    ("70B-16-fp8", L70, "fp8", 8, 2, {"concurrency": 64}),
    ("70B-128", L70, "bfloat16", 8, 16, {"request_rate_per_s": 50}),
    ("70B-1024", L70, "bfloat16", 8, 128, {"request_rate_per_s": 300}),
    ("405B-64", L405, "bfloat16", 8, 8, {"request_rate_per_s": 3}),
    ("405B-1024", L405, "bfloat16", 8, 128, {"request_rate_per_s": 50}),
    ("405B-1024-loop", L405, "bfloat16", 8, 128, {"concurrency": 500}),
    ("DeepSeek-V3-64", DS, None, 8, 8, {"request_rate_per_s": 10}),
    ("DeepSeek-V3-1024", DS, None, 8, 128, {"request_rate_per_s": 200}),
]
OBJECTIVES = {"ttft_p95_ms": 2000, "tpot_p95_ms": 50}


def intent(model: str, dtype: str | None, per_node: int, nodes: int, load: dict) -> dict:
    """An intent as a document."""
    hardware = {"gpu": "H100-80GB-SXM", "gpus_per_node": per_node, "nodes": nodes}
    if nodes > 1:
        hardware["fabric"] = "ib-ndr-400g"
    asked = {
        "model": model,
        "hardware": hardware,
        "workload": {"input_tokens": 1024, "output_tokens": 256, **load},
        "objectives": OBJECTIVES,
    }
    return asked if dtype is None else {**asked, "dtype": dtype}


class Bench:
    """One question, asked again and again."""

    def __init__(self, name: str, model: str, dtype: str | None, per_node: int, nodes: int, load: dict) -> None:
        self.name, self.gpus = name, per_node * nodes
        self.document = intent(model, dtype, per_node, nodes, load)
        self.intent = intent_from(self.document)
        self.facts = model_facts(model_config(model), name=model)
        self.question = ask(self.intent, self.facts, FactBook())
        self.runs: list[dict] = []
        self.chosen: list[int] | None = None

    def run(self) -> None:
        """Time everything once."""
        start = time.process_time()
        judge = Judge(self.question)
        count = 0
        for layout in layouts(self.question):
            judge.judge(layout)
            count += 1
        judged_s = time.process_time() - start

        start = time.process_time()
        sweep = Judge(self.question)
        found = candidates_of(sweep, None)
        sweep_s = time.process_time() - start

        start = time.process_time()
        search = Judge(self.question)
        search.best()
        search_s = time.process_time() - start

        room = (layout.replicas_on(self.question.nodes) for layout in layouts(self.question))
        considered = sum(count - self.question.spares for count in room)

        wall, start = time.perf_counter(), time.process_time()
        verdict = decide(self.intent, self.facts)
        decide_s, wall_s = time.process_time() - start, time.perf_counter() - wall
        chosen = verdict.chosen
        self.chosen = chosen and [chosen.tensor_parallel_size, chosen.pipeline_parallel_size, chosen.replicas]
        self.runs.append(
            {
                "layouts": count,
                "sweep_candidates": sweep.judged,
                "sweep_cpu_s": sweep_s,
                "sweep_candidates_per_s": sweep.judged / sweep_s,
                "holding": len(found),
                "judge_candidates": judge.judged,
                "judge_cpu_s": judged_s,
                "judge_candidates_per_s": judge.judged / judged_s,
                "search_considered": considered,
                "search_judged": search.judged,
                "search_considered_per_s": considered / search_s,
                "search_cpu_s": search_s,
                "decide_cpu_s": decide_s,
                "decide_wall_s": wall_s,
            }
        )

    def summary(self) -> dict:
        """Medians, spreads and every run."""
        keys = (
            "sweep_candidates_per_s",
            "judge_candidates_per_s",
            "search_considered_per_s",
            "search_cpu_s",
            "decide_cpu_s",
            "decide_wall_s",
        )
        return {
            "question": self.name,
            "gpus": self.gpus,
            "intent": self.document,
            "chosen": self.chosen,
            **{key: spread([run[key] for run in self.runs]) for key in keys},
            "runs": self.runs,
        }


def spread(values: list[float]) -> dict[str, float]:
    """Median and ends."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def command_wall_s(document: dict, runs: int) -> list[float]:
    """`spanwise decide` as a user starts it, a new process each time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "intent.yaml"
        file.write_text(json.dumps(document))
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            code = "from spanwise.cli.main import run; run()"
            subprocess.run([sys.executable, "-c", code, "decide", str(file)], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
    return times


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Time the search on one core.")
    parser.add_argument("--runs", type=int, default=9, help="runs of every question (default 9)")
    parser.add_argument("--only", help="questions whose name holds this")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    benches = [Bench(*question) for question in QUESTIONS if not options.only or options.only in question[0]]
    for bench in benches:  # caches of imported data, not of judgements
        bench.run()
        bench.runs.clear()
    for _ in range(options.runs):
        for bench in benches:
            bench.run()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    started = command_wall_s(intent(L8, "bfloat16", 1, 1, {"request_rate_per_s": 2}), options.runs)

    print("candidates (layout x replicas x precision) judged per second of CPU time on one core: median (min to max)")
    print(
        f"{'question':<18}{'layouts':>8}{'sweep':>8}{'per s':>9}{'':<17}{'judge':>7}{'per s':>8}{'considered':>12}{'search ms':>11}{'decide ms: CPU':>16}{'wall':>6}"
    )
    summaries = [bench.summary() for bench in benches]
    for found in summaries:
        rate, run = found["sweep_candidates_per_s"], found["runs"][0]
        between = f" ({rate['min']:,.0f} to {rate['max']:,.0f})"
        print(
            f"{found['question']:<18}{run['layouts']:>8}{run['sweep_candidates']:>8}{rate['median']:>9,.0f}{between:<18}"
            f"{run['judge_candidates']:>6}{found['judge_candidates_per_s']['median']:>8,.0f}"
            f"{run['search_considered']:>12,}{found['search_cpu_s']['median'] * 1e3:>11.1f}{found['decide_cpu_s']['median'] * 1e3:>16.0f}"
            f"{found['decide_wall_s']['median'] * 1e3:>6.0f}"
        )
    slowest = min(found["search_considered_per_s"]["median"] for found in summaries)
    print(f"the search considers at least {slowest:,.0f} layouts x replicas per second (the slowest question's median)")
    turns = [[bench.runs[turn] for bench in benches] for turn in range(options.runs)]
    total = spread(
        [sum(run["sweep_candidates"] for run in turn) / sum(run["sweep_cpu_s"] for run in turn) for turn in turns]
    )
    print(
        f"judged without pruning, all questions together: {total['median']:,.0f} per second ({total['min']:,.0f} to {total['max']:,.0f} over {options.runs} runs)"
    )
    print(
        f"peak memory {memory / 2**20:.0f} MiB; `spanwise decide` of a small intent {statistics.median(started):.2f} s wall ({min(started):.2f} to {max(started):.2f})"
    )
    if options.no_save:
        return
    commit, dirty = git("rev-parse", "--short=10", "HEAD"), bool(git("status", "--porcelain", "--", "src"))
    file = ROOT / "results" / "search" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{commit}.json"
    document = {
        "schema": "spanwise.bench-search/1",
        "counted": "one layout x replicas x precision on nodes of so many GPUs, judged for memory, time and objectives; CPU time of one process",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "uncommitted_changes": dirty,
        "versions": {"spanwise": spanwise.__version__, "python": platform.python_version()},
        "cpu": cpu_name(),
        "system": platform.platform(),
        "peak_memory_bytes": memory,
        "command_wall_s": {**spread(started), "runs": started},
        "all_sweep_candidates_per_s": total,
        "questions": summaries,
    }
    save(file, document)
    print(f"kept in {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
