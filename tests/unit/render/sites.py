"""Option sets that tests render with, and the rendered documents by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from spanwise.render import RenderOptions, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

SPANWISE = RenderOptions(runtime="spanwise", image="registry.example/spanwise:0.1.0")
# Every option that adds something, at once.
FULL = RenderOptions(
    image="registry.example:5000/team/ray-llm@sha256:" + "0a" * 32,
    name="llama",
    model_volume="pvc:weights:/models",
    env_secrets=("bucket-keys",),
    image_pull_secrets=("registry",),
    service_account="inference",
    tolerations=("dedicated=inference:NoSchedule", "maintenance"),
    node_selectors=("example.com/pool=gpu",),
    domain_label="topology.kubernetes.io/zone",
    rdma_resource="rdma/hca",
    gang_scheduler="kueue",
    queue="inference",
    redis="redis.data:6379",
    redis_secret="redis:redis-password",
    serve_from="kubernetes.io/metadata.name=web",
)


def documents(plans: Sequence[Plan], options: RenderOptions | None = None) -> dict[str, list[dict[str, Any]]]:
    """Everything rendered for KubeRay, by kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in render(plans, "kuberay", options):
        for document in yaml.safe_load_all(file.text):
            found.setdefault(document["kind"], []).append(document)
    return found


def service(plans: Sequence[Plan], options: RenderOptions | None = None) -> dict[str, Any]:
    """The RayService."""
    (found,) = documents(plans, options)["RayService"]
    return found


def pods(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod templates of a RayService, the head's first."""
    cluster = made["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
