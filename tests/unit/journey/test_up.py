"""`up` on a lab of its own making: an interrupt takes the lab down again and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spanwise.errors import EngineError, Interrupted, PlanError
from spanwise.journey import up
from spanwise.plan.types import Setting
from tests.unit.plans import document, make_plan


class _Leash:
    state: Any = object()


@pytest.mark.parametrize(("failure", "shown"), [(KeyboardInterrupt(), Interrupted), (EngineError("died"), EngineError)])
def test_what_up_brought_up_goes_with_it(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException, shown: type[BaseException]
) -> None:
    taken_down = []

    def fails(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr(up, "existing_target", lambda _: None)
    monkeypatch.setattr(up, "_lab_for", lambda *_: _Leash())
    monkeypatch.setattr(up, "deploy", fails)
    monkeypatch.setattr(up.bring, "down", lambda: taken_down.append("lab"))
    with pytest.raises(shown) as stopped:
        up.serve([], ray_address=None, port=0, progress=lambda _: None)
    assert taken_down == ["lab"]
    if shown is Interrupted:
        assert "interrupted; the lab that was brought up for these plans was taken down again" in str(stopped.value)


@pytest.mark.parametrize("address", [None, "auto"])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"environment": (Setting(name="LD_PRELOAD", value="s3cr3t", reason="r", source="s"),)}, "LD_PRELOAD"),
        ({"environment": (Setting(name="PYTHONPATH", value="s3cr3t", reason="r", source="s"),)}, "PYTHONPATH"),
        ({"worker_extension_cls": "evil.Mixin"}, "worker_extension_cls"),
    ],
)
def test_a_plan_that_loads_something_is_refused_before_anything_else(
    tmp_path: Path, address: str | None, changes: dict[str, Any], named: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document(make_plan(**changes))))
    with pytest.raises(PlanError, match=named) as refused:
        up.load([path], ray_address=address)
    assert str(path) in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
