"""Short ways to ask for a verdict in tests."""

from spanwise.decide import PinnedLayout, Verdict, decide
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config
from spanwise.intent.load import intent_from
from spanwise.intent.types import Intent

LLAMA_70B = "meta-llama/Meta-Llama-3-70B"
LLAMA_8B = "meta-llama/Meta-Llama-3-8B"
LLAMA_405B = "meta-llama/Llama-3.1-405B"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


def an_intent(
    model=LLAMA_70B, gpu="H100-80GB-SXM", per_node=4, nodes=2, fabric="ethernet-10g", *, inputs=1024, outputs=256,
    rate=None, concurrency=None, objectives=None, **more,
) -> Intent:  # fmt: skip
    load = {"concurrency": concurrency or 1} if rate is None else {"request_rate_per_s": rate}
    hardware = {"gpu": gpu, "gpus_per_node": per_node, "nodes": nodes}
    if fabric:
        hardware["fabric"] = fabric
    return intent_from(
        {
            "model": model,
            "hardware": hardware,
            "workload": {"input_tokens": inputs, "output_tokens": outputs, **load},
            "objectives": objectives or {},
            **more,
        }
    )


def ask(*args, pinned: PinnedLayout | None = None, book: FactBook | None = None, **kwargs) -> Verdict:
    intent = an_intent(*args, **kwargs)
    return decide(intent, model_facts(model_config(intent.model), name=intent.model), book, pinned=pinned)


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]
