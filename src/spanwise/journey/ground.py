"""What stands when the groups of a probe are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanwise.probe.effort import Effort
    from spanwise.probe.finding import Finding
    from spanwise.probe.groups import Group
    from spanwise.probe.reach import Host, Reach
    from spanwise.probe.report import Expected, Probed
    from spanwise.probe.run import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What stands when groups are measured.

    Attributes:
        reach: The way to the hosts.
        hosts: Those that answered and have an address, by name.
        effort: How much is measured.
        groups: What is measured.
        expected: What the gang needs.
        probed: What was seen; curves are added to it.
        findings: What is wrong already.
        say: Takes one line per step.
    """

    reach: Reach
    hosts: dict[str, Host]
    effort: Effort
    groups: tuple[Group, ...]
    expected: Expected
    probed: Probed
    findings: tuple[Finding, ...]
    say: Say

    @property
    def backend(self) -> str:
        """Nccl where every host shows GPUs, gloo elsewhere."""
        there = [report for report in self.probed.hosts if report.facts is not None]
        return "nccl" if there and all((report.part("gpus") or {}).get("cards") for report in there) else "gloo"

    def interface(self, group: Group) -> str | None:
        """The one that joins the group's hosts; None where it has several names (the address decides then)."""
        if self.expected.interface:
            return self.expected.interface
        reports = [report for report in self.probed.hosts if report.host.name in group.hosts]
        names = {(report.interface(None) or {}).get("name") for report in reports}
        return names.pop() if len(names) == 1 else None

    def obstacle(self, group: Group) -> str:
        """Why the group cannot be formed, as half a sentence; empty where it can."""
        wrong = [finding.host for finding in self.findings if finding.severity == "error"]
        blocked = sorted(name for name in set(group.hosts) if any(name in where for where in wrong))
        if blocked:
            return f"not measured, see the findings on {', '.join(blocked)}"
        without = {r.host.name for r in self.probed.hosts if not (r.part("versions") or {}).get("torch")}
        bare = sorted(set(group.hosts) & without)
        return f"no torch on {', '.join(bare)}" if bare else ""
