"""What crosses links: all-reduces of tensor parallelism, hops of pipeline parallelism. Seconds.

The ring model is NCCL's own (src/graph/tuning.cc): with n ranks on N nodes, base + (2(n-1) - 2(N-1)) hops inside
nodes + 2(N-1) hops between them + bytes over bandwidth, where each byte crosses a link 2(n-1)/n times. In one node
over NVLink vLLM replaces small ones by its custom all-reduce, whose floor stands in the catalogue; that ends at the
node's edge.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanwise.estimate.layout import Layout
    from spanwise.estimate.rates import Rates


def all_reduce_s(rates: Rates, layout: Layout, size_bytes: float) -> float:
    """One all-reduce of ``size_bytes`` over the tensor-parallel group; infinite where a link is missing."""
    return _ring_s(rates, layout, size_bytes, rounds=2)


def all_gather_s(rates: Rates, layout: Layout, size_bytes: float) -> float:
    """One all-gather that leaves ``size_bytes`` on every rank: half an all-reduce."""
    return _ring_s(rates, layout, size_bytes, rounds=1)


def _ring_s(rates: Rates, layout: Layout, size_bytes: float, *, rounds: int) -> float:
    """``rounds`` times round the ring, each a hop and a share of the bytes to every other rank."""
    ranks, nodes = layout.tensor_parallel_size, layout.nodes_per_stage
    if ranks == 1:
        return 0.0
    steps, crossings = rounds * (ranks - 1), rounds * (nodes - 1)
    moved = rounds * (ranks - 1) / ranks * size_bytes
    near, far = rates.near, rates.far
    if (near is None and ranks > nodes) or (far is None and nodes > 1):
        return math.inf
    inside = 0.0 if near is None else (steps - crossings) * near.hop
    if nodes == 1 or far is None:
        if near is None:
            return math.inf
        ring = rates.collective_base + inside + moved / near.bytes_per_s
        if near.allreduce_floor is None or rounds == 1:
            return ring
        return min(ring, near.allreduce_floor + moved / near.bytes_per_s)
    # The slowest link of the ring carries every byte; ports add up where each GPU has its own.
    ports = min(ranks // nodes, layout.gpus_per_node) if far.per_gpu else 1
    between = far.bytes_per_s * max(1, ports)
    slowest = between if near is None else min(between, near.bytes_per_s)
    return rates.collective_base + inside + crossings * far.hop + moved / slowest


def hop_s(rates: Rates, size_bytes: float, *, between_nodes: bool, ranks: int) -> float:
    """Hand ``size_bytes`` of activations to the next stage; each rank sends its share, on one port or its own."""
    used = rates.far if between_nodes else rates.near
    if used is None:
        return math.inf
    ports = ranks if used.per_gpu else 1
    return used.hop + size_bytes / (used.bytes_per_s * ports)


def pipeline_hops_s(rates: Rates, layout: Layout, size_bytes: float) -> tuple[float, float]:
    """All hops of one pass through the pipeline, and the slowest single one."""
    near, far = layout.hops
    ranks = layout.tensor_parallel_size
    near_s = hop_s(rates, size_bytes, between_nodes=False, ranks=ranks) if near else 0.0
    far_s = hop_s(rates, size_bytes, between_nodes=True, ranks=ranks) if far else 0.0
    return near * near_s + far * far_s, max(near_s, far_s)
