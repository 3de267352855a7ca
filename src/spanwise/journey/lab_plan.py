"""The demo's intents and plans: the small model on the lab, split as asked, and the same model on one rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spanwise.checkpoints.resolve import resolve_config
from spanwise.decide import PinnedLayout, Verdict, decide
from spanwise.facts.architectures import model_facts
from spanwise.intent.load import intent_from
from spanwise.lab.processor import quick_dtype
from spanwise.plan.make import plan
from spanwise.plan.types import Plan

# The founding article's case: the model that does not fit one GPU, two hosts of four GPUs, plain 10 Gbit/s Ethernet.
ARTICLE: dict[str, Any] = {
    "model": "meta-llama/Meta-Llama-3-70B",
    "dtype": "bfloat16",
    "hardware": {"gpu": "H100-80GB-SXM", "gpus_per_node": 4, "nodes": 2, "fabric": "ethernet-10g"},
    "workload": {"input_tokens": 1024, "output_tokens": 256, "request_rate_per_s": 4},
    "objectives": {"ttft_p95_ms": 2000, "tpot_p95_ms": 50},
}
MAX_MODEL_LEN = 2048


def article_verdict() -> Verdict:
    """The verdict on the founding article's case, from the catalogue alone."""
    intent = intent_from(ARTICLE, where="the founding article")
    return decide(intent, model_facts(resolve_config(intent.model).config, name=intent.model))


def lab_plan(
    model: Path, *, hosts: tuple[str, ...], gpus_per_host: int, pinned: PinnedLayout | None, served_name: str
) -> tuple[Verdict, Plan]:
    """Verdict and plan for the demo's model on hosts of the lab.

    Args:
        model: The model's directory.
        hosts: Names of the lab's hosts that may be used.
        gpus_per_host: Logical GPUs of each.
        pinned: A layout to use whatever the verdict says; the verdict says that it was forced.
        served_name: What clients ask for.

    Raises:
        LayoutError: The layout is impossible for this model or these hosts.
    """
    intent = intent_from(
        {
            "model": str(model),
            "dtype": quick_dtype(),
            "max_model_len": MAX_MODEL_LEN,
            "hardware": {
                "gpu": "lab-cpu",
                "gpus_per_node": gpus_per_host,
                "nodes": len(hosts),
                "hosts": list(hosts),
                **({"fabric": "ethernet-10g"} if len(hosts) > 1 else {}),
            },
            "workload": {"input_tokens": 512, "output_tokens": 64, "concurrency": 1},
        },
        where="the demo's intent",
    )
    config = resolve_config(str(model)).config
    facts = model_facts(config, name=served_name)
    verdict = decide(intent, facts, pinned=pinned)
    return verdict, plan(intent, facts, verdict, source=str(model), config=config, served_name=served_name)
