"""What was measured on GPUs: our own files in results/gpu, and the reference data beside the checkout where it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spanwise.estimate.layout import Layout
from spanwise.estimate.memory import replica_memory
from spanwise.estimate.points import COLUMNS, Answer, Point, answer
from spanwise.estimate.rates import Rates, rates
from spanwise.estimate.serving import Load, Service, observe
from spanwise.estimate.step import Costs, costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook, GpuFacts
from spanwise.facts.dtypes import WeightFormat, weight_format
from spanwise.facts.model import ModelFacts
from tests.shared_data import shared_dir

RESULTS = Path(__file__).resolve().parents[3] / "results" / "gpu"
GPUS = {"NVIDIA H200": "H200-141GB-SXM", "NVIDIA H100 80GB HBM3": "H100-80GB-SXM"}
# The conditions of the measurements.
BATCHED, SEQUENCES = 8192, 1024


@dataclass(frozen=True)
class Measured:
    """One model on one GPU, or on several of one host."""

    label: str
    document: dict[str, Any]
    gpu: GpuFacts

    @property
    def layout(self) -> Layout:
        """Of one GPU, unless the file says otherwise: all GPUs in one host."""
        tensor, pipeline = (self.document.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline"))
        return Layout(tensor, pipeline, tensor * pipeline)

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
        return costs(self.model, self.weights, self.layout)

    def answers(self, phase: Literal["decode", "prefill"] | None = None) -> list[tuple[Answer, dict[str, Any]]]:
        """Prediction and measurement of every point, of one phase or both; single prompts only."""
        points = self.document["points"]
        picked = [p for p in points if phase in (None, p["phase"]) and (p["phase"] == "decode" or p["batch"] == 1)]
        found = answer(
            [Point(**{key: p[key] for key in COLUMNS}) for p in picked],
            model=self.model,
            weights=self.weights,
            gpu=self.gpu,
            fabric=None,
            layout=self.layout,
            batched_tokens=BATCHED,
        )
        return list(zip(found, picked, strict=True))

    def errors(self, phase: Literal["decode", "prefill"]) -> list[float]:
        """Predicted over measured, less one."""
        return [found.time_ms / point["time_ms"] - 1 for found, point in self.answers(phase)]

    def kv_capacity_tokens(self) -> int:
        """Predicted."""
        return replica_memory(
            self.model,
            self.weights,
            self.layout,
            gpu_memory_bytes=self.gpu.memory.value,
            utilization=0.9,
            batched_tokens=BATCHED,
            max_sequences=SEQUENCES,
        ).kv_capacity_tokens

    def observed(self, loop: dict[str, Any]) -> Service:
        """What is predicted for one measured load."""
        load = Load(
            input_tokens=loop["input_tokens"],
            output_tokens=loop["output_tokens"],
            rate_per_s=loop.get("request_rate_per_s"),
            concurrency=loop.get("concurrency"),
        )
        return observe(
            self.rates,
            self.cut,
            load,
            kv_capacity_tokens=self.document["kv_capacity_tokens"],
            batched_tokens=BATCHED,
            max_sequences=SEQUENCES,
        )

    def past_the_kv_limit(self, loop: dict[str, Any]) -> bool:
        """True where a closed loop wants more KV cache than there is."""
        wanted = loop.get("concurrency", 0) * (loop["input_tokens"] + loop["output_tokens"])
        return bool(wanted > self.document["kv_capacity_tokens"])


def _measured(document: dict[str, Any], gpu: str) -> Measured:
    return Measured(f"{document['model'].split('/')[-1]}-{document['dtype']}-{gpu}", document, FactBook().gpu(gpu))


def ours(results: Path = RESULTS) -> list[Measured]:
    """Fitted: the efficiencies in engines.yaml come from these points (not from their loops)."""
    found = []
    for path in sorted(results.glob("*-vllm-*/*.json")):
        document = json.loads(path.read_text())
        found.append(_measured(document, GPUS[document["gpu_before"]["name"]]))
    return found


def again() -> list[Measured]:
    """Not fitted: the same models once more, on another host with the same kind of GPU."""
    return ours(RESULTS.with_name("gpu-again"))


def pair(kind: Literal["tensor", "pipeline"] = "tensor") -> list[Measured]:
    """Not fitted: tensor parallelism, or a pipeline, over two GPUs of one host."""
    found = ours(RESULTS.with_name("gpu-pair"))
    return [sample for sample in found if sample.document[f"{kind}_parallel_size"] == 2]


def reference() -> list[Measured]:
    """Not fitted: measured by somebody else, on another day and card. Empty where the data is not at hand."""
    folder = shared_dir()
    if folder is None:
        return []
    models = json.loads((folder / "data/h200/vllm-0.24.json").read_text())["models"]
    return [_measured(document, "H200-141GB-SXM") for document in models]
