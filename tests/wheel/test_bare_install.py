"""The wheel alone, in an environment of its own, outside the checkout: the judgement needs no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.lint.samples import ARTICLE

pytestmark = pytest.mark.wheel

REPOSITORY = Path(__file__).resolve().parents[2]
# A cold index on a slow line: building takes seconds, installing up to minutes.
_BUILD_S, _INSTALL_S, _RUN_S = 300, 600, 60
_NO_INDEX = (
    "No matching distribution",
    "Could not find a version",
    "Connection",
    "Retrying",
    "Temporary failure",
    "Timeout",
)

INTENT = """\
model: meta-llama/Meta-Llama-3-70B
hardware: {gpu: H100-80GB-SXM, gpus_per_node: 4, nodes: 2, fabric: ethernet-10g}
workload: {input_tokens: 1024, output_tokens: 256, request_rate_per_s: 1}
"""


def run(*command: str | Path, cwd: Path, timeout: float = _RUN_S, code: int = 0) -> str:
    """Standard output of ``command``, run without anything of this checkout or its environment on its paths."""
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "SPANWISE"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, "HF_HUB_OFFLINE": "1", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == code, (
        f"{command[:4]} left with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``bin`` of a fresh environment with only the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    wheels = folder / "wheels"
    try:
        _output(sys.executable, "-m", "build", "--wheel", "--outdir", wheels, REPOSITORY, timeout=_BUILD_S)
        (wheel,) = wheels.glob("spanwise-*.whl")
        _output(sys.executable, "-m", "venv", folder / "env", timeout=_BUILD_S)
        install = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", wheel)
        _output(folder / "env" / "bin" / "python", *install, timeout=_INSTALL_S)
    except _Failed as failure:
        if not os.environ.get("CI") and any(words in str(failure) for words in _NO_INDEX):
            pytest.skip("the package index cannot be reached from here")
        raise
    return folder / "env" / "bin"


class _Failed(Exception):  # noqa: N818
    """A step of the installation did not end well; holds its output."""


def _output(*command: object, timeout: float) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=clean,
        cwd="/",
    )
    if done.returncode:
        raise _Failed(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def test_no_engine_is_there_and_none_is_missed(bare: Path, tmp_path: Path) -> None:
    script = "import importlib.util as u; print([n for n in ('torch', 'ray', 'vllm', 'kubernetes') if u.find_spec(n)])"
    assert run(bare / "python", "-c", script, cwd=tmp_path) == "[]\n"
    where = run(bare / "python", "-c", "import spanwise; print(spanwise.__file__)", cwd=tmp_path)
    assert str(REPOSITORY / "src") not in where
    assert run(bare / "spanwise", "--version", cwd=tmp_path).startswith("spanwise ")


def test_decide_plan_render_lint(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "intent.yaml").write_text(INTENT)
    verdict = json.loads(run(bare / "spanwise", "decide", "intent.yaml", "--json", cwd=tmp_path))
    assert verdict["schema"] == "spanwise.verdict/1"
    assert verdict["verdict"] == "one_node"
    sizes = ("--tensor-parallel-size", "4", "--pipeline-parallel-size", "2", "--replicas", "1")
    run(bare / "spanwise", "plan", "intent.yaml", *sizes, "-o", "plan.json", cwd=tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [rank["host"] for rank in plan["gangs"][0]["ranks"]] == ["host-1"] * 4 + ["host-2"] * 4
    for target, count in (("vllm", 2), ("ray", 1), ("kuberay", 4)):
        out = run(bare / "spanwise", "render", "plan.json", "--target", target, "-o", target, cwd=tmp_path)
        assert len(out.split()) == count
        answer = json.loads(
            run(bare / "spanwise", "lint", *out.split(), "--json", "--fail-on", "warning", cwd=tmp_path)
        )
        assert answer["counts"]["error"] == answer["counts"]["warning"] == 0
    (tmp_path / "article.yaml").write_text(ARTICLE)
    assert "head_group_missing" in run(bare / "spanwise", "lint", "article.yaml", cwd=tmp_path, code=1)
    assert run(bare / "spanwise", "diff", "plan.json", "plan.json", cwd=tmp_path) == "no difference\n"


def test_what_needs_the_engine_says_so(bare: Path, tmp_path: Path) -> None:
    """A command that needs the engine leaves with 2 or 3 and names the extra, without a traceback."""
    (tmp_path / "intent.yaml").write_text(INTENT)
    run(bare / "spanwise", "plan", "intent.yaml", "-o", "plan.json", cwd=tmp_path)
    done = subprocess.run(
        [bare / "spanwise", "up", "plan.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
