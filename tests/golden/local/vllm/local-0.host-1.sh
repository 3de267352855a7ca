#!/bin/sh
# Written by spanwise 0.1.0 from plan local 211829446c598fc7.
# Gang local-0 on host-1: ranks 0, 1.
export GLOO_SOCKET_IFNAME=eth1  # joins the hosts
export NCCL_SOCKET_IFNAME='=eth1'  # joins the hosts
# host-2 may join before or after this; vLLM waits for the GPUs. It puts the ranks of
# this host first, then those of the others in the order of their addresses.
ray start --head --port=6379 && python -m vllm.entrypoints.openai.api_server --model '/models/with space' --served-model-name local --tensor-parallel-size 2 --pipeline-parallel-size 2 --gpu-memory-utilization 0.9 --max-model-len 4096 --quantization fp8 --compilation-config '{"backend": "eager", "mode": 2}' --distributed-executor-backend ray
