"""A Ray cluster's node table against what plans ask: tables in the form of `ray.nodes()`, no Ray."""

from __future__ import annotations

from typing import Any

import pytest

from spanwise.errors import StalePlanError
from spanwise.serve.inventory import check_gpus, host_selectors, hosts_by_node
from tests.unit.plans import make_plan


def node(name: str, gpus: int = 4, *, labelled: bool = True, alive: bool = True) -> dict[str, Any]:
    return {
        "NodeID": f"id-{name}",
        "Alive": alive,
        "NodeManagerHostname": name if not labelled else f"pod-of-{name}",
        "Resources": {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})},
        "Labels": {"spanwise.io/host": name} if labelled else {},
    }


def test_our_label_first_then_the_hostname() -> None:
    nodes = [node("host-1"), node("host-2", labelled=False)]
    assert host_selectors(nodes, {"host-1", "host-2"}) == {
        "host-1": {"spanwise.io/host": "host-1"},
        "host-2": {"ray.io/node-id": "id-host-2"},
    }
    assert hosts_by_node(nodes) == {"id-host-1": "host-1", "id-host-2": "host-2"}


@pytest.mark.parametrize("nodes", [[node("host-1")], [node("host-1"), node("host-2", alive=False)], []])
def test_a_host_that_is_not_there_makes_the_plan_stale(nodes: list[dict[str, Any]]) -> None:
    with pytest.raises(StalePlanError) as stale:
        host_selectors(nodes, {"host-1", "host-2"})
    assert "host-2" in stale.value.what
    assert stale.value.exit_code == 2


def test_plans_share_one_inventory_and_a_conflict_names_both() -> None:
    one, other = make_plan(tensor=3), make_plan(name="other", served_name="other", model="other", tensor=2)
    check_gpus([node("host-1", 5)], [one, other])
    with pytest.raises(StalePlanError) as conflict:
        check_gpus([node("host-1", 4)], [one, other])
    assert "host-1 has 4 GPUs and 5 ranks" in conflict.value.what
    assert "meta-llama/Meta-Llama-3-70B" in conflict.value.what
    assert "other" in conflict.value.what


def test_a_host_without_gpus_has_none() -> None:
    with pytest.raises(StalePlanError):
        check_gpus([node("host-1", 0)], [make_plan()])
