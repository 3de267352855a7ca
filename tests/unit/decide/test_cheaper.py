"""What is called cheaper: by price where there is one, else only what is nowhere faster."""

from __future__ import annotations

import pytest

from spanwise.decide.judge import decide
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import book_from
from spanwise.facts.catalogue import model_config
from spanwise.intent.load import intent_from

MODEL = "meta-llama/Meta-Llama-3-8B"
# A little less memory than an L4, twice its bandwidth: what the catalogue once said of an A10G.
SMALLER = {"name": "A10G-24GB.memory", "value": 23.4e9, "unit": "B", "source": "test", "date": "2026-11-24"}
BOOK = book_from({"schema": "spanwise.facts/1", "facts": [{**SMALLER, "kind": "stated"}]})


def cheaper(gpu: str, prices: dict[str, float] | None = None) -> str | None:
    """The GPU that the verdict names as the nearest cheaper one."""
    work = {"input_tokens": 128, "output_tokens": 32, "request_rate_per_s": 0.1}
    document = {"model": MODEL, "hardware": {"gpu": gpu}, "workload": work, "max_model_len": 1024}
    if prices is not None:
        document["prices_per_gpu_hour"] = prices
    verdict = decide(intent_from(document), model_facts(model_config(MODEL), name=MODEL), BOOK)
    return next((item.gpu for item in verdict.rejected if item.role == "nearest_cheaper"), None)


def test_less_memory_alone_is_not_cheaper() -> None:
    assert cheaper("L4-24GB") is None
    assert cheaper("L4-24GB", {"L4-24GB": 0.7}) is None, "one price compares nothing"


@pytest.mark.parametrize(("price", "named"), [(0.6, "A10G-24GB"), (1.0, None)])
def test_prices_decide_where_both_have_one(price: float, named: str | None) -> None:
    assert cheaper("L4-24GB", {"L4-24GB": 0.7, "A10G-24GB": price}) == named


@pytest.mark.parametrize(("gpu", "named"), [("H100-80GB-SXM", "L40S-48GB"), ("A100-80GB-SXM", "A100-40GB-PCIe")])
def test_what_is_nowhere_faster_is_named(gpu: str, named: str) -> None:
    found = cheaper(gpu)
    assert found is not None
    assert found.rsplit("-", 1)[0] == named.rsplit("-", 1)[0]
