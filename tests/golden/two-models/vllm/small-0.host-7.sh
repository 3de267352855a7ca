#!/bin/sh
# Written by spanwise 0.1.0 from plan small 92eb97e64f525c97.
# Gang small-0 on host-7: rank 0.
# Longest request: the model's own, 8192 tokens, which vLLM takes from config.json.
export CUDA_VISIBLE_DEVICES=0
python -m vllm.entrypoints.openai.api_server --model org/Small-1B --served-model-name small --gpu-memory-utilization 0.9
