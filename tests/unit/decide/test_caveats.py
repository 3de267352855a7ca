"""What a prediction says against itself: figures and versions in caveats are those of the measurements and of the pins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from spanwise.decide import figures
from spanwise.decide.judge import decide
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook, book_from
from spanwise.facts.catalogue import engines, model_config
from spanwise.facts.engine import QUANTITIES
from spanwise.intent.load import intent_from

REPOSITORY = Path(__file__).parents[3]
MODEL = "meta-llama/Meta-Llama-3-8B"
RATE, LOOP = {"request_rate_per_s": 1}, {"concurrency": 4}


def caveats(gpu: str, load: dict[str, int], book: FactBook | None = None) -> set[str]:
    work = {"input_tokens": 128, "output_tokens": 32, **load}
    intent = intent_from({"model": MODEL, "hardware": {"gpu": gpu}, "workload": work, "max_model_len": 256})
    predicted = decide(intent, model_facts(model_config(MODEL), name=MODEL), book).predicted
    assert predicted is not None
    return {caveat.split(":")[0] for caveat in predicted.caveats}


@pytest.mark.parametrize("gpu", ["H100-80GB-SXM", "L4-24GB"])
def test_a_request_rate_on_a_gpu_carries_what_was_measured(gpu: str) -> None:
    assert "request_rate_ttft_too_low" in caveats(gpu, RATE)
    assert "request_rate_ttft_too_low" not in caveats(gpu, LOOP)
    assert "engine_version_not_measured" in caveats(gpu, RATE) & caveats(gpu, LOOP)


def test_facts_of_an_engine_of_ones_own_are_not_of_another_version() -> None:
    entries, _ = engines()["vllm-cuda-sixteen"]
    own = [
        {"name": f"L4-24GB.{fact.name.rpartition('.')[2]}", "value": fact.value or 1e-9, "unit": fact.unit}
        | {"source": "measured here", "date": "2026-11-24", "kind": "measured"}
        for fact in entries
    ]
    assert {entry["name"].rpartition(".")[2] for entry in own} == set(QUANTITIES)
    book = book_from({"schema": "spanwise.facts/1", "facts": own})
    assert not caveats("L4-24GB", LOOP, book) & {"engine_version_not_measured", "engine_not_measured_on_this_gpu"}


def test_the_ttft_figure_is_that_of_the_accuracy_page() -> None:
    section = (REPOSITORY / "docs" / "accuracy.md").read_text("utf-8").split("## Poisson arrivals")[1].split("\n## ")[0]
    rows = [line.split("|")[4] for line in section.splitlines() if re.match(r"\| llama", line)]
    errors = [int(found) for row in rows for found in re.findall(r"\(-(\d+)%\)", row)]
    assert len(errors) == len(rows) == 4
    assert f"{min(errors)} to {max(errors)}" == figures._TTFT_TOO_LOW


def test_the_versions_are_those_measured_and_pinned() -> None:
    entries, _ = engines()["vllm-cuda-sixteen"]
    assert any(figures._MEASURED_ENGINE in fact.source for fact in entries)
    with (REPOSITORY / "pyproject.toml").open("rb") as stream:
        pins = tomllib.load(stream)["project"]["optional-dependencies"]["gpu"]
    pinned = next(pin for pin in pins if pin.startswith("vllm==")).split(";")[0].removeprefix("vllm==").strip()
    assert "vLLM " + ".".join(pinned.split(".")[:2]) == figures._PLANNED_ENGINE
