"""A Ray cluster's node table against what plans ask: tables in the form of `ray.nodes()`, no Ray."""

from __future__ import annotations

from typing import Any

import pytest

from spanwise.errors import StalePlanError
from spanwise.serve.inventory import check_gpus, host_selectors, hosts_by_node, selectors_by_room
from tests.unit.plans import SMALL, TWO_HOSTS, make_plan


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


def pod(index: int, gpus: int, **resources: float) -> dict[str, Any]:
    """A node as KubeRay makes it: its name says nothing about any plan."""
    return {
        "NodeID": f"node-{index}",
        "Alive": True,
        "NodeManagerHostname": f"raycluster-x-worker-{index}",
        "NodeManagerAddress": f"10.0.0.{index}",
        "Resources": {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {}), **resources},
        "Labels": {},
    }


def taken(selectors: list[dict[str, dict[str, str]]]) -> list[dict[str, str]]:
    return [{host: found["ray.io/node-id"] for host, found in table.items()} for table in selectors]


def test_by_room_each_host_of_a_plan_becomes_a_node() -> None:
    nodes = [pod(1, 0), pod(10, 4), pod(2, 4)]
    assert taken(selectors_by_room(nodes, [TWO_HOSTS])) == [{"host-1": "node-2", "host-2": "node-10"}]


def test_by_room_a_pin_keeps_plans_on_their_own_worker_groups() -> None:
    pins = {"spanwise-meta-llama-3-70b": 4.0}
    nodes = [pod(1, 0), pod(2, 4, **{"spanwise-small": 4.0}), pod(3, 4, **pins), pod(4, 4, **pins)]
    found = taken(selectors_by_room(nodes, [TWO_HOSTS, SMALL]))
    assert found == [{"host-1": "node-3", "host-2": "node-4"}, {"host-7": "node-2"}]


def test_by_room_the_smallest_node_that_fits_is_taken_and_none_twice() -> None:
    found = taken(selectors_by_room([pod(1, 8), pod(2, 2)], [SMALL]))
    assert found == [{"host-7": "node-2"}]
    with pytest.raises(StalePlanError, match="4 free GPUs"):
        selectors_by_room([pod(1, 8)], [TWO_HOSTS])


def test_by_room_two_plans_share_what_is_there() -> None:
    assert taken(selectors_by_room([pod(1, 4)], [SMALL, SMALL])) == [{"host-7": "node-1"}, {"host-7": "node-1"}]
    with pytest.raises(StalePlanError):
        selectors_by_room([pod(1, 3)], [SMALL, SMALL])
