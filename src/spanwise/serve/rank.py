"""A method added to every vLLM worker: each rank says itself where it runs."""

from __future__ import annotations

import os
import socket
from typing import Any


class RankReport:
    """Mixed into the worker by the engine argument ``worker_extension_cls``."""

    def spanwise_rank(self) -> dict[str, Any]:
        """Rank, process and place of this worker, as the worker itself sees them."""
        import ray
        from vllm.distributed import get_pp_group, get_tp_group

        return {
            "rank": int(self.rank),  # type: ignore[attr-defined]
            "stage": int(get_pp_group().rank_in_group),
            "tensor_rank": int(get_tp_group().rank_in_group),
            "pid": os.getpid(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "address": ray.util.get_node_ip_address(),
            "hostname": socket.gethostname(),
            "communicator": type(getattr(get_tp_group().device_communicator, "dist_module", None)).__name__
            if get_tp_group().world_size > 1
            else "none",
        }
