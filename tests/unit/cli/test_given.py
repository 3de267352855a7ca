"""Words and files as users give them: standard input, `python -m`, a reader that goes away, and what would silently change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.command import REPOSITORY, refused, spanwise

EXAMPLE = REPOSITORY / "examples" / "llama-3-70b-10gbe.yaml"
ESTIMATE = ("estimate", "--model", "meta-llama/Meta-Llama-3-8B", "--gpu", "H100-80GB-SXM")
CSV = "phase,batch,context_tokens,new_tokens\nprefill,1,0,512\n"


def test_an_intent_on_standard_input() -> None:
    text = EXAMPLE.read_text()
    code, shown, err = spanwise("decide", "-", "--json", stdin=text)
    assert (code, err) == (0, "")
    assert json.loads(shown) == json.loads(spanwise("decide", EXAMPLE, "--json")[1])
    assert "standard input: is larger than 1 MiB" in refused("decide", "-", stdin="#" * (2 << 20))
    assert "standard input: is empty" in refused("decide", "-")
    assert "standard input: modle" in refused("decide", "-", stdin=text + "modle: x\n")
    assert "`-`" in refused("decide")


@pytest.mark.parametrize("module", ["spanwise", "spanwise.cli.main"])
def test_the_modules_are_the_command(module: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *words], capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
        )  # fmt: skip

    assert run("--version").stdout.startswith("spanwise ")
    assert run("decide", "--help").stdout.startswith("Usage: spanwise decide")
    assert run("decide", "none.yaml").returncode == 2


def test_a_price_that_is_not_the_intents_is_said(tmp_path: Path) -> None:
    intent = tmp_path / "intent.yaml"
    intent.write_text(EXAMPLE.read_text() + "prices_per_gpu_hour: {L4-24GB: 1}\n")
    code, _, err = spanwise("decide", intent)
    assert code == 0
    assert "L4-24GB" in err and "H100-80GB-SXM" in err
    intent.write_text(EXAMPLE.read_text() + "prices_per_gpu_hour: {L4: 1}\n")
    assert "'L4'" in refused("decide", intent)


def test_an_empty_path_of_facts_is_not_no_facts() -> None:
    assert "an empty path is not a facts file" in refused("decide", EXAMPLE, "--facts", "")


def test_nodes_need_a_fabric(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text(CSV)
    words = (*ESTIMATE, "--points", points, "--gpus-per-node", "1")
    assert "--fabric" in refused(*words, "--tensor-parallel-size", "2")
    code, _, err = spanwise(*words)
    assert code == 0
    assert "changes nothing without --fabric" in err


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text(CSV.replace("phase,", "phase,phase,").replace("prefill,", "prefill,decode,"))
    assert "has the column phase twice" in refused(*ESTIMATE, "--points", points)


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("where", ["2> >(true)", "2>&-", "2>/dev/full"])
def test_standard_error_that_nobody_reads_is_no_reason_to_fail(tmp_path: Path, where: str) -> None:
    run = f'sleep 0.3; "{sys.executable}" -m spanwise plan "{EXAMPLE}" -o "{tmp_path}/deep/plan.json"'
    done = subprocess.run(
        ["bash", "-c", f"({run}) {where}"], capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
    )  # fmt: skip
    assert done.returncode == 0
    assert "tensor_parallel_size" in done.stdout
    assert (tmp_path / "deep" / "plan.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_facts_may_come_from_a_shells_pipe() -> None:
    for command in ("decide", "plan"):
        line = f"""'{sys.executable}' -m spanwise {command} '{EXAMPLE}' --facts <(echo '{{"schema": "spanwise.facts/1", "facts": []}}')"""
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
        )
        assert done.returncode == 0, done.stderr
