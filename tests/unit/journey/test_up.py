"""`up` on a lab of its own making: an interrupt takes the lab down again and says so."""

from __future__ import annotations

from typing import Any

import pytest

from spanwise.errors import EngineError, Interrupted
from spanwise.journey import up


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
