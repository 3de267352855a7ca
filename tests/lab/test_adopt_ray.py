"""`adopt --ray`: asks a running cluster, refuses a foreign one before anything is changed. Real Ray, no engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.leftovers import left, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
pytest.importorskip("ray", reason="needs Ray: make env")

# What Ray's own check reads; set as a cluster of that version would have set it.
FOREIGN = """
import json, ray
from ray._common.usage import usage_constants
from ray._private import ray_constants
from ray._raylet import GcsClient
import os
gcs = GcsClient(address=os.environ["RAY_ADDRESS"])
key, space = usage_constants.CLUSTER_METADATA_KEY, ray_constants.KV_NAMESPACE_CLUSTER
found = json.loads(gcs.internal_kv_get(key, namespace=space))
found["ray_version"] = "2.9.3"
gcs.internal_kv_put(key, json.dumps(found).encode(), overwrite=True, namespace=space)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    before = snapshot()
    spanwise = CommandLine(Path(tmp_path_factory.mktemp("adopt")) / "state")
    outcome = spanwise("lab", "up", "--hosts", "1", timeout_s=180)
    try:
        assert outcome.code == 0, outcome.err
        yield spanwise
    finally:
        spanwise("lab", "down")
    assert left(before) == {}


def test_a_cluster_that_serves_nothing_has_nothing_to_adopt(lab: CommandLine) -> None:
    outcome = lab("lab", "exec", "host-1", "spanwise", "adopt", "--ray", "auto", "--json")
    assert outcome.code == 2, outcome.err
    assert json.loads(outcome.out)["what"] == "Ray Serve serves nothing there"


def test_a_foreign_ray_is_refused_and_nothing_is_changed(lab: CommandLine) -> None:
    assert lab("lab", "exec", "host-1", "python", "-c", FOREIGN).code == 0
    outcome = lab("lab", "exec", "host-1", "spanwise", "adopt", "--ray", "auto")
    assert outcome.code == 2, outcome.err
    assert "Ray 2.9.3" in outcome.err
    assert "nothing was changed" in outcome.err
    assert "Traceback" not in outcome.err
