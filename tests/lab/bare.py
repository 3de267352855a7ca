"""Hosts without Ray, for tests that need only namespaces and links; they are down again whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spanwise.lab import bring
from spanwise.lab.spec import LabSpec, LabState
from spanwise.lab.wiring import Isolation


@contextmanager
def bare_lab(
    state_dir: Path, *, hosts: int, rate_bit_per_s: float, wanted: Isolation | None = None
) -> Iterator[LabState]:
    """A lab in a state directory of its own, its links at ``rate_bit_per_s``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANWISE_STATE_DIR", str(state_dir))
        spec = LabSpec(hosts=hosts, gpus_per_host=1, link="100mbit", rate_bit_per_s=rate_bit_per_s, ray=False)
        leash = bring.up(spec, port=0, wanted=wanted, progress=lambda _text: None)
        leash.commit()
        try:
            yield leash.state
        finally:
            bring.down()
