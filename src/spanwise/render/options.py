"""What the user says about the place where rendered files will run, beside the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Target = Literal["vllm", "ray", "kuberay"]
Runtime = Literal["stock", "spanwise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """Options of ``render``; every None has a rule of its own in the target that reads it.

    Attributes:
        runtime: ``stock``: Ray Serve LLM alone. ``spanwise``: our gangs and door, from an image that holds spanwise.
        image: Container image of head and workers.
        name: Name of the RayService; None makes one from the plans.
        cpu_per_host: CPUs of a worker pod.
        memory_gib_per_host: Memory of a worker pod, GiB.
        token_secret: Secret that holds the model hub's token.
        token_key: Its key.
    """

    runtime: Runtime = "stock"
    image: str | None = None
    name: str | None = None
    cpu_per_host: int | None = None
    memory_gib_per_host: int | None = None
    token_secret: str = "hf-token"  # noqa: S105 (a Secret's name, not a secret)
    token_key: str = "token"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """One file to write. ``name`` is relative and has no folder in it."""

    name: str
    text: str
    executable: bool = False
