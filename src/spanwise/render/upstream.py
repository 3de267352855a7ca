"""What render and lint know about the projects they write for: versions, images, names. Data, with its source.

Ray 2.60.0 and vLLM 0.32.0 are the versions of the project's own extras (docs/versions.md).
"""

from __future__ import annotations

RAY_VERSION = "2.60.0"
VLLM_VERSION = "0.32.0"
KUBERAY_VERSION = "1.7.0"

# Ray publishes `ray-llm` as {version}-{python}-{cuda}; 2.58.0-py312-cu130 is in use in public manifests. The tag of
# 2.60.0 follows that rule and was not pulled here: `--image` overrides it. The image brings the vLLM that ray[llm]
# pins, which may be older than VLLM_VERSION.
IMAGE = f"rayproject/ray-llm:{RAY_VERSION}-py312-cu130"
# What containers/Containerfile builds on: Ray alone, because vLLM is installed in the version of our runtime.
BASE_IMAGE = f"rayproject/ray:{RAY_VERSION}-py312-cu130"

STOCK_IMPORT_PATH = "ray.serve.llm:build_openai_app"
# The project's own runtime: gangs under supervision behind one door. Needs an image with spanwise in it.
SPANWISE_IMPORT_PATH = "spanwise.serve.application:build_app"

# User of Ray's images (docker/base-deps/Dockerfile: RAY_UID=1000, RAY_GID=100).
RAY_UID = 1000
RAY_GID = 100

# Ray's and Serve's own ports, under the names that KubeRay looks for.
PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}

# What KubeRay's chart puts on its operator's pods.
OPERATOR_LABELS = {"app.kubernetes.io/name": "kuberay-operator"}

# The label of a RayService by which a gang scheduler finds its queue (Kueue: on the RayService, its "Run A RayService";
# KubeRay's Volcano plugin: on the RayCluster, which inherits it), and Kueue's own limit (18 pod sets less the head's).
QUEUE_LABELS = {"kueue": "kueue.x-k8s.io/queue-name", "volcano": "volcano.sh/queue-name"}
KUEUE_MOST_WORKER_GROUPS = 17

# Ray keeps 30 % of memory for its object store in /dev/shm (ray_constants.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION).
OBJECT_STORE_SHARE = 0.3

# First word of our catalogue's GPU names -> Ray's accelerator_type (ray.util.accelerators) and Kubernetes' resource.
# Ray detects the type by itself on each host. A GPU that is not listed gets no accelerator_type: any GPU host will do.
ACCELERATORS: dict[str, str] = {
    "H100": "H100",
    "H200": "H200",
    "H20": "H20",
    "B200": "B200",
    "B300": "B300",
    "GB200": "GB200",
    "GB300": "GB300",
    "A100": "A100",
    "A10G": "A10G",
    "L4": "L4",
    "L40S": "L40S",
    "T4": "T4",
    "V100": "V100",
    "MI300X": "AMD-Instinct-MI300X-OAM",
    "MI325X": "AMD-Instinct-MI325X-OAM",
}

# Every accelerator type of Ray 2.60 (ray.util.accelerators); others are refused when an LLMConfig is read.
RAY_ACCELERATOR_TYPES = frozenset(
    {
        "V100",
        "P100",
        "T4",
        "P4",
        "K80",
        "A10G",
        "L4",
        "L40S",
        "A100",
        "H100",
        "H200",
        "H20",
        "B200",
        "B300",
        "GB200",
        "GB300",
        "RTX-PRO-6000",
        "A100-40G",
        "A100-80G",
        "Intel-GPU-Max-1550",
        "Intel-GPU-Max-1100",
        "Intel-GAUDI",
        "AMD-Instinct-MI100",
        "AMD-Instinct-MI250X",
        "AMD-Instinct-MI250X-MI250",
        "AMD-Instinct-MI210",
        "AMD-Instinct-MI300A",
        "AMD-Instinct-MI300X-OAM",
        "AMD-Instinct-MI300X-HF",
        "AMD-Instinct-MI308X",
        "AMD-Instinct-MI325X-OAM",
        "AMD-Instinct-MI350X-OAM",
        "AMD-Instinct-MI355X-OAM",
        "AMD-Radeon-R9-200-HD-7900",
        "AMD-Radeon-HD-7900",
        "aws-neuron-core",
        "TPU-V2",
        "TPU-V3",
        "TPU-V4",
        "TPU-V5P",
        "TPU-V5LITEPOD",
        "TPU-V6E",
        "TPU-V7X",
        "Ascend910B",
        "Ascend910B4",
        "MXC500",
        "MXC550",
        "FURIOSA_RNGD",
        "MOBILINT_ARIES",
        "MOBILINT_REGULUS",
        "M1",
        "M1-Pro",
        "M1-Max",
        "M1-Ultra",
        "M2",
        "M2-Pro",
        "M2-Max",
        "M2-Ultra",
        "M3",
        "M3-Pro",
        "M3-Max",
        "Apple-Silicon",
    }
)


def accelerator_type(gpu: str) -> str | None:
    """Ray's name for a GPU of the catalogue (``H100-80GB-SXM`` -> ``H100``); None where Ray has none."""
    return ACCELERATORS.get(gpu.split("-", 1)[0])


def gpu_resource(gpu: str) -> str:
    """The Kubernetes resource that the vendor's device plugin offers."""
    return "amd.com/gpu" if gpu.startswith("MI") else "nvidia.com/gpu"
