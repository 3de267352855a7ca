"""`lab run --allow-code` with a model: a class of the manifest's own serves a real engine on hosts without rights."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.commands import CommandLine

pytest.importorskip("vllm", reason="needs the engine: make env")
pytestmark = [pytest.mark.engine, pytest.mark.lab, pytest.mark.timeout(900)]

# A hang limit for a loaded machine, not a promise.
RUN_HANG_S = 800
SERVER = """
import os
from ray.serve.llm import LLMServer


class Server(LLMServer):
    async def chat(self, request, *rest, **more):
        status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
        request.max_tokens = int(os.environ["STRANGERS_LENGTH"]) if int(status["CapEff"], 16) == 0 else 9
        return await super().chat(request, *rest, **more)
"""


def test_a_class_of_the_manifests_own_serves_a_model(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "strangers.py").write_text(SERVER)
    config = {
        "model_loading_config": {"model_id": "m", "model_source": "org/nobody-knows-it"},
        "server_cls": "strangers:Server",
        "engine_kwargs": {"trust_remote_code": True},
        "runtime_env": {"env_vars": {"STRANGERS_LENGTH": "3"}},
    }
    application = {
        "name": "llm",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [config]},
        "runtime_env": {"working_dir": "code"},
    }
    manifest = tmp_path / "serve.yaml"
    manifest.write_text(yaml.safe_dump({"applications": [application]}))
    spanwise = CommandLine(tmp_path / "state")
    outcome = spanwise("lab", "run", str(manifest), "--allow-code", "--json", timeout_s=RUN_HANG_S)
    assert outcome.code == 0, outcome.err
    (model,) = outcome.document["models"]
    assert model["answered"], model["error"]
    assert model["completion_tokens"] == 3, (
        "the stranger's class and variable were in the path, and without capabilities"
    )
    assert {"server_cls", "STRANGERS_LENGTH"} <= {
        item["where"].rpartition(".")[2] for item in outcome.document["code"]["run"]
    }
