"""The groups of a RayService as hosts: how many, and what Ray counts on each. What their pods would execute is listed, not run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from spanwise.render.lint.documents import Path
from spanwise.render.lint.ray_cluster import gpus_of
from spanwise.render.lint.report import items, mapping, whole
from spanwise.render.reading import Reading

# Ray sets these itself; a custom resource or a label has a name like a label of Kubernetes.
_OWN_RESOURCES = frozenset({"CPU", "GPU", "memory", "object_store_memory", "node"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,126}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PLENTY_OF_CPUS = 8.0
_MOST_HOSTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts of one kind: the head group, or one worker group."""

    name: str
    head: bool
    replicas: int
    hosts_per_replica: int
    gpus: int
    cpus: float
    resources: dict[str, float]
    labels: dict[str, str]

    @property
    def hosts(self) -> int:
        """Hosts (pods) of the whole group."""
        return self.replicas * self.hosts_per_replica


def read_group(reading: Reading, group: dict[str, Any], path: Path, *, head: bool) -> Group:
    """The hosts of one group.

    Args:
        reading: Where reading stands.
        group: The head group, or a worker group.
        path: Where it is.
        head: True for the head group, which is one host whatever it says.

    Raises:
        ManifestError: It contradicts itself, or names resources or labels that Ray would not get.
    """
    params = mapping(group.get("rayStartParams"))
    if "labels" in params:
        raise reading.refuse(
            (*path, "rayStartParams", "labels"), "KubeRay refuses labels here", "use the group's own `labels`"
        )
    given = mapping(group.get("resources"))
    if given and any(params.get(key) for key in ("num-cpus", "num-gpus", "memory", "resources")):
        raise reading.refuse(
            (*path, "resources"),
            "resources stand in `resources` and in `rayStartParams`; KubeRay refuses that",
            "keep one",
        )
    resources = _resources(reading, params.get("resources"), (*path, "rayStartParams", "resources"))
    resources |= _checked_resources(
        reading,
        {key: _quantity(amount) for key, amount in given.items() if key not in _OWN_RESOURCES},
        (*path, "resources"),
    )
    limits = mapping(mapping(_container(group).get("resources")).get("limits"))
    cpus = _first(_quantity(params.get("num-cpus")), _quantity(given.get("CPU")), _quantity(limits.get("cpu")))
    gpus = whole(given.get("GPU")) if given.get("GPU") is not None else gpus_of(group)
    replicas = max(whole(group.get("replicas")) or 0, whole(group.get("minReplicas")) or 0)
    per_replica = max(1, whole(group.get("numOfHosts")) or 1)
    if replicas * per_replica > _MOST_HOSTS:
        raise reading.refuse((*path, "replicas"), f"more than {_MOST_HOSTS} hosts", "give a smaller number")
    _pods(reading, group, path)
    return Group(
        name="head" if head else str(group.get("groupName", f"group-{path[-1]}"))[:80],
        head=head,
        replicas=1 if head else 0 if group.get("suspend") is True else replicas,
        hosts_per_replica=1 if head else per_replica,
        gpus=min(gpus or 0, 1024),
        cpus=_PLENTY_OF_CPUS if cpus is None else cpus,
        resources=resources,
        labels=_labels(reading, group.get("labels"), (*path, "labels")),
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _container(group: dict[str, Any]) -> dict[str, Any]:
    listed = items(mapping(mapping(group.get("template")).get("spec")).get("containers"))
    return mapping(listed[0]) if listed else {}


def _quantity(value: Any) -> float | None:
    """A Kubernetes quantity of CPUs or of a custom resource: ``2``, ``"2"``, ``500m``; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(m?)", str(value).strip())
    return float(match[1]) / (1000 if match[2] else 1) if match else None


def _resources(reading: Reading, text: Any, path: Path) -> dict[str, float]:
    """Custom resources of ``rayStartParams.resources``, which KubeRay hands through a shell."""
    if text is None:
        return {}
    again = (
        'write it as \'"{\\\\"name\\\\": 1}"\': KubeRay hands it through a shell, which takes one pair of quotes away'
    )
    try:
        words = shlex.split(str(text)) if len(str(text)) < 4096 else []
        value = json.loads(words[0]) if len(words) == 1 else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise reading.refuse(path, "is no JSON object once a shell has read it", again)
    return _checked_resources(reading, value, path)


def _checked_resources(reading: Reading, value: dict[str, Any], path: Path) -> dict[str, float]:
    for name, amount in value.items():
        good = isinstance(amount, int | float) and not isinstance(amount, bool) and 0 <= amount < 1e9
        if name in _OWN_RESOURCES or not isinstance(name, str) or not _NAME.fullmatch(name) or not good:
            raise reading.refuse(path, f"{str(name)[:60]!r} is no custom resource with an amount", "name it as a label")
    return {name: float(amount) for name, amount in value.items()}


def _labels(reading: Reading, value: Any, path: Path) -> dict[str, str]:
    labels = {}
    for name, text in mapping(value).items():
        if not _NAME.fullmatch(str(name)) or not _LABEL_VALUE.fullmatch(str(text)) or str(name).startswith("ray.io/"):
            raise reading.refuse((*path, str(name)), "is no label that Ray takes", "use letters, digits, '-', '_', '.'")
        labels[str(name)] = str(text)
    return labels


def _pods(reading: Reading, group: dict[str, Any], path: Path) -> None:
    """What the pods of a group would execute beside Ray: none of it is run, all of it is said."""
    why = "a stranger's commands are not run"
    pod = mapping(mapping(group.get("template")).get("spec"))
    place: Path = (*path, "template", "spec")
    for index, container in enumerate(items(pod.get("initContainers"))):
        reading.remark("not_run", (*place, "initContainers", index), f"init container {_called(container)}", why)
    for index, container in enumerate(items(pod.get("containers"))):
        inner: Path = (*place, "containers", index)
        if index:
            reading.remark("not_run", inner, f"container {_called(container)}", "only the Ray container is emulated")
            continue
        for key in ("command", "args", "lifecycle"):
            if mapping(container).get(key):
                reading.remark("not_run", (*inner, key), key, why)
        names = [str(mapping(entry).get("name"))[:60] for entry in items(mapping(container).get("env"))]
        if names:
            reading.remark(
                "left_out",
                (*inner, "env"),
                ", ".join(names),
                "a pod's environment is not set on emulated hosts; no secret is read",
            )
        if mapping(container).get("envFrom"):
            reading.remark("left_out", (*inner, "envFrom"), "envFrom", "no Secret or ConfigMap is read")


def _called(container: Any) -> str:
    return repr(str(mapping(container).get("name"))[:60])
