"""Rules for a RayService beyond its cluster: the controller's own, its Serve config, and the GPUs that its models need.

The controller's are those of KubeRay v1.7.0, ValidateRayServiceSpec and ValidateRayServiceMetadata.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spanwise.errors import ManifestError
from spanwise.render.lint.capacity import check_capacity
from spanwise.render.lint.documents import read_documents
from spanwise.render.lint.hub import check_hub
from spanwise.render.lint.ray_cluster import gpus_of
from spanwise.render.lint.report import Report, duplicates, items, mapping, whole
from spanwise.render.lint.serve_config import check_serve_config
from spanwise.render.upstream import RAY_VERSION, STOCK_IMPORT_PATH

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path

_UPGRADES = ("NewClusterWithIncrementalUpgrade", "NewCluster", "None")
_TIMEOUT = "ray.io/initializing-timeout"
# Go's time.ParseDuration, in nanoseconds; and strconv.Atoi for plain seconds.
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = re.compile(r"\+?0*[1-9][0-9]{0,17}")


def check_service(report: Report, spec: dict[str, Any], cluster: dict[str, Any], annotations: dict[str, Any]) -> None:
    """Everything about a RayService's ``spec`` that neither its schema nor its cluster's rules say."""
    timeout = annotations.get(_TIMEOUT)
    if isinstance(timeout, str) and timeout and not is_positive_duration(timeout):
        report.add(
            "annotation_not_allowed",
            "error",
            ("metadata", "annotations", _TIMEOUT),
            f"{_TIMEOUT} is {timeout[:40]!r}, which is no positive duration; KubeRay refuses that",
            "write a duration such as 30m or 1h, or seconds",
        )
    head_service = mapping(mapping(cluster.get("headGroupSpec")).get("headService"))
    if mapping(head_service.get("metadata")).get("name"):
        report.add(
            "head_service_named",
            "error",
            ("spec", "rayClusterConfig", "headGroupSpec", "headService", "metadata", "name"),
            "the head's service has a name of its own; KubeRay refuses that in a RayService",
            "remove the name",
        )
    _upgrade(report, spec, cluster)
    _serve(report, spec, cluster)


def is_positive_duration(text: str) -> bool:
    """True for what KubeRay takes as a timeout: a duration of Go above zero, or seconds above zero."""
    unsigned = text.removeprefix("+")
    if _DURATION.sub("", unsigned) == "":
        total = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(unsigned))
        return 1 <= total < 2**63
    return _SECONDS.fullmatch(text) is not None and int(text) < 2**63


def _upgrade(report: Report, spec: dict[str, Any], cluster: dict[str, Any]) -> None:
    strategy = mapping(spec.get("upgradeStrategy"))
    kind = strategy.get("type")
    path: Path = ("spec", "upgradeStrategy")

    def refuse(key: str, message: str, fix: str) -> None:
        report.add("upgrade_refused", "error", (*path, key), f"{message}; KubeRay refuses that", fix)

    if kind is not None and kind not in _UPGRADES:
        refuse("type", f"{str(kind)[:60]!r} is no upgrade of a RayService", f"use one of {', '.join(_UPGRADES)}")
    if kind != _UPGRADES[0]:
        return
    if cluster.get("enableInTreeAutoscaling") is not True:
        refuse("type", "an incremental upgrade needs Ray's autoscaler", "set `enableInTreeAutoscaling: true`")
    options = strategy.get("clusterUpgradeOptions")
    if not isinstance(options, dict):
        refuse(
            "clusterUpgradeOptions",
            "an incremental upgrade needs clusterUpgradeOptions",
            "add gatewayClassName, stepSizePercent and intervalSeconds",
        )
        return
    surge, step = whole(options.get("maxSurgePercent", 100)), whole(options.get("stepSizePercent"))
    for key, share in (("maxSurgePercent", surge), ("stepSizePercent", step)):
        if share is not None and not 0 <= share <= 100:
            refuse("clusterUpgradeOptions", f"{key} is {share}", "give 0 to 100")
    if surge is not None and step is not None and step > surge:
        refuse("clusterUpgradeOptions", f"stepSizePercent {step} exceeds maxSurgePercent {surge}", "make it smaller")
    interval = whole(options.get("intervalSeconds"))
    if interval is not None and interval <= 0:
        refuse("clusterUpgradeOptions", f"intervalSeconds is {interval}", "give a number above 0")
    if options.get("gatewayClassName") == "":
        refuse("clusterUpgradeOptions", "gatewayClassName is empty", "name a GatewayClass of the cluster")


def _serve(report: Report, spec: dict[str, Any], cluster: dict[str, Any]) -> None:
    """The Serve config inside a RayService, and whether the cluster has the GPUs that it needs."""
    text = spec.get("serveConfigV2")
    path = ("spec", "serveConfigV2")
    if not isinstance(text, str) or not text.strip():
        report.add(
            "serve_config_missing",
            "error",
            path,
            "no Serve config: the RayService starts a cluster that serves nothing",
            f"add `serveConfigV2: |` with `applications:` and `import_path: {STOCK_IMPORT_PATH}`; "
            "`spanwise render --target kuberay` writes it",
        )
        return
    try:
        documents = read_documents(text, report.file)
    except ManifestError as error:
        report.add("serve_config_not_yaml", "error", path, f"serveConfigV2: {error.what}", error.remedy)
        return
    if len(documents) != 1:
        report.add("serve_config_not_yaml", "error", path, "serveConfigV2 must hold one document", "keep one")
        return
    inner = report.embedded(documents[0], path, report.document.styles.get(path))
    duplicates(inner)
    groups = [mapping(group) for group in items(cluster.get("workerGroupSpecs"))]
    per_host = max((gpus_of(group) for group in groups), default=0)
    exact = str(cluster.get("rayVersion", RAY_VERSION)) == RAY_VERSION
    demand = check_serve_config(inner, documents[0].value, report.options.gpus_per_node or per_host or None, exact)
    check_hub(inner, documents[0].value, groups)
    check_capacity(report, demand, cluster)
