"""What was judged and not taken: the nearest cheaper and larger choice, splits over nodes, other hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanwise.decide.nearest import cheaper, larger
from spanwise.decide.other_hardware import fewer_bits, larger_gpu
from spanwise.decide.over_nodes import over_nodes

if TYPE_CHECKING:
    from spanwise.decide.candidates import Judge
    from spanwise.decide.question import Candidate
    from spanwise.decide.types import Rejected
    from spanwise.facts.book import FactBook


def rejected(judge: Judge, best: Candidate | None, book: FactBook, *, forced: bool = False) -> tuple[Rejected, ...]:
    """Every alternative worth naming, each with its code, sentence and figures."""
    found: list[Rejected] = []
    if best is not None:
        found += cheaper(judge, best, book)
        found += larger(judge, best, forced=forced)
        found += over_nodes(judge, best)
    found += larger_gpu(judge, best, book)
    found += fewer_bits(judge, best)
    seen: set[tuple[Any, ...]] = set()
    unique = []
    for item in found:
        # One layout may be the answer to two questions; the more telling code (the first) stays.
        # What a split over nodes costs is said in any case.
        apart = item.role == "tensor_parallel_across_nodes"
        key = (item.tensor_parallel_size, item.pipeline_parallel_size, item.replicas, item.dtype, item.gpu, apart)
        if key not in seen:
            seen.add(key)
            unique.append(item)
    return tuple(unique)
