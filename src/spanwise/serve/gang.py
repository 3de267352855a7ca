"""One gang: a single-replica Ray Serve LLM deployment whose ranks stand where the plan put them."""

from __future__ import annotations

from typing import Any

from ray.serve.llm import LLMConfig, LLMServer

PIN_KEY = "spanwise_bundle_label_selector"


class GangServer(LLMServer):
    """`LLMServer` pinned to the plan's hosts; it can say where its ranks really are."""

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

    async def ranks(self) -> list[dict[str, Any]]:
        """Where each rank of this gang runs, asked of the ranks themselves, in rank order."""
        reports: list[dict[str, Any]] = await self.engine._engine_client.collective_rpc("spanwise_rank")
        return sorted(reports, key=lambda report: report["rank"])
