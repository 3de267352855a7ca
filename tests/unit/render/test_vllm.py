from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from spanwise.errors import InputError, LayoutError, PlanError
from spanwise.render import RenderOptions, render
from tests.unit.plans import ARTICLE, LOCAL, SMALL, TWO_HOSTS, make_plan

if TYPE_CHECKING:
    from pathlib import Path


def test_the_founding_articles_form() -> None:
    (file,) = render([ARTICLE], "vllm")
    assert file.text.splitlines()[-1] == (
        "python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B "
        "--tensor-parallel-size 4 --gpu-memory-utilization 0.9"
    )
    assert file.executable
    assert all(line.startswith("#") for line in file.text.splitlines()[:-1])
    assert "the model's own, 8192 tokens" in file.text, "the flag that is not there has a reason"


def test_two_hosts_are_joined_by_ray() -> None:
    first, second = render([TWO_HOSTS], "vllm")
    assert first.text.splitlines()[-1].startswith("ray start --head --port=6379 && python -m vllm")
    assert first.text.splitlines()[-1].endswith("--distributed-executor-backend ray")
    assert second.text.splitlines()[-1] == "ray start --address=host-1:6379 --block"


def test_replicas_on_one_host_get_their_own_gpus_and_ports() -> None:
    first, second = render([SMALL], "vllm")
    assert "CUDA_VISIBLE_DEVICES=0\n" in first.text
    assert "--port" not in first.text
    assert "CUDA_VISIBLE_DEVICES=1\n" in second.text
    assert second.text.rstrip().endswith("--port 8001")


def test_values_survive_the_shell(tmp_path: Path) -> None:
    """Run the script with a `python` and a `ray` that print their arguments: what arrives is what the plan says."""
    for name in ("python", "ray"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    first = render([LOCAL], "vllm")[0]
    done = subprocess.run(
        ["/bin/sh", "-c", first.text],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[words.index("--model") + 1] == "/models/with space"
    assert words[words.index("--compilation-config") + 1] == '{"backend": "eager", "mode": 2}'
    assert words[words.index("--quantization") + 1] == "fp8"
    assert "export NCCL_SOCKET_IFNAME='=eth1'  #" in first.text
    assert shlex.split("A==eth1") == ["A==eth1"]


def test_too_many_gpus_on_a_host_name_both_gangs() -> None:
    other = make_plan(name="other", model="org/other", tensor=1)
    with pytest.raises(PlanError, match="meta-llama-3-70b-0, other-0"):
        render([ARTICLE, other], "vllm")


def test_gangs_over_shared_hosts_are_refused() -> None:
    plan = make_plan(tensor=2, stages=3, replicas=2, hosts=3)
    with pytest.raises(LayoutError, match="shares host-2"):
        render([plan], "vllm")


def test_refusals() -> None:
    with pytest.raises(InputError, match="no plan"):
        render([], "vllm")
    with pytest.raises(PlanError, match="two plans have the name"):
        render([ARTICLE, ARTICLE], "ray")
    with pytest.raises(PlanError, match="served name"):
        render([ARTICLE, make_plan(name="other")], "ray")
    with pytest.raises(InputError, match="no other runtime"):
        render([ARTICLE], "vllm", RenderOptions(runtime="spanwise"))
    with pytest.raises(PlanError, match="'no_such_flag' is unknown"):
        render([make_plan(no_such_flag=1)], "vllm")
