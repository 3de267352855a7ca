from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanwise.errors import InputError, PlanError, SpanwiseError
from spanwise.plan.load import check_plan, load_plan, parse_json, parse_plan
from tests.unit.plans import CASES, LOCAL, TWO_HOSTS, document

PLANS = [plan for plans in CASES.values() for plan in plans]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_round_trip_keeps_the_hash(plan: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document(plan)))
    again = load_plan(path)
    assert again == plan
    assert again.hash == again.computed_hash() == plan.hash


def test_an_edited_plan_names_both_hashes(tmp_path: Path) -> None:
    edited = document(TWO_HOSTS)
    edited["engine_args"]["gpu_memory_utilization"] = 0.95
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(edited))
    with pytest.raises(PlanError, match="edited") as caught:
        load_plan(path)
    assert TWO_HOSTS.hash in caught.value.what
    assert caught.value.what.count("'") == 4
    assert caught.value.where == str(path)
    assert caught.value.exit_code == 2


def _resealed(change: Any) -> dict[str, Any]:
    """A plan that was changed and sealed again: only its own contradictions give it away."""
    changed = copy.deepcopy(document(LOCAL))
    change(changed)
    from spanwise.plan.types import Plan

    return document(Plan.model_validate(changed).sealed())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["layout"].update(replicas=2), "1 gangs for 2 replicas"),
        (lambda d: d["layout"].update(tensor_parallel_size=10**30), "has 4 ranks"),
        (lambda d: d["gangs"][0]["ranks"].pop(), "has 3 ranks"),
        (lambda d: d["gangs"][0]["ranks"].reverse(), "out of order"),
        (lambda d: d["gangs"][0]["ranks"][2].update(host="host-1"), "host-1 has 2 GPUs and 3 ranks"),
        (lambda d: d["gangs"][0]["ranks"][3].update(host="host-9"), "host-9 is not among"),
        (lambda d: d["stages"].pop(), "1 stages"),
        (lambda d: d.update(name='x"; rm -rf /'), "is no name"),
        (lambda d: d["gangs"][0].update(id="a/b"), "is no name"),
        (lambda d: d["environment"][0].update(name="LD PRELOAD"), "cannot be set"),
        (lambda d: d["environment"][0].update(reason="a\nrm -rf /"), "cannot be set"),
        (lambda d: d["model"].update(source="x\ny"), "cannot be printed"),
        (lambda d: d["engine_args"].update(pipeline_parallel_size=1), "pipeline_parallel_size is 1"),
        (lambda d: d["engine_args"].update(model="other"), "not model.source"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change: Any, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(_resealed(change))
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"[]", "no JSON object"),
        (b"nul", "not JSON"),
        (b'{"schema": "spanwise.plan/1"', "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"[" * 200_000, "deeply"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"{}", "no schema"),
        (b'{"schema": "spanwise.plan/9"}', "spanwise.plan/9"),
        (b'{"schema": "spanwise.verdict/1"}', "spanwise.verdict/1"),
        (b'{"schema": "spanwise.plan/1"}', "Field required"),
        (b'{"schema": ["spanwise.plan/1"]}', "is no plan"),
    ],
)
def test_anything_else_is_refused_in_one_message(text: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text)
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert words in str(caught.value)
    assert caught.value.where == str(path)


def test_missing_directory_and_binary(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", Path("a\0b")):
        with pytest.raises(PlanError):
            load_plan(path)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in pairs for found in _paths(child, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), value=_json)
def test_fuzzed_plans_never_surprise(data: st.DataObject, value: Any) -> None:
    """One value anywhere replaced by anything: the plan is refused with a SpanwiseError or equals the old one."""
    plan = document(LOCAL)
    path = data.draw(st.sampled_from(_paths(plan)[1:]))
    target: Any = plan
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    try:
        again = parse_plan(parse_json(json.dumps(plan).encode(), "fuzz"), "fuzz")
    except SpanwiseError as error:
        assert isinstance(error, InputError)
        return
    check_plan(again)
    assert again.hash == LOCAL.hash


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_fuzzed_bytes_never_surprise(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_plan(parse_json(data, "fuzz"), "fuzz")
