"""What is predicted and measured on the lab: models, layouts, link rates, loads. One list for both, so that neither can drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}
# "even": generated, its heads divide by two. "smollm2": the shape of SmolLM2-135M, nine heads. "small": generated, only for calibration.
CONFIGS: dict[str, dict[str, Any]] = {
    "even": _LLAMA | {
        "hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 4,
        "vocab_size": 8192, "rope_theta": 500000.0,
    },
    "smollm2": _LLAMA | {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "rope_theta": 100000.0, "tie_word_embeddings": True,
    },
    "small": _LLAMA | {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 16384, "rope_theta": 500000.0,
    },
}  # fmt: skip
BATCHED_TOKENS = 64


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A closed loop on one layout under one link rate (Mbit/s; 0: not limited)."""

    model: str
    tensor: int
    pipeline: int
    rate: float
    prompt: int
    output: int
    concurrency: int
    requests: int

    @property
    def layout(self) -> str:
        """Short name."""
        return (
            "one"
            if self.tensor * self.pipeline == 1
            else f"TP{self.tensor}"
            if self.tensor > 1
            else f"PP{self.pipeline}"
        )

    @property
    def name(self) -> str:
        """Unique and readable."""
        link = f"@{self.rate:g}" if self.layout != "one" else ""
        return f"{self.model} {self.layout}{link} {self.prompt}+{self.output} x{self.concurrency}"


# Link settings in which one rank, TP 2 and PP 2 of the even model are compared: (prompt, output, at once, requests), and rates of the link,
# chosen so that each of the three should win some.
CHOICES: tuple[tuple[tuple[int, int, int, int], tuple[float, ...]], ...] = (
    ((32, 24, 1, 2), (10, 20, 35, 50, 75, 120, 200, 400, 1000, 3000)),
    ((64, 16, 8, 16), (10, 20, 30, 40, 60, 90, 130, 200, 300, 450, 800, 1200, 2000, 4000)),
)


def choice_cells() -> list[Cell]:
    """Three layouts in every setting; one rank crosses no link and is measured once per load."""
    found = []
    for (prompt, output, concurrency, requests), link_rates in CHOICES:
        found.append(Cell("even", 1, 1, 0, prompt, output, concurrency, requests))
        for rate in link_rates:
            # At slow rates one wave takes long as it is.
            count = concurrency if rate < 60 else requests
            found.append(Cell("even", 2, 1, rate, prompt, output, concurrency, count))
            found.append(Cell("even", 1, 2, rate, prompt, output, concurrency, requests))
    return found


def accuracy_cells() -> list[Cell]:
    """TP1, TP3, PP2 and PP3 of SmolLM2's shape, other lengths of the even model, saturated ones among them."""
    found = [
        Cell("even", 1, 1, 0, 128, 16, 2, 6),
        Cell("even", 1, 1, 0, 32, 32, 4, 12),
        Cell("even", 1, 1, 0, 64, 16, 24, 48),  # saturated, like the one below
        Cell("smollm2", 1, 1, 0, 64, 16, 24, 48),
        Cell("smollm2", 1, 1, 0, 64, 32, 1, 3),
        Cell("smollm2", 1, 1, 0, 64, 32, 4, 12),
        Cell("smollm2", 1, 1, 0, 256, 16, 2, 6),
    ]
    for tensor, pipeline in ((3, 1), (1, 2), (1, 3)):
        for rate in (0, 100, 20):
            found.append(Cell("smollm2", tensor, pipeline, rate, 64, 24, 1, 2))
            found.append(Cell("smollm2", tensor, pipeline, rate, 64, 24, 6, 12))
    return found


@dataclass(frozen=True, slots=True, order=True)
class Bubble:
    """One prompt of ``chunks`` full chunks through a pipeline: the chunks are its micro-batches."""

    model: str
    pipeline: int
    chunks: int

    @property
    def name(self) -> str:
        """Unique and readable."""
        return f"{self.model} PP{self.pipeline} {self.chunks} chunks"


def bubbles() -> list[Bubble]:
    """Settings of micro-batches and stages."""
    return [Bubble("even", 2, chunks) for chunks in (1, 2, 4, 8)] + [
        Bubble("smollm2", 3, chunks) for chunks in (1, 2, 4, 8)
    ]


def engines() -> list[tuple[str, int, int]]:
    """Model and layout of every engine that must be started, those that are measured longest first."""
    wanted = {(cell.model, cell.tensor, cell.pipeline) for cell in [*choice_cells(), *accuracy_cells()]}
    return sorted(wanted | {(bubble.model, 1, bubble.pipeline) for bubble in bubbles()})
