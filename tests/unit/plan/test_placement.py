from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import LayoutError
from spanwise.plan.placement import place


def hosts(count: int) -> tuple[str, ...]:
    return tuple(f"h{number}" for number in range(1, count + 1))


@pytest.mark.parametrize(
    ("tensor", "stages", "replicas", "count", "gpus", "expected"),
    [
        (4, 1, 1, 2, 4, ["h1*4"]),
        (4, 2, 1, 2, 4, ["h1*4 h2*4"]),
        (1, 1, 3, 2, 2, ["h1*1", "h1*1", "h2*1"]),
        (2, 3, 1, 2, 4, ["h1*4 h2*2"]),
        # The second replica takes hosts of its own rather than the gap that the first one left.
        (2, 3, 2, 4, 4, ["h1*4 h2*2", "h3*4 h4*2"]),
        # With no such hosts left it takes the gaps, whole stages at a time.
        (2, 3, 2, 3, 4, ["h1*4 h2*2", "h2*2 h3*4"]),
        (3, 2, 1, 2, 4, ["h1*3 h2*3"]),
        (8, 1, 1, 2, 4, ["h1*4 h2*4"]),
        (1, 4, 1, 4, 1, ["h1*1 h2*1 h3*1 h4*1"]),
    ],
)
def test_known_places(tensor: int, stages: int, replicas: int, count: int, gpus: int, expected: list[str]) -> None:
    placed = place(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=stages,
        replicas=replicas,
        hosts=hosts(count),
        gpus_per_host=gpus,
    )
    assert [" ".join(f"{host}*{number}" for host, number in Counter(ranks).items()) for ranks in placed] == expected


def test_no_room_is_named() -> None:
    with pytest.raises(LayoutError, match="no room for replica 2 of 2") as caught:
        place(tensor_parallel_size=3, pipeline_parallel_size=1, replicas=2, hosts=("a",), gpus_per_host=4)
    assert caught.value.remedy


@settings(max_examples=300, deadline=None)
@given(
    tensor=st.integers(1, 16),
    stages=st.integers(1, 8),
    replicas=st.integers(1, 6),
    count=st.integers(1, 8),
    gpus=st.integers(1, 8),
)
def test_properties(tensor: int, stages: int, replicas: int, count: int, gpus: int) -> None:
    try:
        placed = place(
            tensor_parallel_size=tensor,
            pipeline_parallel_size=stages,
            replicas=replicas,
            hosts=hosts(count),
            gpus_per_host=gpus,
        )
    except LayoutError:
        return
    assert len(placed) == replicas
    assert all(len(ranks) == tensor * stages for ranks in placed)
    assert max(Counter(host for ranks in placed for host in ranks).values()) <= gpus
    order = {host: index for index, host in enumerate(hosts(count))}
    for ranks in placed:
        assert [order[host] for host in ranks] == sorted(order[host] for host in ranks)
        if tensor * stages <= gpus:
            assert len(set(ranks)) == 1
        elif tensor <= gpus:
            for stage in range(stages):
                assert len(set(ranks[stage * tensor : (stage + 1) * tensor])) == 1


@given(stages=st.integers(1, 8), gpus=st.integers(1, 8), replicas=st.integers(1, 4))
def test_stages_that_fill_hosts_need_no_host_more(stages: int, gpus: int, replicas: int) -> None:
    placed = place(
        tensor_parallel_size=gpus,
        pipeline_parallel_size=stages,
        replicas=replicas,
        hosts=hosts(stages * replicas),
        gpus_per_host=gpus,
    )
    assert len({host for ranks in placed for host in ranks}) == stages * replicas
