"""What was measured on GPUs: our own files in results/gpu, and the reference data beside the checkout where it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanwise.estimate.layout import Layout
from spanwise.estimate.rates import Rates, rates
from spanwise.estimate.step import Costs, costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook, GpuFacts
from spanwise.facts.dtypes import WeightFormat, weight_format
from spanwise.facts.model import ModelFacts
from tests.shared_data import shared_dir

RESULTS = Path(__file__).resolve().parents[3] / "results" / "gpu"
GPUS = {"NVIDIA H200": "H200-141GB-SXM", "NVIDIA H100 80GB HBM3": "H100-80GB-SXM"}
ONE = Layout(1, 1, 1)


@dataclass(frozen=True)
class Measured:
    """One model on one GPU."""

    label: str
    document: dict[str, Any]
    gpu: GpuFacts

    @property
    def model(self) -> ModelFacts:
        return model_facts(self.document["config"])

    @property
    def weights(self) -> WeightFormat:
        return weight_format(self.document["dtype"])

    @property
    def rates(self) -> Rates:
        return rates(self.gpu, None, self.weights, "expected")

    @property
    def cut(self) -> Costs:
        return costs(self.model, self.weights, ONE)


def _measured(document: dict[str, Any], gpu: str) -> Measured:
    return Measured(f"{document['model'].split('/')[-1]}-{document['dtype']}-{gpu}", document, FactBook().gpu(gpu))


def ours() -> list[Measured]:
    """Fitted: the efficiencies in engines.yaml come from these points (not from their loops)."""
    found = []
    for path in sorted(RESULTS.glob("*-vllm-*/*.json")):
        document = json.loads(path.read_text())
        found.append(_measured(document, GPUS[document["gpu_before"]["name"]]))
    return found


def reference() -> list[Measured]:
    """Not fitted: measured by somebody else, on another day and card. Empty where the data is not at hand."""
    folder = shared_dir()
    if folder is None:
        return []
    models = json.loads((folder / "data/h200/vllm-0.24.json").read_text())["models"]
    return [_measured(document, "H200-141GB-SXM") for document in models]
