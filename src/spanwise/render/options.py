"""What the user says about the place where rendered files will run, beside the plan. As asked: nothing is checked yet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from spanwise.errors import InputError

Target = Literal["vllm", "ray", "kuberay"]
Runtime = Literal["stock", "spanwise"]
GangScheduler = Literal["none", "kueue", "volcano"]
RayAuth = Literal["token", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """Options of ``render``; every None has a rule of its own in the target that reads it.

    The words are those of the command line; :mod:`spanwise.render.site` makes values of them, or refuses them.

    Attributes:
        runtime: ``stock``: Ray Serve LLM alone. ``spanwise``: our gangs and door, from an image that holds spanwise.
        image: Container image of head and workers, with a tag or a digest.
        name: Name of the RayService; None makes one from the plans.
        cpu_per_host: CPUs of a worker pod.
        memory_gib_per_host: Memory of a worker pod, GiB.
        token_secret: Secret that holds the model hub's token.
        token_key: Its key.
        model_volume: Where the weights are: ``pvc:NAME[:/mount]``, ``hostPath:/dir`` or ``s3://bucket/prefix``.
        offline: Never ask the model hub; None: where there is a model volume.
        env_secrets: Secrets whose every key becomes an environment variable.
        image_pull_secrets: Secrets for the image's registry.
        service_account: An existing one; None renders one.
        tolerations: ``KEY[=VALUE][:EFFECT]``.
        node_selectors: ``KEY=VALUE`` that nodes of workers have.
        domain_label: Node label whose value is the domain of a plan's rank.
        rdma_resource: Extended resource of an RDMA device, one for each host.
        gang_scheduler: Who starts all pods or none.
        queue: Its queue.
        redis: ``HOST:PORT`` that outlives the head's memory.
        redis_secret: ``NAME[:KEY]`` of its password; the key is ``password``.
        ray_auth: ``token``: Ray's own API asks for a token.
        serve_from: ``KEY=VALUE`` of namespaces that may ask the models; None: only the RayService's own.
        kustomize: A base and an example overlay in place of plain files.
    """

    runtime: Runtime = "stock"
    image: str | None = None
    name: str | None = None
    cpu_per_host: int | None = None
    memory_gib_per_host: int | None = None
    token_secret: str = "hf-token"  # noqa: S105 (a Secret's name, not a secret)
    token_key: str = "token"  # noqa: S105
    model_volume: str | None = None
    offline: bool | None = None
    env_secrets: tuple[str, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    tolerations: tuple[str, ...] = ()
    node_selectors: tuple[str, ...] = ()
    domain_label: str | None = None
    rdma_resource: str | None = None
    gang_scheduler: GangScheduler = "none"
    queue: str | None = None
    redis: str | None = None
    redis_secret: str | None = None
    ray_auth: RayAuth = "token"
    serve_from: str | None = None
    kustomize: bool = False


# The command line's name of an option where it is not the field's own: what may be repeated is named in the singular.
_FLAGS = {
    "env_secrets": "--env-secret",
    "image_pull_secrets": "--image-pull-secret",
    "tolerations": "--toleration",
    "node_selectors": "--node-selector",
}
# What another target than kuberay reads. (vllm has a message of its own for the runtime.)
_READ_BY: dict[Target, frozenset[str]] = {"vllm": frozenset({"runtime"}), "ray": frozenset({"runtime", "model_volume"})}


def flag(field: str) -> str:
    """The command line's word for a field of :class:`RenderOptions`."""
    return _FLAGS.get(field, f"--{field.replace('_', '-')}")


def refuse_unread(options: RenderOptions, target: Target) -> None:
    """An option that a target does not read is a misunderstanding, not a detail.

    Raises:
        InputError: One was given.
    """
    if target == "kuberay":
        return
    for field in fields(options):
        if field.name not in _READ_BY[target] and getattr(options, field.name) != field.default:
            raise InputError(
                f"target {target} does not read this option",
                where=flag(field.name),
                remedy="leave it out, or use --target kuberay",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """One file to write. ``name`` is relative; folders in it, if any, are divided by ``/``."""

    name: str
    text: str
    executable: bool = False
