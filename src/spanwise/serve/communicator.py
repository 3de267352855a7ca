"""Shared memory between ranks only where it is right: one host, and two ranks.

Upstream chooses its shared-memory collectives when the ranks of a group agree on a *name*, and two hosts can agree on a name.
This communicator asks two questions first, and falls back to gloo when either answer is no:

1. Do all ranks see the same ``/dev/shm``? (kernel boot id, and the device number of the mount)
2. Are they two? From three ranks on upstream's all-reduce adds the parts in an order that depends on the rank: measured with
   vLLM 0.32 on AVX-512, the ranks of a group of 3 or 4 then hold float32 sums that are not the same bit for bit, and what should
   be replicated drifts apart from rank to rank (docs/decisions/005-shared-memory.md).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator
from vllm.logger import init_logger

logger = init_logger(__name__)

# Only the test that shows the equivalence check catching the fault sets this to "off".
GUARD_VARIABLE = "SPANWISE_LAB_SHM_GUARD"

# Sizes for which every rank was measured to hold the same sums, bit for bit.
RIGHT_GROUP_SIZES = (2,)


def shared_memory_identity() -> str:
    """What two processes have in common exactly when they share ``/dev/shm``."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.stat('/dev/shm').st_dev}"  # noqa: PTH116,S108


class CheckedCpuCommunicator(CpuCommunicator):
    """Upstream's communicator, with the choice of shared memory checked."""

    def _all_group_ranks_share_shm_group_name(self) -> bool:
        """Upstream's own question, and ours after it. Collective: every rank of the group takes the same branches."""
        agreed: bool = super()._all_group_ranks_share_shm_group_name()
        if os.environ.get(GUARD_VARIABLE) == "off":
            logger.warning("spanwise: shared-memory guard is off for group %s", self.unique_name)
            return agreed
        places: list[str] = [""] * self.world_size
        torch.distributed.all_gather_object(places, shared_memory_identity(), group=self.device_group)
        one_host = len(set(places)) == 1
        right_size = self.world_size in RIGHT_GROUP_SIZES
        if not (one_host and right_size):
            logger.info(
                "spanwise: group %s uses gloo: %s",
                self.unique_name,
                "its ranks are on several hosts"
                if not one_host
                else f"ranks would hold different sums in a group of {self.world_size}",
            )
        return agreed and one_host and right_size
