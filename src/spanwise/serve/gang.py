"""One gang: a single-replica Ray Serve LLM deployment whose ranks stand where the plan put them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine, _get_vllm_engine_config
from ray.serve.llm import LLMConfig, LLMServer
from vllm.entrypoints.launchers.cli_args import FrontendArgs

from spanwise.serve.plugin import ENGINE_VARIABLE

PIN_KEY = "spanwise_bundle_label_selector"
DESCRIPTION_KEY = "spanwise_gang"


class LocalWeights(CallbackBase):
    """Skips upstream's download step when the model is a directory: it would start a process with an engine on every host."""

    async def on_before_node_init(self) -> None:
        """Called by Ray Serve LLM before it fetches weights."""
        source = self.llm_config.get_engine_config().actual_hf_model_id
        self.ctx.run_init_node = not Path(source).is_dir()


class GangEngine(VLLMEngine):
    """Upstream's engine; on the lab's CPU hosts it reads its configuration in its own process.

    Upstream does that in a task with a GPU, because the replica itself has none. A CPU host has nothing to look at: the task
    would cost another engine import (10 s, 700 MB) per gang.
    """

    def _prepare_engine_config(self, callback_ctx: Any) -> tuple[Any, Any, Any]:
        """Engine arguments, front-end arguments and engine configuration."""
        if os.environ.get(ENGINE_VARIABLE) != "cpu":
            prepared: tuple[Any, Any, Any] = super()._prepare_engine_config(callback_ctx)
            return prepared
        arguments, configuration = _get_vllm_engine_config(self.llm_config)
        return arguments, FrontendArgs(**self.llm_config.get_engine_config().frontend_kwargs), configuration


class GangServer(LLMServer):
    """`LLMServer` pinned to the plan's hosts; it can say where its ranks really are."""

    _default_engine_cls = GangEngine

    @classmethod
    def get_deployment_options(cls, llm_config: LLMConfig) -> dict[str, Any]:
        """Upstream's options, with one bundle per rank pinned by label.

        The selector travels in ``experimental_configs`` because `LLMConfig` has no field for it (Ray 2.60).
        """
        options: dict[str, Any] = super().get_deployment_options(llm_config)
        selector = llm_config.experimental_configs.get(PIN_KEY)
        if selector:
            options["placement_group_bundle_label_selector"] = selector
        # One start, no silent retries: each costs a minute, and the second fails for the reason of the first.
        options["max_constructor_retry_count"] = 1
        return options

    async def describe(self) -> dict[str, Any]:
        """Model, plan, its hash, domain and epoch of this gang, as it was deployed."""
        description: dict[str, Any] = self._llm_config.experimental_configs[DESCRIPTION_KEY]
        return description

    async def ranks(self) -> list[dict[str, Any]]:
        """Where each rank of this gang runs, asked of the ranks themselves, in rank order."""
        reports: list[dict[str, Any]] = await self.engine._engine_client.collective_rpc("spanwise_rank")
        return sorted(reports, key=lambda report: report["rank"])
