#!/bin/sh
# Written by spanwise 0.1.0 from plan uneven a557443cebcebbe1.
# Gang uneven-0 on host-1: ranks 0, 1, 2, 3.
# Longest request: the model's own, 8192 tokens, which vLLM takes from config.json.
export VLLM_PP_LAYER_PARTITION=41,39  # layers per stage
# host-2 may join before or after this; vLLM waits for the GPUs. It puts the ranks of
# this host first, then those of the others in the order of their addresses.
ray start --head --port=6379 && python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B --tensor-parallel-size 4 --pipeline-parallel-size 2 --gpu-memory-utilization 0.9 --distributed-executor-backend ray
