#!/bin/sh
# Written by spanwise 0.1.0 from plan meta-llama-3-70b 567e0530f5932432.
# Gang meta-llama-3-70b-0 on host-1: ranks 0, 1, 2, 3.
# Longest request: the model's own, 8192 tokens, which vLLM takes from config.json.
python -m vllm.entrypoints.openai.api_server --model meta-llama/Meta-Llama-3-70B --tensor-parallel-size 4 --gpu-memory-utilization 0.9
