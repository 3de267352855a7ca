"""What KubeRay's own samples do that a strict reader might take for a fault; each is reduced to the lines that matter."""

from __future__ import annotations

import pytest

from tests.unit.lint.checks import findings

SERVE = """\
    applications:
      - name: fruit_app
        import_path: fruit.deployment_graph
        route_prefix: /fruit
        deployments:
          - name: MangoStand
            num_replicas: 2
            max_replicas_per_node: 1
            user_config: {price: 3}
            ray_actor_options: {num_cpus: 0.1}
"""
HEAD = """\
    headGroupSpec:
      rayStartParams: {}
      template:
        spec:
          containers:
          - name: ray-head
            image: rayproject/ray:2.52.0
            resources: {limits: {cpu: "1", memory: 5Gi}, requests: {cpu: "1", memory: 2Gi}}
"""
GROUP = """\
    workerGroupSpecs:
    - replicas: 1
      minReplicas: 1
      maxReplicas: 5
      groupName: small-group
      rayStartParams: {}
      template:
        spec:
          containers:
          - name: ray-worker
            image: rayproject/ray:2.52.0
            resources: {limits: {cpu: "1", memory: 2Gi}, requests: {cpu: 500m, memory: 2Gi}}
"""


def service(spec: str = "", cluster: str = "", serve: str = SERVE, head: str = HEAD, group: str = GROUP) -> str:
    top = "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: sample}\nspec:\n"
    return (
        f'{top}{spec}  serveConfigV2: |\n{serve}  rayClusterConfig:\n    rayVersion: "2.52.0"\n{cluster}{head}{group}'
    )


LLM = """\
    applications:
    - name: llm_app
      import_path: ray.serve.llm:build_openai_app
      args:
        llm_configs:
        - model_loading_config: {model_id: m, model_source: org/m}
          accelerator_type: L4
          engine_kwargs: {device: auto, max_model_len: 1024}
          deployment_config: {num_replicas: 4}
"""
GPUS = GROUP.replace('limits: {cpu: "1",', 'limits: {nvidia.com/gpu: "1", cpu: "1",')


@pytest.mark.parametrize(
    "text",
    [
        service(),
        # a service of one's own for Serve, with ports of one's own
        service(spec="  serveService: {metadata: {name: mine}, spec: {type: LoadBalancer, ports: [{port: 12345}]}}\n"),
        # fault tolerance with the password by reference
        service(
            cluster="    gcsFaultToleranceOptions:\n      redisAddress: redis:6379\n"
            "      redisPassword: {valueFrom: {secretKeyRef: {name: s, key: password}}}\n"
        ),
        # no bounds: the schema's defaults leave room for every GPU that the replicas ask for
        service(serve=LLM, group=GPUS.replace("      minReplicas: 1\n      maxReplicas: 5\n", "")),
        # an argument of an older vLLM, in an older Ray
        service(serve=LLM, group=GPUS.replace("maxReplicas: 5", "maxReplicas: 4")),
        # `num-gpus` says how many, whatever the limits are
        service(
            serve=LLM,
            group=GPUS.replace("rayStartParams: {}", 'rayStartParams: {num-gpus: "4"}').replace("cas: 5", "cas: 1"),
        ),
        # a key with nothing behind it
        service(group=GROUP.replace("      template:\n", "      template:\n        metadata:\n")),
        # a version that looks like a number and is none
        service().replace('"2.52.0"', "2.56.0"),
        # an incremental upgrade, without replicas
        service(
            spec="  upgradeStrategy:\n    type: NewClusterWithIncrementalUpgrade\n    clusterUpgradeOptions:\n"
            "      {gatewayClassName: istio, stepSizePercent: 10, intervalSeconds: 30, maxSurgePercent: 10}\n",
            cluster="    enableInTreeAutoscaling: true\n",
            group=GROUP.replace("    - replicas: 1\n      min", "    - min"),
        ),
        # TPUs are no GPUs
        service(group=GROUP.replace("limits: {cpu", 'limits: {google.com/tpu: "4", cpu')),
        # what the operator mounts by itself
        service(group=GROUP + "            volumeMounts: [{name: ray-logs, mountPath: /tmp/ray}]\n"),
        # two documents, one of which is none of ours
        f"{service()}---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: c}}\ndata: {{a: b}}\n",
    ],
)
def test_no_false_error(text: str) -> None:
    assert [finding for finding in findings(text) if finding.severity == "error"] == []
