"""The syntax of Kubernetes' names, labels and versions (k8s.io/apimachinery, pkg/util/validation and pkg/util/version)."""

from __future__ import annotations

import re

_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
# ParseGeneric: two or more numbers with dots between, then anything on the same line.
_VERSION = re.compile(r"\s*v?([0-9]+(?:\.[0-9]+)*)[^\n]*")


def is_dns1035_label(text: str) -> bool:
    """True for what may name a service, and so a RayCluster or RayService."""
    return len(text) <= 63 and _LABEL_1035.fullmatch(text) is not None


def is_dns1123_label(text: str) -> bool:
    """True for what may name a container, and a worker group under a NetworkPolicy."""
    return len(text) <= 63 and _LABEL_1123.fullmatch(text) is not None


def is_qualified_name(text: str) -> bool:
    """True for what may be the key of a label or an annotation: ``name`` or ``prefix.example/name``."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (0 < len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return len(name) <= 63 and _QUALIFIED.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    """True for what may be the value of a label; empty is allowed."""
    return not text or (len(text) <= 63 and _QUALIFIED.fullmatch(text) is not None)


def version_of(text: str) -> tuple[int, ...] | None:
    """The numbers of a version as KubeRay reads them, None where it refuses the text."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    parts = match[1].split(".")
    if len(parts) < 2 or (parts[0].startswith("0") and parts[0] != "0") or any(len(part) > 18 for part in parts):
        return None
    return tuple(map(int, parts))
