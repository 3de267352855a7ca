"""render: plans as files that others run (vLLM, Ray Serve, KubeRay). The same room judges such files: see ``lint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.errors import InputError
from spanwise.plan.load import check_plan
from spanwise.render.kuberay import render_kuberay
from spanwise.render.options import GangScheduler, RayAuth, RenderedFile, RenderOptions, Runtime, Target, refuse_unread
from spanwise.render.plans import refuse_same_names, refuse_secrets
from spanwise.render.serve_config import render_ray
from spanwise.render.vllm import render_vllm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan

__all__ = ["GangScheduler", "RayAuth", "RenderOptions", "RenderedFile", "Runtime", "Target", "render"]


def render(plans: Sequence[Plan], target: Target, options: RenderOptions | None = None) -> tuple[RenderedFile, ...]:
    """The files for ``plans``; the same plans and options give the same bytes.

    Args:
        plans: At least one; several become one application (ray, kuberay), or commands side by side (vllm).
        target: Who runs the files.
        options: See :class:`RenderOptions`.

    Raises:
        InputError: No plan; options that contradict each other; plans that cannot stand together.
    """
    options = options or RenderOptions()
    if not plans:
        raise InputError("no plan to render", remedy="name at least one plan file")
    for plan in plans:
        check_plan(plan, f"plan {plan.name[:80]!r}")
    refuse_same_names(plans)
    refuse_secrets(plans)
    if target == "vllm" and options.runtime != "stock":
        raise InputError(
            "target vllm runs vLLM's own server and has no other runtime",
            where="--runtime",
            remedy="leave --runtime out, or use --target ray or kuberay",
        )
    refuse_unread(options, target)
    if target == "vllm":
        return render_vllm(plans)
    if target == "ray":
        return render_ray(plans, options)
    return render_kuberay(plans, options)
