"""`adopt --ray`: asks a running cluster, refuses a foreign one before anything is changed. Real Ray, no engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.leftovers import left, snapshot
from tests.unit.plans import ARTICLE, SMALL

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


# What `spanwise up` deploys, without the engine: the gang's own configuration and its own `describe`, under its own names.
GANG = """
import json, sys, ray
from ray import serve
from spanwise.plan.load import parse_plan

ray.init(address="auto", namespace="serve", log_to_driver=False)

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Gang:
    def __init__(self, document):
        from spanwise.serve.application import gang_config
        plan = parse_plan(document, "plan")
        self._llm_config = gang_config(plan, plan.gangs[0], {host: {} for host in plan.expected.hosts})

    async def describe(self):
        from spanwise.serve.gang import GangServer
        return await GangServer.describe(self)

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Door:
    def __init__(self, *gangs):
        pass

plans = json.loads(sys.argv[1])
gangs = [Gang.options(name=f"gang-{plan['gangs'][0]['id']}").bind(plan) for plan in plans]
serve.start(http_options={"location": "NoServer"})
serve.run(Door.bind(*gangs), name="spanwise", route_prefix=None)
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


def test_what_up_deployed_is_read_from_the_cluster(lab: CommandLine) -> None:
    pytest.importorskip("vllm", reason="needs the engine's packages: make env")
    plans = [plan.model_dump(mode="json", by_alias=True) for plan in (ARTICLE, SMALL)]
    deployed = lab("lab", "exec", "host-1", "python", "-c", GANG, json.dumps(plans), timeout_s=300)
    assert deployed.code == 0, deployed.err
    outcome = lab("lab", "exec", "host-1", "spanwise", "adopt", "--ray", "auto", "--json", timeout_s=300)
    assert outcome.code == 0, outcome.err
    found = {model["name"]: model["plan"] for model in json.loads(outcome.out)["models"]}
    assert found == {plan["model"]["served_name"]: plan for plan in plans}


def test_a_foreign_ray_is_refused_and_nothing_is_changed(lab: CommandLine) -> None:
    assert lab("lab", "exec", "host-1", "python", "-c", FOREIGN).code == 0
    outcome = lab("lab", "exec", "host-1", "spanwise", "adopt", "--ray", "auto")
    assert outcome.code == 2, outcome.err
    assert "Ray 2.9.3" in outcome.err
    assert "nothing was changed" in outcome.err
    assert "Traceback" not in outcome.err
