#!/bin/sh
# Written by spanwise 0.1.0 from plan uneven a557443cebcebbe1.
# Gang uneven-0 on host-2: ranks 4, 5, 6, 7.
export VLLM_PP_LAYER_PARTITION=41,39  # layers per stage
ray start --address=host-1:6379 --block
