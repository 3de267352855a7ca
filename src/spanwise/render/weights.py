"""Where pods find the weights: a claim, folders of the hosts, a bucket, or the model hub; and the variables that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.errors import InputError
from spanwise.render.grammar import container_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan
    from spanwise.render.site import ModelVolume, Site

_VOLUME = "models"


def model_source(plan: Plan, volume: ModelVolume | None) -> str:
    """What the engine is told to load: the plan's own word, or the bucket's folder."""
    return volume.source if volume is not None and volume.kind == "s3" else plan.model.source


def refuse_unreachable(plans: Sequence[Plan], volume: ModelVolume | None) -> None:
    """A model volume must hold what the plans load.

    A hub name is looked for in the volume as in the hub's cache; a folder must lie in the volume; a bucket's folder is one
    model, whatever its name.

    Raises:
        InputError: A plan's folder lies elsewhere, or one bucket's folder for several models.
    """
    if volume is None:
        return
    where = "--model-volume"
    if volume.kind == "s3" and len(plans) > 1:
        raise InputError(
            f"one folder of a bucket holds one model, and there are {len(plans)} plans",
            where=where,
            remedy="render the plans apart, or use a claim (pvc:NAME) laid out as the hub's cache",
        )
    for plan in plans:
        source = plan.model.source
        if source.startswith("/") and not _within(source, volume.mount):
            place = f"{volume.mount}, where the volume is mounted" if volume.mount else "a bucket"
            raise InputError(
                f"plan {plan.name} loads {source[:200]}, which does not lie in {place}",
                where=where,
                remedy="mount the volume above that folder (pvc:NAME:/mount), or plan with the model's hub name",
            )


def refuse_unmountable(plans: Sequence[Plan], volume: ModelVolume | None) -> None:
    """A plan's own folder is mounted from the host's disk where no volume is named: never ``/``, ``/etc`` or Ray's own.

    Raises:
        InputError: Such a folder.
    """
    if volume is not None:
        return
    for plan in plans:
        if plan.model.source.startswith("/"):
            container_path(plan.model.source, f"plan {plan.name}, model.source")


def _within(path: str, folder: str) -> bool:
    return bool(folder) and ".." not in path.split("/") and f"{path.rstrip('/')}/".startswith(f"{folder}/")


def _folders(plans: Sequence[Plan], place: Site) -> list[str]:
    """Model folders on the hosts' own disks, each once: those of the plans, where no volume was named."""
    if place.volume is not None:
        return []
    return list(dict.fromkeys(plan.model.source for plan in plans if plan.model.source.startswith("/")))


def fills_cache(plans: Sequence[Plan], place: Site) -> bool:
    """True where the volume is the hub's cache and the hub may be asked: what is fetched is written there."""
    return place.volume is not None and bool(place.volume.mount) and not place.offline and _from_hub(plans)


def _from_hub(plans: Sequence[Plan]) -> bool:
    return any(not plan.model.source.startswith("/") for plan in plans)


def mounts(plans: Sequence[Plan], place: Site) -> list[dict[str, Any]]:
    """Volume mounts of a Ray container; weights are only read, but where they are fetched."""
    read_only = {} if fills_cache(plans, place) else {"readOnly": True}
    found: list[dict[str, Any]] = [
        {"name": f"model-{index}", "mountPath": path, "readOnly": True}
        for index, path in enumerate(_folders(plans, place))
    ]
    if place.volume is not None and place.volume.mount:
        found.append({"name": _VOLUME, "mountPath": place.volume.mount, **read_only})
    return found


def volumes(plans: Sequence[Plan], place: Site) -> list[dict[str, Any]]:
    """The pod's volumes for :func:`mounts`."""
    found: list[dict[str, Any]] = [
        {"name": f"model-{index}", "hostPath": {"path": path, "type": "Directory"}}
        for index, path in enumerate(_folders(plans, place))
    ]
    if place.volume is not None and place.volume.kind == "pvc":
        read_only = {} if fills_cache(plans, place) else {"readOnly": True}
        found.append({"name": _VOLUME, "persistentVolumeClaim": {"claimName": place.volume.source, **read_only}})
    if place.volume is not None and place.volume.kind == "hostPath":
        found.append({"name": _VOLUME, "hostPath": {"path": place.volume.source, "type": "Directory"}})
    return found


def environment(plans: Sequence[Plan], place: Site) -> dict[str, Any]:
    """``env`` and ``envFrom`` of a Ray container; Ray's workers inherit them. Secrets are named, never written."""
    from_hub = _from_hub(plans)
    env: list[dict[str, Any]] = []
    if place.offline:
        env.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    elif from_hub:
        if place.runtime == "spanwise":
            # Our image is offline unless told otherwise (containers/Containerfile).
            env.append({"name": "HF_HUB_OFFLINE", "value": "0"})
        # Optional: public models need no token.
        reference = {"name": place.token.name, "key": place.token.key, "optional": True}
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    if place.volume is not None and place.volume.mount and from_hub:
        env.append({"name": "HF_HUB_CACHE", "value": place.volume.mount})
    found: dict[str, Any] = {"env": env} if env else {}
    if place.env_secrets:
        found["envFrom"] = [{"secretRef": {"name": name}} for name in place.env_secrets]
    return found
