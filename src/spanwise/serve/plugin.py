"""Entry point of the group ``vllm.platform_plugins``: silent unless the lab asked for it in this process's environment.

vLLM loads every installed platform plugin in every process and refuses to start when two are active. Installing
spanwise must change nothing for any other vLLM process, on CPU or GPU: this module imports nothing but ``os``.
"""

from __future__ import annotations

import os

# Set by the lab for the processes of its emulated hosts (lab/ray_node.py), and by nothing else.
ENGINE_VARIABLE = "SPANWISE_LAB_ENGINE"


def activate() -> str | None:
    """Name of the platform class, or None to stay out of the way."""
    if os.environ.get(ENGINE_VARIABLE) != "cpu":
        return None
    return "spanwise.serve.platform.LabCpuPlatform"
