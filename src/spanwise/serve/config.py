"""Serve config files: applied to a cluster as KubeRay applies them (through the controller), and read back from one."""

from __future__ import annotations

import time
from typing import Any

from spanwise.errors import ManifestError
from spanwise.serve.compat import serve_client
from spanwise.serve.follow import Say, await_running
from spanwise.serve.inventory import by_address, hosts_by_node

# The lab's own name of a host (lab/wiring.py), whatever a manifest calls it.
LAB_LABEL = "spanwise.io/lab-host"

_REPLICA = "SERVE_REPLICA::"


def apply_config(ray: Any, request: dict[str, Any], say: Say) -> list[dict[str, Any]]:
    """Apply ``request["config"]`` and follow it until everything runs.

    Returns:
        Per replica: application, deployment, and the host of every bundle.

    Raises:
        ManifestError: Ray's own schema refuses the config.
        EngineError, ClusterError: As `await_running`.
    """
    from pydantic import ValidationError
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    started = time.time()
    try:
        config = ServeDeploySchema.model_validate(request["config"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(
            f"Ray refuses the Serve config: {place}: {first['msg']}"[:400], remedy="see `spanwise lint`"
        ) from None
    say("connected", hosts=sum(1 for node in ray.nodes() if node["Alive"]), after_s=0.0)
    say("preparing")
    serve.start(http_options={"host": request["http_host"], "port": request["http_port"], "location": "HeadOnly"})
    say("submitting")
    serve_client().deploy_apps(config, _blocking=False)
    say("submitted", after_s=round(time.time() - started, 1))
    await_running(serve, say, started, [application.name for application in config.applications], request["patience_s"])
    return replicas(ray)


def replicas(ray: Any) -> list[dict[str, Any]]:
    """Every replica that has bundles, by Ray's own placement group table."""
    from ray.util import placement_group_table

    nodes = ray.nodes()
    host_of = hosts_by_node(nodes) | {
        node["NodeID"]: node["Labels"][LAB_LABEL] for node in nodes if LAB_LABEL in (node.get("Labels") or {})
    }
    found = []
    for group in placement_group_table().values():
        name = str(group.get("name", ""))
        if group.get("state") != "CREATED" or not name.startswith(_REPLICA):
            continue
        application, _, rest = name.removeprefix(_REPLICA).partition("#")
        placed = group["bundles_to_node_id"]
        found.append(
            {
                "application": application,
                "deployment": rest.rpartition("#")[0],
                "hosts": [host_of.get(placed[bundle], "?") for bundle in sorted(placed, key=int)],
            }
        )
    return sorted(found, key=lambda replica: (replica["application"], replica["deployment"], replica["hosts"]))


def describe(ray: Any) -> dict[str, Any]:
    """What a cluster is and serves; changes nothing.

    Returns:
        ``ray_version``, ``nodes`` (host, resources, labels) and ``applications`` (name, status, and the config that was applied, None
        where it was deployed by a program).
    """
    import ray as installed

    nodes = [
        {
            "host": node["NodeManagerHostname"],
            "resources": {name: amount for name, amount in node["Resources"].items() if not name.startswith("node:")},
            "labels": node.get("Labels") or {},
        }
        for node in sorted(ray.nodes(), key=lambda node: by_address(node["NodeManagerAddress"]))
        if node["Alive"]
    ]
    client = serve_client(required=False)
    details = client.get_serve_details() if client is not None else {"applications": {}}
    applications = [
        {"name": name, "status": str(application["status"]), "config": application.get("deployed_app_config")}
        for name, application in details["applications"].items()
    ]
    return {"ray_version": installed.__version__, "nodes": nodes, "applications": applications}
