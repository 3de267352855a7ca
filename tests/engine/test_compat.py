"""Contracts with the installed engine and Ray: every internal that serve/compat.py names is there and does what we rely on."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

from spanwise.serve import compat

pytest.importorskip("vllm")
pytest.importorskip("ray")
pytestmark = pytest.mark.engine


def _python(code: str, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SPANWISE_LAB")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "VLLM_LOGGING_LEVEL": "ERROR", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_installed_versions_are_supported() -> None:
    compat.require_engine()
    assert (compat.installed_vllm() or "").split("+")[0] in compat.SUPPORTED_VLLM
    assert compat.installed_ray() in compat.SUPPORTED_RAY


_PLATFORM = "from vllm.platforms import current_platform as p; c = type(p); print(c.__module__ + '.' + c.__name__)"


def test_installing_spanwise_changes_nothing_for_other_vllm_processes() -> None:
    assert _python(_PLATFORM) == "vllm.platforms.cpu.CpuPlatform"
    assert _python(_PLATFORM, SPANWISE_LAB_ENGINE="no") == "vllm.platforms.cpu.CpuPlatform"


def test_the_lab_gets_its_platform_when_it_asks() -> None:
    assert _python(_PLATFORM, SPANWISE_LAB_ENGINE="cpu") == "spanwise.serve.platform.LabCpuPlatform"


def test_the_silent_plugin_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); from spanwise.serve.plugin import activate; assert activate() is None;"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('spanwise')))"
    )
    assert _python(code) == "['__future__']", "on a GPU host this runs in every vLLM process: it must cost nothing"


def test_platform_contract() -> None:
    from vllm.platforms.cpu import CpuPlatform
    from vllm.platforms.interface import Platform

    assert CpuPlatform.ray_device_key == "", "upstream allows Ray on CPU now: the platform plugin may go"
    assert hasattr(Platform, "simple_compile_backend")
    assert "device_id" in inspect.signature(CpuPlatform.device_control_id_to_physical_device_id).parameters
    assert CpuPlatform.get_device_communicator_cls().endswith("cpu_communicator.CpuCommunicator")


def test_the_labs_engine_rests_where_upstream_spins() -> None:
    ask = "from vllm.distributed.device_communicators import shm_broadcast as b; print(b.sched_yield.__module__)"
    rank = f"import vllm.v1.worker.cpu_worker; {ask}"
    assert _python(rank, SPANWISE_LAB_ENGINE="cpu") == "spanwise.serve.compat"
    assert _python(rank) == "vllm.distributed.utils", "nobody else's engine is touched"
    core = f"from vllm.platforms import current_platform as p; p.ray_noset_device_env_vars; {ask}"
    assert _python(core, SPANWISE_LAB_ENGINE="cpu") == "spanwise.serve.compat"
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.v1.executor import ray_executor_v2

    assert "sched_yield()" in inspect.getsource(shm_broadcast.SpinCondition.wait)
    source = inspect.getsource(ray_executor_v2.RayExecutorV2)
    assert "current_platform.ray_noset_device_env_vars" in source, "the engine core no longer asks the platform here"


def test_communicator_contract() -> None:
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator, _CPUSHMDistributed

    source = inspect.getsource(CpuCommunicator.__init__)
    assert "self._all_group_ranks_share_shm_group_name()" in source, "the choice of shared memory is made elsewhere now"
    assert list(inspect.signature(_CPUSHMDistributed.all_reduce).parameters) == ["self", "input", "group"]


def test_executor_contract() -> None:
    import vllm.envs as envs
    from vllm.v1.executor import ray_executor_v2
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    assert compat.BUNDLE_INDICES_VARIABLE in envs.environment_variables
    assert "VLLM_RAY_BUNDLE_INDICES" in inspect.getsource(ray_executor_v2.RayExecutorV2._init_executor)
    assert "worker_extension_cls" in inspect.getsource(WorkerWrapperBase)


def test_ray_serve_llm_contract() -> None:
    from ray.llm._internal.common.callbacks.base import CallbackBase, CallbackCtx
    from ray.llm._internal.serve.core.ingress.ingress import OpenAiIngress, make_fastapi_ingress
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine, _get_vllm_engine_config
    from ray.serve.llm import LLMServer

    assert "llm_config" in inspect.signature(LLMServer.get_deployment_options).parameters
    assert LLMServer._default_engine_cls is None
    assert list(inspect.signature(VLLMEngine._prepare_engine_config).parameters) == ["self", "callback_ctx"]
    assert next(iter(inspect.signature(_get_vllm_engine_config).parameters)) == "llm_config"
    assert CallbackCtx().run_init_node is True
    assert inspect.iscoroutinefunction(CallbackBase.on_before_node_init)
    assert list(inspect.signature(OpenAiIngress._get_configured_serve_handle).parameters) == ["self", "model_id"]
    assert callable(make_fastapi_ingress)


def test_serve_client_contract() -> None:
    from ray.serve import schema
    from ray.serve._private.client import ServeControllerClient
    from ray.serve.context import _get_global_client

    assert "raise_if_no_controller_running" in inspect.signature(_get_global_client).parameters
    assert {"config", "_blocking"} <= set(inspect.signature(ServeControllerClient.deploy_apps).parameters)
    assert "get_serve_instance_details" in inspect.getsource(ServeControllerClient.get_serve_details)
    assert "deployed_app_config" in schema.ApplicationDetails.model_fields
    assert {"applications"} <= set(schema.ServeDeploySchema.model_fields)
    from ray._private import utils

    assert "Version mismatch" in inspect.getsource(utils.check_version_info), "serve/driver.py reads it"


def test_shared_memory_adds_right_and_the_same_for_two_ranks_only() -> None:
    """The measurement behind RIGHT_GROUP_SIZES, on this machine; skips where the engine's kernels have no such path."""
    two, three = _sums(2), _sums(3)
    if two is None or three is None:
        pytest.skip("this processor's kernels (no AVX-512) have no shared-memory path: gloo is used for every group")
    from spanwise.serve.communicator import RIGHT_GROUP_SIZES

    assert RIGHT_GROUP_SIZES == (2,)
    assert two["right"]
    assert three["right"], "right to rounding"
    assert two["same"], "two ranks hold the same sums, bit for bit"
    assert not three["same"], "three ranks now hold the same sums: RIGHT_GROUP_SIZES may grow"


def _sums(world: int) -> dict[str, bool] | None:
    import json
    import uuid

    name = f"spanwise-test-{uuid.uuid4().hex[:8]}"
    with __import__("socket").create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), str(world), str(port), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=180)[0].strip().splitlines() for process in processes]
    for rank in range(world):
        if os.path.exists(f"/dev/shm/{name}_{rank}"):
            os.unlink(f"/dev/shm/{name}_{rank}")
    found = json.loads(outputs[0][-1])
    return found if found is None or isinstance(found, dict) else None


_RANK = """
import json, os, sys, torch, torch.distributed as dist
rank, world, port, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
from vllm.platforms import current_platform
current_platform.import_kernels()
torch.set_num_threads(1)
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
dist.init_process_group("gloo", rank=rank, world_size=world)
if not hasattr(torch.ops._C, "init_shm_manager"):
    print("null", flush=True); os._exit(0)
handle = torch.ops._C.init_shm_manager(name, world, rank, 1)
dist.barrier(); torch.ops._C.join_shm_manager(handle, name); dist.barrier()
right = same = True
for size in (576, 577, 21312, 294912):
    for repeat in range(10):
        part = torch.randn(size, generator=torch.Generator().manual_seed(1000 * rank + size + repeat))
        mine, theirs = part.clone(), part.clone()
        torch.ops._C.shm_allreduce(handle, mine); dist.all_reduce(theirs)
        right = right and torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
        everyone = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(everyone, mine)
        same = same and all(torch.equal(everyone[0], other) for other in everyone)
dist.barrier()
print(json.dumps({"right": right, "same": same}), flush=True); os._exit(0)
"""
