"""Rules for a pod template that no schema says: Kubernetes refuses such a pod when KubeRay comes to make it.

The rules are Kubernetes' own (pkg/apis/core/validation/validation.go). The object is accepted; what follows is an event
`FailedToCreateHeadPod` or `FailedToCreateWorkerPod`, and a cluster that never gets ready.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spanwise.render.lint.names import is_dns1123_label, is_label_value, is_qualified_name
from spanwise.render.lint.report import Report, items, mapping, whole

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path

_POD_VALUES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "preemptionPolicy": ("PreemptLowerPriority", "Never"),
}
_CONTAINER_VALUES = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}
_TOLERATION_VALUES = {
    "operator": ("Exists", "Equal", "Lt", "Gt"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
}
# Volumes that KubeRay adds by itself.
_OPERATORS_OWN = frozenset({"shared-mem", "ray-logs", "gcs-storage", "ray-tls"})
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE]))?")
_SUFFIX = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3} | {
    letter + suffix: float(base**power)
    for power, letter in enumerate("KMGTPE", 1)
    for suffix, base in (("i", 1024), ("", 1000))
    if letter != "K" or suffix
}


def check_pod(report: Report, template: dict[str, Any], path: Path, name: str) -> None:
    """Findings on the pod template at ``path`` of the group ``name``."""
    spec = mapping(template.get("spec"))
    _values(report, spec, _POD_VALUES, (*path, "spec"))
    for index, toleration in enumerate(items(spec.get("tolerations"))):
        _values(report, mapping(toleration), _TOLERATION_VALUES, (*path, "spec", "tolerations", index))
    for key, value in mapping(mapping(template.get("metadata")).get("labels")).items():
        if not is_qualified_name(key) or (isinstance(value, str) and not is_label_value(value)):
            report.add(
                "label_not_allowed",
                "error",
                (*path, "metadata", "labels", key),
                f"the pods of {name} have the label {key[:80]!r}: {str(value)[:80]!r}, which is none for Kubernetes",
                "use letters, digits, '-', '_' and '.', at most 63 of them",
            )
    volumes = {str(mapping(volume).get("name")) for volume in items(spec.get("volumes"))} | _OPERATORS_OWN
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(items(spec.get(kind))):
            _container(report, mapping(container), (*path, "spec", kind, index), volumes)


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity as a number; None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else None
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) < 60 else None
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    return float(number + (exponent or "")) * _SUFFIX.get(suffix or "", 1.0)


def _values(report: Report, node: dict[str, Any], allowed: dict[str, tuple[str, ...]], path: Path) -> None:
    for key, values in allowed.items():
        given = node.get(key)
        if isinstance(given, str) and given and given not in values:
            _refused(report, (*path, key), f"{key} {given[:60]!r}", f"use one of {', '.join(values)}")


def _refused(report: Report, path: Path, what: str, fix: str) -> None:
    report.add("pod_refused", "error", path, f"{what}: Kubernetes refuses such a pod when KubeRay makes it", fix)


def _container(report: Report, container: dict[str, Any], path: Path, volumes: set[str]) -> None:
    _values(report, container, _CONTAINER_VALUES, path)
    name = container.get("name")
    if isinstance(name, str) and not is_dns1123_label(name):
        _refused(
            report, (*path, "name"), f"the container's name {name[:80]!r}", "use lower-case letters, digits and '-'"
        )
    for index, port in enumerate(items(container.get("ports"))):
        number = whole(mapping(port).get("containerPort"))
        if number is not None and not 0 < number < 65536:
            _refused(report, (*path, "ports", index), f"the port {number}", "give 1 to 65535")
    for index, mount in enumerate(items(container.get("volumeMounts"))):
        volume = mapping(mount).get("name")
        if isinstance(volume, str) and volume not in volumes:
            _refused(
                report,
                (*path, "volumeMounts", index),
                f"a mount of {volume[:60]!r}, which is no volume of the pod",
                "add it to `volumes` of the same pod, or correct the name",
            )
    resources = mapping(container.get("resources"))
    limits = mapping(resources.get("limits"))
    for key, asked in mapping(resources.get("requests")).items():
        request, limit = quantity(asked), quantity(limits.get(key))
        if request is not None and limit is not None and request > limit and not key.endswith("gpu"):
            _refused(
                report,
                (*path, "resources", "requests", key),
                f"a request of {str(asked)[:40]} {key[:60]} above the limit of {str(limits[key])[:40]}",
                "raise the limit, or lower the request",
            )
