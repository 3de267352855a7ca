"""The command and the environment of one Ray node of the lab."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from spanwise.lab.sandbox import HOME_DIR
from spanwise.lab.wiring import RAY_PORT

# Ray keeps its sockets below its temp directory, and a socket path may be 107 bytes long: a short path on the host's own tmpfs.
HOST_DIR = "/dev/shm/spanwise"  # noqa: S108 - inside the lab this is the emulated host's private tmpfs
OBJECT_STORE_BYTES = 100 * 2**20

# Asked for in the lab's processes only; the plugin returns None everywhere else (serve/plugin.py).
ENGINE_VARIABLE = "SPANWISE_LAB_ENGINE"
# "off" switches the shared-memory guard of the communicator off (serve/communicator.py); only a test does that.
GUARD_VARIABLE = "SPANWISE_LAB_SHM_GUARD"
# "avx2" makes every host use the engine's AVX2 kernels, whatever its processor has: the same arithmetic on every machine.
KERNELS_VARIABLE = "SPANWISE_LAB_KERNELS"
_PASSED_ON = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "HF_HOME", GUARD_VARIABLE, KERNELS_VARIABLE)


# Of these nothing is the user's.
_PASSED_ON_CONFINED = ("LANG", GUARD_VARIABLE, KERNELS_VARIABLE)


def package_parent() -> str:
    """The directory that Python must search to find spanwise; empty where it stands in the environment's own packages."""
    import spanwise

    parent = Path(spanwise.__file__).resolve().parent.parent
    return "" if parent.is_relative_to(Path(sys.prefix).resolve()) else str(parent)


def confined_environment() -> dict[str, str]:
    """What of this process's environment hosts get on which foreign code may run: nothing that says anything of the user."""
    keep = {key: os.environ[key] for key in _PASSED_ON_CONFINED if key in os.environ}
    found = keep | {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": HOME_DIR,
        "VIRTUAL_ENV": sys.prefix,
    }
    return found | ({"PYTHONPATH": package_parent()} if package_parent() else {})


def node_environment(
    *, name: str, address: str, interface: str, directory: str, confined: bool = False
) -> dict[str, str]:
    """Environment of everything that runs on one emulated host.

    Each line is there because its absence was measured to fail (docs/lab.md, traps).
    """
    keep = confined_environment() if confined else {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    return keep | {
        "SPANWISE_LAB_HOST": name,
        ENGINE_VARIABLE: "cpu",
        "TMPDIR": directory,
        # vLLM and gloo ask for "the" address of a host: the one on the lab's link, not loopback.
        "VLLM_HOST_IP": address,
        "GLOO_SOCKET_IFNAME": interface,
        # Several ranks on one NUMA node: vLLM's automatic core binding refuses; each rank computes on one thread.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        # Nothing here may look outward: weights are local, statistics are off.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_DEDUP_LOGS": "0",
        # Our own variables reach the ranks with the engine's.
        "VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY": "SPANWISE_",
        # Ray starts an idle Python worker per logical CPU ahead of need: 100 MB each, on hosts that share one machine.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        # Ray runs its workers at nice 15: any other load on a laptop would starve the engine.
        "RAY_worker_niceness": "0",
        "PYTHONUNBUFFERED": "1",
    }


def ray_executable() -> str:
    """The `ray` command of the environment that spanwise runs in."""
    return str(Path(sys.executable).with_name("ray"))


def ray_start_command(
    *,
    address: str,
    head_address: str,
    gpus: int,
    cpus: float,
    labels: dict[str, str],
    resources: dict[str, float],
    temp_dir: str,
    block: bool,
) -> list[str]:
    """`ray start` for a head (``address == head_address``) or a worker node; CPUs are logical."""
    head = address == head_address
    command = [ray_executable(), "start", f"--node-ip-address={address}"]
    command += (
        ["--head", f"--port={RAY_PORT}", "--include-dashboard=false", f"--temp-dir={temp_dir}"]
        if head
        else [f"--address={head_address}:{RAY_PORT}", f"--temp-dir={temp_dir}"]
    )
    command += [
        f"--num-gpus={gpus}",
        f"--num-cpus={int(cpus)}",
        *([f"--resources={json.dumps(resources)}"] if resources else []),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--labels=" + ",".join(f"{key}={value}" for key, value in labels.items()),
        "--disable-usage-stats",
    ]
    return [*command, "--block"] if block else command
