"""Texts that lint is tried on."""

from __future__ import annotations

# The founding article's RayService, as it was published: what is missing in it is the point.
ARTICLE = """\
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: llama-3-dist
spec:
  rayClusterConfig:
    workerGroupSpecs:
    - replicas: 2 # Two nodes, each with GPUs
      groupName: gpu-group
      rayStartParams: {}
      template:
        spec:
          containers:
          - name: ray-worker
            resources:
              limits:
                nvidia.com/gpu: "4"
"""

ARTICLE_COMMAND = """\
python -m vllm.entrypoints.openai.api_server \\
    --model meta-llama/Meta-Llama-3-70B \\
    --tensor-parallel-size 4 \\
    --gpu-memory-utilization 0.9
"""

SERVE = """\
applications:
- name: llms
  import_path: ray.serve.llm:build_openai_app
  args:
    llm_configs:
    - model_loading_config: {model_id: m, model_source: org/m}
      engine_kwargs:
        tensor_parallel_size: 2
"""

# Complete but for what a test takes away or adds.
GOOD = """\
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: good
spec:
  serveConfigV2: |
    applications:
    - name: llms
      import_path: ray.serve.llm:build_openai_app
      args:
        llm_configs:
        - model_loading_config: {model_id: m, model_source: org/m}
          engine_kwargs:
            tensor_parallel_size: 4
            pipeline_parallel_size: 2
  rayClusterConfig:
    rayVersion: "2.60.0"
    headGroupSpec:
      rayStartParams: {num-cpus: "0"}
      template:
        spec:
          containers:
          - name: ray-head
            image: rayproject/ray-llm:2.60.0-py312-cu130
            resources:
              limits: {cpu: "2", memory: 8Gi}
    workerGroupSpecs:
    - groupName: gpus
      replicas: 2
      minReplicas: 2
      maxReplicas: 2
      rayStartParams: {}
      template:
        spec:
          containers:
          - name: ray-worker
            image: rayproject/ray-llm:2.60.0-py312-cu130
            resources:
              limits: {cpu: "16", memory: 100Gi, nvidia.com/gpu: "4"}
            volumeMounts:
            - {name: shm, mountPath: /dev/shm}
          volumes:
          - name: shm
            emptyDir: {medium: Memory, sizeLimit: 16Gi}
"""
