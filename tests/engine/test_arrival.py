"""A real Ray cluster whose second host joins late; no engine is started: what is built waits for it, or gives up by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spanwise.serve.arrival import await_hosts
from tests.leftovers import left, snapshot
from tests.unit.plans import TWO_HOSTS

pytest.importorskip("vllm", reason="needs the engine's packages: make env")
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.engine


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without GPUs and the first host of the plan."""
    from ray.cluster_utils import Cluster

    before = snapshot()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False})
    try:
        made.add_node(num_cpus=1, num_gpus=4, labels={"spanwise.io/host": "host-1"})
        ray.init(address=made.address, namespace="serve", log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
    assert "processes" not in left(before)  # Ray itself keeps its logs in /tmp/ray


def test_a_host_that_joins_late(cluster: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_hosts, ray.nodes, [TWO_HOSTS], 120)
        with pytest.raises(TimeoutError):  # one host of two is there
            waiting.result(timeout=4)
        cluster.add_node(wait=False, num_cpus=1, num_gpus=4, labels={"spanwise.io/host": "host-2"})
        (found,) = waiting.result()
    assert found == {name: {"spanwise.io/host": name} for name in ("host-1", "host-2")}


def test_serve_says_which_host_did_not_join(cluster: Any) -> None:
    """The entry point of a RayService's config, built by Serve itself: it waits as long as it was told, then names the host."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    from spanwise.serve.compat import serve_client

    plan = TWO_HOSTS.model_dump(mode="json", by_alias=True)
    application = {
        "name": "llms",
        "import_path": "spanwise.serve.application:build_app",
        "args": {"plans": [plan], "wait_for_hosts_s": 4},
    }
    serve.start(http_options={"location": "NoServer"})
    try:
        serve_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}), _blocking=False)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            status = serve.status().applications["llms"]
            if status.status.value == "DEPLOY_FAILED":
                break
            assert status.status.value in ("NOT_STARTED", "DEPLOYING"), status
            time.sleep(0.5)
        assert "the plan places ranks on host-2" in status.message
        assert "for hosts to join" in status.message
    finally:
        serve.shutdown()
