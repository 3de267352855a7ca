#!/usr/bin/env python3
"""All-reduces of several sizes between two hosts of the lab (gloo, as the engine's ranks use it): milliseconds as JSON on rank 0.

lab_ping.py RANK ADDRESS_OF_RANK_0 REPEATS BYTES...
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch
from torch import distributed

rank, address, repeats, sizes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(word) for word in sys.argv[4:]]
torch.set_num_threads(1)
os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": "29511"}
distributed.init_process_group("gloo", rank=rank, world_size=2)
found = {}
for size in sizes:
    values = torch.ones(size // 4)
    times = []
    for _ in range(repeats + 3):
        time.sleep(0.01)  # the shaper's bucket is full again, as between the all-reduces of a step that computes
        started = time.perf_counter()
        distributed.all_reduce(values)
        times.append((time.perf_counter() - started) * 1e3)
    found[size] = [round(value, 4) for value in times[3:]]
if rank == 0:
    print(json.dumps(found), flush=True)
distributed.barrier()
