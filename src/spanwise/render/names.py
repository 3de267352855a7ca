"""Names of what is made: of the service, its parts and its labels."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from spanwise.errors import InputError
from spanwise.render.lint.metadata import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanwise.plan.types import Plan
    from spanwise.render.hosts import HostGroup

# On every pod of a service. KubeRay's own label names the cluster, which is another one after an upgrade.
SERVICE_LABEL = "spanwise.io/service"
PLAN_LABEL = "spanwise.io/plan"
DOMAIN_LABEL = "spanwise.io/domain"
# What Ray knows a host by; the runtime pins ranks to it.
HOST_LABEL = "spanwise.io/host"
_DNS = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def service_name(plans: Sequence[Plan], asked: str | None) -> str:
    """The RayService's name: what was asked, or one made from the plans.

    Raises:
        InputError: Kubernetes or KubeRay would refuse it.
    """
    limit = MAX_NAME["RayService"]
    if asked is not None:
        if len(asked) > limit or not _DNS.fullmatch(asked):
            raise InputError(
                f"{asked[:80]!r} is no name for a RayService",
                where="--name",
                remedy=f"use at most {limit} lower-case letters, digits and '-', beginning with a letter",
            )
        return asked
    return slug("-".join(plan.name for plan in plans), limit)


def owner(group: HostGroup) -> str:
    """Whose ranks a group runs, as the value of :data:`PLAN_LABEL`."""
    return slug("-".join(plan.name for plan in group.plans))


def slug(text: str, limit: int = 50) -> str:
    """``text`` as a DNS-1035 label; a shortened one ends in a hash of the whole, so that it stays unique."""
    clean = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    if not clean or not clean[0].isalpha():
        clean = f"m-{clean}".rstrip("-")
    if len(clean) <= limit:
        return clean
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{clean[: limit - 7].rstrip('-')}-{digest}"
