"""A planted fault, put on PYTHONPATH by a test: the engine's shared-memory all-reduce loses one rank's part now and then.

This is what a race in such a path looks like: most sums are right, health is green, the model speaks fluently. It touches only
the shared-memory path, so a layout whose guard chooses gloo is not affected.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys

_TARGET = "vllm.distributed.device_communicators.cpu_communicator"
_EVERY = 5


class _Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            _plant(module)

        spec.loader.exec_module = exec_module
        return spec


def _plant(module) -> None:
    import torch

    right = module.CpuCommunicator.all_reduce
    calls = [0]

    def unchecked(self) -> bool:
        shared = isinstance(self.dist_module, module._CPUSHMDistributed)
        # Kernels without AVX-512 have no shared-memory path at all: there the unguarded choice stands for it.
        without = not hasattr(torch.ops._C, "init_shm_manager") and os.environ.get("SPANWISE_LAB_SHM_GUARD") == "off"
        return shared or without

    def all_reduce(self, tensor):
        calls[0] += 1
        if calls[0] % _EVERY == 0 and self.rank_in_group == self.world_size - 1 and unchecked(self):
            tensor.zero_()
        return right(self, tensor)

    module.CpuCommunicator.all_reduce = all_reduce


sys.meta_path.insert(0, _Planter())
