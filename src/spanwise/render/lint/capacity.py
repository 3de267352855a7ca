"""GPUs that the worker groups of a RayService have and can have, against those that its Serve config asks for.

How the autoscaler counts groups of several hosts: Ray 2.60, autoscaler/_private/kuberay/node_provider.py (v1) and
autoscaler/v2/instance_manager/cloud_providers/kuberay/cloud_provider.py (v2); which of the two runs: KubeRay v1.7.0, raycluster_types.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.render.lint.demand import Demand, counts, hosts_of
from spanwise.render.lint.ray_cluster import first_autoscaler, gpus_of
from spanwise.render.lint.report import Report, items, mapping, whole

if TYPE_CHECKING:
    from spanwise.render.lint.documents import Path

_PATH: Path = ("spec", "serveConfigV2")
# The CRD's default.
_MOST_REPLICAS = 2**31 - 1


def check_capacity(report: Report, demand: Demand, cluster: dict[str, Any]) -> None:
    """Too few GPUs, too many, and groups that do not grow by what a replica takes."""
    if not demand.least:
        return
    groups = [mapping(group) for group in items(cluster.get("workerGroupSpecs"))]
    head = gpus_of(mapping(cluster.get("headGroupSpec")))
    autoscaling = cluster.get("enableInTreeAutoscaling") is True

    def gpus(field: str, default: int) -> int:
        return head + sum(gpus_of(group) * counts(group, field, default) for group in groups)

    can, now = gpus("maxReplicas", _MOST_REPLICAS), gpus("replicas", 0)
    if can < demand.least:
        report.add(
            "gpus_not_enough",
            "error",
            _PATH,
            f"the models need {demand.least} GPUs and the worker groups can have {can}: replicas wait for ever",
            "raise maxReplicas or the GPUs per host, or lower tensor_parallel_size x pipeline_parallel_size x replicas",
        )
    elif now < demand.least and not autoscaling:
        report.add(
            "gpus_not_enough",
            "warning",
            _PATH,
            f"the models need {demand.least} GPUs, the worker groups have {now}, and nothing in this file makes them larger: "
            "replicas wait until somebody does",
            "raise `replicas`, or set `enableInTreeAutoscaling: true`",
        )
    elif (reach := can if autoscaling else now) < demand.most:
        report.add(
            "replicas_beyond_gpus",
            "warning",
            _PATH,
            f"Serve may scale the models to {demand.most} GPUs, and the worker groups "
            f"{'can have' if autoscaling else 'have'} {reach}: replicas beyond them wait, and the load that called for them is not met",
            "lower max_replicas, or raise maxReplicas of the worker group and set `enableInTreeAutoscaling: true`",
        )
    kept = [group for group in groups if group.get("suspend") is not True]
    idle = (
        head + sum(gpus_of(g) * counts(g, "minReplicas" if autoscaling else "replicas", 0) for g in kept) - demand.most
    )
    if demand.complete and idle > 0:
        report.add(
            "gpus_idle",
            "warning",
            _PATH,
            f"the models use at most {demand.most} GPUs and the cluster always has {demand.most + idle}: {idle} are paid for and idle",
            "lower the worker groups' hosts or their GPUs per host, or serve more replicas",
        )
    if autoscaling:
        _groups_of_hosts(report, demand, cluster, groups)


def _groups_of_hosts(report: Report, demand: Demand, cluster: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Ray's second autoscaler wants hosts, and asks KubeRay for whole replicas of a group: it rounds down."""
    if first_autoscaler(cluster):
        return  # a worse thing is said of it
    for index, group in enumerate(groups):
        hosts, per_host = whole(group.get("numOfHosts")) or 1, gpus_of(group)
        if hosts == 1 or not per_host or group.get("minReplicas") == group.get("maxReplicas"):
            continue
        for replicas in demand.deployments:
            wanted = hosts_of(replicas, per_host)
            if wanted % hosts:
                report.add(
                    "autoscaling_rounds_down",
                    "warning",
                    ("spec", "rayClusterConfig", "workerGroupSpecs", index, "numOfHosts"),
                    f"a model replica takes {wanted} hosts and this group grows by {hosts}: Ray's autoscaler divides and rounds down, "
                    "and the last hosts never come",
                    f"set numOfHosts to {wanted}, or keep minReplicas = maxReplicas",
                )
                break
