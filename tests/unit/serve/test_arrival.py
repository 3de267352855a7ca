"""Hosts that join one by one: node tables in the form of `ray.nodes()`, time of our own."""

from __future__ import annotations

from typing import Any

import pytest

from spanwise.errors import InputError, StalePlanError
from spanwise.serve.arrival import POLL_S, WAIT_S, await_hosts, wait_of
from tests.unit.plans import SMALL, TWO_HOSTS
from tests.unit.serve.test_inventory import node, pod

HEAD = pod(0, 0)


class Cluster:
    """A cluster whose nodes come at set times, and a clock that only sleeping moves."""

    def __init__(self, *comings: tuple[float, dict[str, Any]]) -> None:
        self.comings = comings
        self.now = 1000.0
        self.looks = 0

    def nodes(self) -> list[dict[str, Any]]:
        self.looks += 1
        return [node for at, node in self.comings if self.now >= 1000 + at]

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def waits(self, *plans: Any, wait_s: float = WAIT_S) -> list[dict[str, dict[str, str]]]:
        return await_hosts(self.nodes, plans, wait_s, clock=self.clock, sleep=self.sleep)


def test_all_there_is_no_wait() -> None:
    cluster = Cluster((0, HEAD), (0, node("host-1")), (0, node("host-2")))
    assert set(cluster.waits(TWO_HOSTS)[0]) == {"host-1", "host-2"}
    assert (cluster.now, cluster.looks) == (1000, 1)


def test_the_last_host_is_waited_for() -> None:
    cluster = Cluster((0, HEAD), (40, node("host-1")), (700, node("host-2")))
    assert cluster.waits(TWO_HOSTS) == [
        {"host-1": {"spanwise.io/host": "host-1"}, "host-2": {"spanwise.io/host": "host-2"}}
    ]
    assert 1700 <= cluster.now <= 1700 + POLL_S


def test_hosts_without_names_are_waited_for_too() -> None:
    cluster = Cluster((0, HEAD), (5, pod(1, 4)), (9, pod(2, 4)))
    assert cluster.waits(TWO_HOSTS)[0]["host-2"] == {"ray.io/node-id": "node-2"}
    assert cluster.now >= 1009


def test_gpus_are_waited_for() -> None:
    """Two plans share a host: the second has no room until another joins."""
    cluster = Cluster((0, pod(1, 4)), (0, pod(2, 4)), (30, pod(3, 4)))
    assert len(cluster.waits(TWO_HOSTS, SMALL)) == 2
    assert cluster.now >= 1030


@pytest.mark.parametrize("wait_s", [0.0, 25.0, WAIT_S])
def test_giving_up_says_what_is_missing_and_how_long_it_took(wait_s: float) -> None:
    cluster = Cluster((0, HEAD), (0, node("host-1")), (WAIT_S + 10, node("host-2")))
    with pytest.raises(StalePlanError) as missing:
        cluster.waits(TWO_HOSTS, wait_s=wait_s)
    assert "host-2" in missing.value.what
    assert "host-1" in missing.value.what
    assert (f"waited {wait_s:.0f} s" in missing.value.what) is (wait_s > 0)
    assert cluster.now == 1000 + wait_s


@pytest.mark.parametrize("value", [True, "60", -1, float("nan"), float("inf"), None, []])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="no time to wait"):
        wait_of(value)
    assert (wait_of(0), wait_of(2.5)) == (0, 2.5)
