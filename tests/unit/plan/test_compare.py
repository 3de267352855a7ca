from __future__ import annotations

import pytest

from spanwise.errors import InputError
from spanwise.plan.compare import diff
from tests.unit.plans import ARTICLE, TWO_HOSTS, document, make_plan


def test_equal_plans_have_no_difference() -> None:
    assert diff(document(ARTICLE), document(make_plan())) == ()


def test_every_differing_path_once() -> None:
    found = {item.path: item for item in diff(document(ARTICLE), document(TWO_HOSTS))}
    assert found["layout.pipeline_parallel_size"].a == 1
    assert found["layout.pipeline_parallel_size"].b == 2
    assert found["engine_args.distributed_executor_backend"].change == "only_b"
    assert found["gangs[meta-llama-3-70b-0].ranks[4]"].change == "only_b"
    assert found["expected.hosts[1]"].b == "host-2"
    assert "layout.tensor_parallel_size" not in found


def test_named_items_are_compared_with_their_namesakes() -> None:
    a = {"schema": "spanwise.verdict/1", "facts": [{"name": "x", "value": 1}, {"name": "y", "value": 2}]}
    b = {"schema": "spanwise.verdict/1", "facts": [{"name": "y", "value": 3}, {"name": "x", "value": 1}]}
    assert [(item.path, item.a, item.b) for item in diff(a, b)] == [("facts[y].value", 2, 3)]


def test_unequal_types_differ() -> None:
    a = {"schema": "spanwise.verdict/1", "v": True, "w": [], "n": None}
    b = {"schema": "spanwise.verdict/1", "v": 1, "w": {}}
    assert [(item.path, item.change) for item in diff(a, b)] == [("v", "changed"), ("w", "changed"), ("n", "only_a")]


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ({}, {}, "A has schema"),
        ({"schema": "spanwise.plan/1"}, {"schema": ["x"]}, "B has schema"),
        ({"schema": "spanwise.plan/1"}, {"schema": "spanwise.verdict/1"}, "A is a spanwise.plan/1"),
    ],
)
def test_only_two_of_one_kind(a: dict, b: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        diff(a, b)
