"""``spanwise decide`` as a user meets it: a process, its output, its exit code."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORK = "workload: {input_tokens: 1, output_tokens: 1, concurrency: 1}"
EXAMPLE = ROOT / "examples/llama-3-70b-10gbe.yaml"


def spanwise(*arguments, cwd=ROOT, **env):
    """Run the command in a process of its own; the hub is off."""
    code = "from spanwise.cli.main import run; run()"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent", "HF_TOKEN": "", **env},
    )  # fmt: skip
    done.seconds = time.monotonic() - start
    return done


def test_json_is_one_document():
    done = spanwise("decide", EXAMPLE, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["verdict"] == "one_node"
    assert any(item["code"] == "tensor_parallel_crosses_slow_fabric" for item in document["rejected"])


def test_the_front_stands_in_the_text_and_marks_the_choice():
    text = spanwise("decide", EXAMPLE).stdout
    front = text.split("(Pareto front)\n")[1].split("\n\n")[0].splitlines()
    assert front[0].split() == ["layout", "GPUs", "TPOT", "ms", "TTFT", "ms", "requests/s"]
    assert [line.split("  ")[-1] for line in front[1:]].count("chosen") == 1
    assert len(front) <= 13


def test_the_sentence_comes_first():
    done = spanwise("decide", EXAMPLE)
    assert done.returncode == 0
    first = done.stdout.splitlines()[0]
    assert "one node per replica" in first and "spreading is justified" in first
    for word in ("memory of the tightest GPU", "predicted", "rejected", "what would change the verdict", "facts"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 400
    assert not re.findall(r"^  \S+ +[\d.e+-]+ 1[ ,]", done.stdout, re.MULTILINE), "a share has no unit; 1 is not one"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_gets_a_verdict(path):
    done = spanwise("decide", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "spanwise.verdict/1"


def test_it_starts_without_the_engine_and_fast():
    script = (
        "import sys\nfrom spanwise.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(name.partition('.')[0] for name in sys.modules)), file=sys.stderr)"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, "decide", str(EXAMPLE), "--json"], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=True, env={**os.environ, "HF_TOKEN": ""},
    )  # fmt: skip
    print(f"spanwise decide: {time.monotonic() - start:.2f} s wall")
    loaded = eval(done.stderr)
    assert "spanwise" in loaded
    assert not {"torch", "ray", "vllm", "transformers", "huggingface_hub", "httpx", "rich", "numpy"} & set(loaded)
    # Half a second on a quiet machine; the limit here only catches an import that should not be there.
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("model: x\nmodle: y", "modle"),
        ("{", "YAML"),
        (
            f"model: no/such\nhardware: {{gpu: H100-80GB-SXM}}\n{WORK}",
            "HF_HUB_OFFLINE",
        ),
        (
            f"model: meta-llama/Meta-Llama-3-8B\nhardware: {{gpu: H999}}\n{WORK}",
            "H999",
        ),
    ],
)
def test_bad_intents(tmp_path, text, said):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    for flags in ((), ("--json",)):
        done = spanwise("decide", path, *flags)
        assert done.returncode == (3 if "OFFLINE" in said else 2)
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        if flags:
            assert json.loads(done.stdout)["exit_code"] == done.returncode
        else:
            assert done.stdout == ""


def test_bad_model_files(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    (tmp_path / "job.yaml").write_text(
        "model: ./\nhardware: {gpu: H100-80GB-SXM}\nworkload: {input_tokens: 1, output_tokens: 1, concurrency: 1}"
    )
    done = spanwise("decide", tmp_path / "job.yaml")
    assert done.returncode == 2
    assert "BertModel" in done.stderr and "LlamaForCausalLM" in done.stderr


def test_bad_facts_and_missing_files(tmp_path):
    (tmp_path / "facts.json").write_text("{}")
    for arguments in (
        ("decide", EXAMPLE, "--facts", tmp_path / "facts.json"),
        ("decide", tmp_path),
        ("decide", tmp_path / "x"),
    ):
        done = spanwise(*arguments)
        assert done.returncode == 2
        assert str(tmp_path) in done.stderr and "Traceback" not in done.stderr
