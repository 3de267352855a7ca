"""vLLM's CPU platform with logical GPUs, so that its Ray executor places ranks the way it does on a GPU cluster.

Active only where the lab asked for it (plugin.py). Differs from upstream's CPU platform in two points: Ray schedules its
ranks on the resource ``GPU`` (logical, ``ray start --num-gpus``), and its communicator checks that ranks that want to share
memory are on one host and that the shared-memory path is right.
"""

from __future__ import annotations

import contextlib
import importlib
import os

from vllm.platforms.cpu import CpuPlatform

from spanwise.serve.compat import rest_while_waiting

KERNELS_VARIABLE = "SPANWISE_LAB_KERNELS"


class LabCpuPlatform(CpuPlatform):
    """A CPU that Ray counts as GPUs."""

    # Guard: with upstream's empty key vLLM refuses: "current platform cpu does not support ray".
    ray_device_key = "GPU"
    # Guard: upstream's "inductor" compiles the sampler's small functions with a C++ compiler at the first request that asks for
    # log-probabilities: 20 s, and a compiler that a host may not have.
    simple_compile_backend = "eager"

    @property
    def ray_noset_device_env_vars(self) -> list[str]:
        """Upstream's Ray executor asks for these in the engine core's process, before it makes its message queues."""
        rest_while_waiting()
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    @classmethod
    def device_control_id_to_physical_device_id(cls, device_id: str) -> int:
        """Logical GPU ids are plain numbers."""
        return int(device_id)

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """The communicator that checks before it shares memory."""
        return "spanwise.serve.communicator.CheckedCpuCommunicator"

    @classmethod
    def import_kernels(cls) -> None:
        """Upstream's choice of kernels by processor, or the AVX2 ones where the lab asks for the same arithmetic everywhere.

        Every rank comes through here once.
        """
        rest_while_waiting()
        if os.environ.get(KERNELS_VARIABLE) != "avx2":
            super().import_kernels()
            return
        # The library registers its operators and then raises, because its module is named _C (upstream ignores that too).
        with contextlib.suppress(ImportError):
            importlib.import_module("vllm._C_AVX2")
