"""`lab run` without an engine: what is refused starts nothing, and what is interrupted leaves nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from spanwise.render import render
from tests.commands import CommandLine
from tests.leftovers import left, snapshot
from tests.unit.plans import CASES, make_plan

pytest.importorskip("vllm", reason="needs the engine: make env")
pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SECRET = "s3cr3t-value"
ALONE = make_plan(name="alone", model="org/Alone-8B", served_name="alone", tensor=1, gpus_per_node=1, gpu="L4-24GB")


def manifest(path: Path, old: str = "", new: str = "") -> str:
    text = render((ALONE,), "kuberay")[0].text
    assert old in text
    path.write_text(text.replace(old, new) if old else text)
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("ray.serve.llm:build_openai_app", "os:system", "os:system"),
        ("import_path:", "runtime_env: {working_dir: 'https://e.example/x.zip'}\n        import_path:", "working_dir"),
        (
            "import_path:",
            "runtime_env: {worker_process_setup_hook: e.f}\n        import_path:",
            "worker_process_setup_hook",
        ),
        ("dtype: auto", "trust_remote_code: true", "trust_remote_code"),
        ("dtype: auto", "worker_cls: e.W", "worker_cls"),
        (
            "engine_kwargs:",
            f"runtime_env: {{env_vars: {{LD_PRELOAD: {SECRET}}}}}\n              engine_kwargs:",
            "LD_PRELOAD",
        ),
        (
            "engine_kwargs:",
            f"runtime_env: {{env_vars: {{NCCL_NET_PLUGIN: {SECRET}}}}}\n              engine_kwargs:",
            "NCCL_NET_PLUGIN",
        ),
        ("replicas: 1", "replicas: 400", "401 hosts"),
        ("num_replicas: 1", "num_replicas: 3", "GPU"),
        ("kind: RayService", "kind: RayCluster", "RayService"),
    ],
)
def test_what_is_refused_starts_nothing(spanwise: CommandLine, tmp_path: Path, old: str, new: str, named: str) -> None:
    before = snapshot()
    outcome = spanwise("lab", "run", manifest(tmp_path / "m.yaml", old, new), "--json")
    assert outcome.code == 2, outcome.err
    assert named in outcome.err
    assert SECRET not in outcome.out + outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.document["exit_code"] == 2
    assert left(before, patience_s=2) == {}
    assert not (spanwise.state_dir / "lab.json").exists()


def test_more_ranks_than_allowed_and_a_missing_file(spanwise: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(render(CASES["two-hosts"], "kuberay")[0].text)
    outcome = spanwise("lab", "run", str(path), "--max-ranks", "4")
    assert outcome.code == 2
    assert "8 ranks" in outcome.err
    assert "--shrink" in outcome.err
    assert spanwise("lab", "run", str(tmp_path / "none.yaml")).code == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("moment", ["linked", "gangs submitted"])
def test_an_interrupted_run_leaves_nothing(
    spanwise: CommandLine, tmp_path: Path, number: signal.Signals, code: int, moment: str
) -> None:
    before = snapshot()
    process = spanwise.popen("lab", "run", manifest(tmp_path / "m.yaml"))
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if moment in line:
            break
    assert moment in said, said
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code, words
    assert "Traceback" not in words
    assert left(before) == {}
    assert not (spanwise.state_dir / "lab.json").exists()
