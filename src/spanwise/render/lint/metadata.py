"""Rules for an object's metadata, which a CRD leaves to the API server (k8s.io/apimachinery, ObjectMeta)."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from spanwise.render.lint.names import is_dns1035_label, is_label_value, is_qualified_name
from spanwise.render.lint.report import Report, mapping

# KubeRay: MaxRayClusterNameLength is 53; a RayService's name is 6 shorter because the cluster's name is made from it.
MAX_NAME = {"RayCluster": 53, "RayService": 47}
_FIELDS = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
_BEFORE_SUFFIX = 58
_TEXTS = ("generateName", "name", "namespace", "resourceVersion", "selfLink", "uid")


def check_metadata(report: Report, document: dict[str, Any], kind: str) -> None:
    """``metadata``: a name that KubeRay takes, and labels and annotations that Kubernetes takes."""
    metadata = mapping(document.get("metadata"))
    _name(report, metadata, kind)
    for key in metadata:
        if key not in _FIELDS:
            near = get_close_matches(key, _FIELDS, n=1, cutoff=0.7) if len(key) < 100 else []
            report.add(
                "field_unknown",
                "error",
                ("metadata", key),
                f"{key[:80]!r} is no field of metadata; the API server refuses or drops it",
                f"did you mean `{near[0]}`?" if near else "remove it, or make it a label or an annotation",
            )
    for key in _TEXTS:
        if metadata.get(key) is not None and not isinstance(metadata[key], str):
            report.add("wrong_type", "error", ("metadata", key), f"{key} must be text", "quote it")
    for key in ("labels", "annotations"):
        _pairs(report, metadata.get(key), key)


def _name(report: Report, metadata: dict[str, Any], kind: str) -> None:
    """The name becomes that of services: a DNS-1035 label, short enough for what KubeRay appends."""
    name = metadata.get("name")
    if not name:
        if not metadata.get("generateName"):
            report.add("name_missing", "error", ("metadata", "name"), "the object has no name", "add `metadata.name`")
            return
        name = f"{str(metadata['generateName'])[:_BEFORE_SUFFIX]}xxxxx"  # the API server appends five characters
    text = str(name)
    if len(text) > MAX_NAME[kind] or not is_dns1035_label(text):
        report.add(
            "name_not_allowed",
            "error",
            ("metadata", "name"),
            f"{text[:80]!r} is refused by KubeRay as the name of a {kind}",
            f"use at most {MAX_NAME[kind]} lower-case letters, digits and '-', beginning with a letter",
        )


def _pairs(report: Report, value: Any, field: str) -> None:
    """Labels and annotations: text to text, with keys (and labels also values) of a set form."""
    if value is None:
        return
    if not isinstance(value, dict):
        report.add("wrong_type", "error", ("metadata", field), f"{field} must be a mapping", "give `key: value` pairs")
        return
    for key, text in value.items():
        path = ("metadata", field, key)
        if text is not None and not isinstance(text, str):
            report.add("wrong_type", "error", path, f"{key[:80]} must be text", "quote it")
        # Annotations' keys may have upper-case prefixes.
        elif not is_qualified_name(key if field == "labels" else key.lower()):
            report.add(
                "label_not_allowed",
                "error",
                path,
                f"{key[:80]!r} is no key of {field}",
                "use letters, digits, '-', '_' and '.', at most 63 of them, after `prefix.example/` if need be",
            )
        elif field == "labels" and text is not None and not is_label_value(text):
            report.add(
                "label_not_allowed",
                "error",
                path,
                f"{text[:80]!r} is no value of a label",
                "use letters, digits, '-', '_' and '.', at most 63 of them, or an annotation",
            )
