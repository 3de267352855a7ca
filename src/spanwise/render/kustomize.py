"""Rendered files as a Kustomize base, with an overlay that shows how a place of its own is made from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spanwise.render.options import RenderedFile
from spanwise.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.render.site import Image

_KIND = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def kustomized(files: Sequence[RenderedFile], service: str, image: Image) -> tuple[RenderedFile, ...]:
    """``files`` as ``base/``, with ``overlays/example/`` beside it.

    Overlays patch by JSON pointer: Kustomize knows no merge keys of a custom resource, so a strategic merge would replace whole
    lists.
    """
    base = {**_KIND, "resources": sorted(file.name for file in files)}
    header = ["Render again instead of editing these files: what differs between places belongs into an overlay."]
    return (
        *(replace(file, name=f"base/{file.name}") for file in files),
        RenderedFile(name="base/kustomization.yaml", text=yaml_text(base, header)),
        RenderedFile(
            name="overlays/example/kustomization.yaml",
            text=yaml_text(
                _overlay(service, image),
                [
                    "An example: copy this folder for each place, then kubectl apply -k overlays/PLACE.",
                    "The namespace must exist; the image may move to your registry with newName, or to a digest.",
                ],
            ),
        ),
    )


def _overlay(service: str, image: Image) -> dict[str, Any]:
    pinned = {"digest": image.digest} if image.digest is not None else {"newTag": image.tag}
    labelled = [{"op": "add", "path": "/metadata/labels/spanwise.io~1place", "value": "example"}]
    return {
        **_KIND,
        "namespace": "example",
        "resources": ["../../base"],
        "images": [{"name": image.name, "newName": image.name, **pinned}],
        "patches": [
            {
                "target": {"group": "ray.io", "version": "v1", "kind": "RayService", "name": service},
                "patch": yaml_text(labelled),
            }
        ],
    }
