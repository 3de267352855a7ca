"""The place where a RayService will run, as checked values: what :class:`RenderOptions` asked for, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast, get_args

from spanwise.errors import InputError
from spanwise.render.grammar import (
    bucket,
    container_path,
    extended_resource,
    image_parts,
    label,
    label_key,
    label_value,
    object_name,
    queue_name,
    redis_address,
    secret_key,
    shown,
)
from spanwise.render.options import GangScheduler, RayAuth, RenderOptions, Runtime
from spanwise.render.upstream import IMAGE, RAY_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
_T = TypeVar("_T")
_CLAIM_MOUNT = "/models"
_REDIS_KEY = "password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image that says which one it is.

    Attributes:
        word: As the user wrote it.
        name: Without tag and digest.
    """

    word: str
    name: str
    tag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint that pods put up with; None for value or effect: any."""

    key: str
    value: str | None
    effect: Effect | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """One key of one Secret."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVolume:
    """Where the weights are.

    Attributes:
        kind: A claim, a folder on every host, or a folder of a bucket.
        source: The claim's name, the folder, or the address.
        mount: Where containers see it; empty for a bucket, which Ray copies to the host's disk.
    """

    kind: Literal["pvc", "hostPath", "s3"]
    source: str
    mount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Every option, checked. Fields as in :class:`RenderOptions`."""

    runtime: Runtime
    image: Image
    image_is_ours: bool
    name: str | None
    cpu_per_host: int | None
    memory_gib_per_host: int | None
    token: SecretKey
    volume: ModelVolume | None
    offline: bool
    env_secrets: tuple[str, ...]
    image_pull_secrets: tuple[str, ...]
    service_account: str | None
    tolerations: tuple[Toleration, ...]
    node_selector: dict[str, str]
    domain_label: str | None
    rdma_resource: str | None
    gang_scheduler: GangScheduler
    queue: str | None
    redis: str | None
    redis_password: SecretKey | None
    ray_auth: RayAuth
    serve_from: tuple[str, str] | None


def site(options: RenderOptions) -> Site:
    """The options, read.

    Raises:
        InputError: One that no such place can have, or two that contradict each other.
    """
    if options.runtime == "spanwise" and not options.image:
        raise InputError(
            "runtime spanwise needs an image that holds spanwise, and none is published",
            where="--image",
            remedy=f"build one on Ray {RAY_VERSION} with containers/Containerfile from a checkout, and name it with --image",
        )
    volume = None if options.model_volume is None else model_volume(options.model_volume)
    _agree(options, volume)
    return Site(
        runtime=options.runtime,
        image=_image(IMAGE if options.image is None else options.image),
        image_is_ours=options.image is None,
        name=options.name,
        cpu_per_host=_count(options.cpu_per_host, "--cpu-per-host"),
        memory_gib_per_host=_count(options.memory_gib_per_host, "--memory-gib-per-host"),
        token=SecretKey(
            name=object_name(options.token_secret, "--token-secret", "Secret"),
            key=secret_key(options.token_key, "--token-key"),
        ),
        volume=volume,
        offline=volume is not None if options.offline is None else options.offline,
        env_secrets=_names(options.env_secrets, "--env-secret"),
        image_pull_secrets=_names(options.image_pull_secrets, "--image-pull-secret"),
        service_account=_if_given(_account, options.service_account, "--service-account"),
        tolerations=tuple(dict.fromkeys(toleration(word) for word in options.tolerations)),
        node_selector=dict(label(word, "--node-selector") for word in options.node_selectors),
        domain_label=_if_given(label_key, options.domain_label, "--domain-label"),
        rdma_resource=_if_given(extended_resource, options.rdma_resource, "--rdma-resource"),
        gang_scheduler=options.gang_scheduler,
        queue=_if_given(queue_name, options.queue, "--queue"),
        redis=_if_given(redis_address, options.redis, "--redis"),
        redis_password=_if_given(_secret, options.redis_secret, "--redis-secret"),
        ray_auth=options.ray_auth,
        serve_from=_if_given(label, options.serve_from, "--serve-from"),
    )


def _if_given(read: Callable[[str, str], _T], word: str | None, where: str) -> _T | None:
    return None if word is None else read(word, where)


def _account(word: str, where: str) -> str:
    return object_name(word, where, "service account")


def _agree(options: RenderOptions, volume: ModelVolume | None) -> None:
    """Options that need or exclude another one."""
    if options.gang_scheduler == "none" and options.queue is not None:
        raise InputError(
            "a queue belongs to a scheduler", where="--queue", remedy="add --gang-scheduler kueue or volcano"
        )
    if options.gang_scheduler == "kueue" and options.queue is None:
        raise InputError(
            "Kueue leaves alone what names no queue", where="--gang-scheduler", remedy="name a LocalQueue with --queue"
        )
    if options.redis is None and options.redis_secret is not None:
        raise InputError("a password without a Redis", where="--redis-secret", remedy="add --redis HOST:PORT")
    refuse_bucket(volume, options.runtime)
    keys = [word.partition("=")[0] for word in options.node_selectors]
    if options.domain_label is not None:
        keys.append(options.domain_label)
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(
                f"the node label {shown(key)} is asked for twice, and a node has it once",
                where="--node-selector",
                remedy="leave one out (--domain-label sets its label too)",
            )


def refuse_bucket(volume: ModelVolume | None, runtime: Runtime) -> None:
    """Our runtime loads what the plan names, and a plan names no bucket.

    Raises:
        InputError: Both were asked for.
    """
    if volume is not None and volume.kind == "s3" and runtime == "spanwise":
        raise InputError(
            "runtime spanwise takes the model's place from the plan, which names no bucket",
            where="--model-volume",
            remedy="use a claim or a folder (pvc:NAME, hostPath:/dir), or --runtime stock",
        )


def model_volume(word: str) -> ModelVolume:
    """``pvc:NAME[:/mount]``, ``hostPath:/dir`` or ``s3://bucket/prefix``.

    Raises:
        InputError: None of these.
    """
    where = "--model-volume"
    kind, _, rest = word.partition(":")
    if kind == "pvc":
        name, colon, mount = rest.partition(":")
        return ModelVolume(
            kind="pvc",
            source=object_name(name, where, "claim"),
            mount=container_path(mount, where) if colon else _CLAIM_MOUNT,
        )
    if kind == "hostPath":
        path = container_path(rest, where)
        return ModelVolume(kind="hostPath", source=path, mount=path)
    if kind == "s3":
        return ModelVolume(kind="s3", source=bucket(word, where), mount="")
    raise InputError(
        "this says no place for models (not repeated here, in case it holds a secret)",
        where=where,
        remedy="write pvc:NAME, pvc:NAME:/mount, hostPath:/dir or s3://bucket/prefix",
    )


def toleration(word: str) -> Toleration:
    """``KEY[=VALUE][:EFFECT]``, as ``kubectl taint`` writes it.

    Raises:
        InputError: Not of that form.
    """
    where = "--toleration"
    taint, colon, effect = word.partition(":")
    if colon and effect not in get_args(Effect):
        raise InputError(
            f"{shown(effect)} is no effect of a taint", where=where, remedy=f"use one of {', '.join(get_args(Effect))}"
        )
    key, equals, value = taint.partition("=")
    return Toleration(
        key=label_key(key, where),
        value=label_value(value, where) if equals else None,
        effect=cast("Effect", effect) if colon else None,
    )


def _image(word: str) -> Image:
    name, tag, digest = image_parts(word, "--image")
    return Image(word=word, name=name, tag=tag, digest=digest)


def _names(words: tuple[str, ...], where: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(object_name(word, where, "Secret") for word in words))


def _secret(word: str, where: str) -> SecretKey:
    name, colon, key = word.partition(":")
    return SecretKey(name=object_name(name, where, "Secret"), key=secret_key(key, where) if colon else _REDIS_KEY)


def _count(value: int | None, where: str) -> int | None:
    if value is not None and not 1 <= value <= 1_000_000:
        raise InputError("this is no amount", where=where, remedy="give a whole number from 1 to 1000000")
    return value
