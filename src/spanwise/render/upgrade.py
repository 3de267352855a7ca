"""How a changed RayService takes effect, by what the plans say is spare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan
    from spanwise.render.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """KubeRay's upgrade strategy and why it was chosen."""

    type: Literal["NewCluster", "None"]
    reason: str


def upgrade(plans: Sequence[Plan], place: Site) -> Upgrade:
    """``NewCluster`` only where a second cluster has room: until it serves, both hold all their GPUs.

    KubeRay's third strategy, NewClusterWithIncrementalUpgrade, needs Ray's autoscaler, a Gateway, and groups that may
    shrink: a gang of fixed size cannot.
    """
    if place.gang_scheduler == "kueue":
        return Upgrade(type="None", reason="Kueue admits one cluster at a time; a second would wait for its quota")
    used: dict[str, set[str]] = {}
    known: dict[str, set[str]] = {}
    for plan in plans:
        kind = plan.expected.gpu
        used.setdefault(kind, set()).update(host for gang in plan.gangs for host in gang.hosts)
        known.setdefault(kind, set()).update(_hosts(plan))
    for kind, hosts in used.items():
        spare = len(known[kind] - hosts)
        if spare < len(hosts):
            return Upgrade(
                type="None",
                reason=f"a second cluster would need {len(hosts)} more hosts with {kind}, and the plan knows of {spare}; "
                "to change the cluster, delete this RayService and apply the new one",
            )
    return Upgrade(type="NewCluster", reason="the plan's hardware has room for a second cluster until it serves")


def _hosts(plan: Plan) -> set[str]:
    """The hosts that the plan was made for, those included that no gang uses. The intent is stored data: read with care."""
    hardware: Any = plan.intent.get("hardware")
    hosts: Any = hardware.get("hosts") if isinstance(hardware, dict) else None
    nodes: Any = hardware.get("nodes") if isinstance(hardware, dict) else None
    named = {host for host in hosts if isinstance(host, str)} if isinstance(hosts, list | tuple) else set[str]()
    if not named and isinstance(nodes, int):
        # As `plan` names them where the intent does not.
        named = {f"host-{number}" for number in range(1, min(nodes, 100_000) + 1)}
    return named | set(plan.expected.hosts)
