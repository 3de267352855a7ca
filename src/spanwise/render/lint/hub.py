"""What a served model takes from Hugging Face's hub whenever a replica starts, and what that leaves to chance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.report import Report, items, mapping
from spanwise.render.upstream import STOCK_IMPORT_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwise.render.lint.documents import Path

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
_ON = frozenset({"1", "on", "true", "yes"})


def check_hub(report: Report, config: Any, groups: list[dict[str, Any]]) -> None:
    """Findings on every model of a Serve config that comes from the hub.

    Args:
        report: Of the Serve config.
        config: The parsed config.
        groups: The worker groups around it, whose environment the engines inherit; none for a config of its own.
    """
    containers = [
        mapping(container)
        for group in groups
        for container in items(mapping(mapping(group.get("template")).get("spec")).get("containers"))[:1]
    ]
    inherited = {
        str(mapping(entry).get("name")): mapping(entry).get("value")
        for container in containers
        for entry in items(container.get("env"))
    }
    hidden = any(container.get("envFrom") for container in containers)
    for application, model, path in _models(config):
        if not mapping(model.get("engine_kwargs")).get("revision"):
            report.add(
                "revision_not_pinned",
                "info",
                (*path, "engine_kwargs"),
                "no revision is pinned: a replica that starts after the repository has changed serves another model",
                "add `revision:` with the commit that was tested",
            )
        if not groups:
            continue  # the environment is not in this file
        variables = dict(inherited)
        for owner in (application, model):
            variables |= mapping(mapping(owner.get("runtime_env")).get("env_vars"))
        if str(variables.get("HF_HUB_OFFLINE", "")).lower() in _ON or hidden:
            continue
        report.add(
            "hub_at_start",
            "info",
            (*path, "model_loading_config"),
            "every replica asks the hub when it starts: its outage or rate limit stops a restart",
            "put the weights on a volume or into the image, and set HF_HUB_OFFLINE=1",
        )
        if not any(token in variables for token in _TOKENS):
            report.add(
                "hub_token_missing",
                "info",
                (*path, "model_loading_config"),
                "no token for the hub: gated models are refused, and anonymous downloads are limited",
                "add HF_TOKEN to the workers' env with `valueFrom.secretKeyRef`",
            )


def _models(config: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any], Path]]:
    """Application, model and the model's path, for every model of Ray Serve LLM whose weights are a hub's repository."""
    for index, application in enumerate(items(mapping(config).get("applications"))):
        if mapping(application).get("import_path") != STOCK_IMPORT_PATH:
            continue
        for number, model in enumerate(items(mapping(application.get("args")).get("llm_configs"))):
            loading = mapping(mapping(model).get("model_loading_config"))
            source = loading.get("model_source") or loading.get("model_id")
            if isinstance(source, str) and _REPOSITORY.fullmatch(source):
                yield application, model, ("applications", index, "args", "llm_configs", number)
