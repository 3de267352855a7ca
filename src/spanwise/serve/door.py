"""The OpenAI-compatible door: Ray Serve LLM's own ingress, with a model mapped to its gangs instead of to replicas."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from ray.llm._internal.serve.core.ingress.ingress import OpenAiIngress


class Door(OpenAiIngress):
    """Upstream's ingress; requests of one model go round its gangs.

    Args:
        llm_deployments: First gang of each model, by model id (upstream's own argument).
        model_cards: Model cards by model id.
        gangs: All gang handles of each model, by model id.
    """

    def __init__(
        self,
        llm_deployments: dict[str, Any],
        model_cards: dict[str, Any],
        *,
        gangs: dict[str, list[Any]],
        **kwargs: Any,
    ) -> None:
        super().__init__(llm_deployments, model_cards, **kwargs)
        self._rounds: dict[str, Iterator[Any]] = {
            model: itertools.cycle([handle.options(stream=True) for handle in handles])
            for model, handles in gangs.items()
        }

    def _get_configured_serve_handle(self, model_id: str) -> Any:
        """The next gang of ``model_id``; upstream's answer (404) for a model that has none."""
        rounds = self._rounds.get(model_id)
        return next(rounds) if rounds is not None else super()._get_configured_serve_handle(model_id)
