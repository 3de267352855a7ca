"""The catalogue: the YAML files beside this module as Facts. Data, not code; each figure names its source."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from spanwise.errors import FactsError
from spanwise.facts.fact import Fact, Kind

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNITS = {
    "memory": "B",
    "driver_memory": "B",
    "memory_bandwidth": "B/s",
    "bf16_flops": "FLOP/s",
    "fp8_flops": "FLOP/s",
    "shared_cores": "1",
    "engine_cpu": "s",
    # What an engine makes of a GPU: spanwise.facts.engine says what each one is.
    "memory_efficiency": "1",
    "kv_efficiency": "1",
    "small_compute_efficiency": "1",
    "large_compute_efficiency": "1",
    "expert_efficiency": "1",
    "attention_efficiency": "1",
    "blend": "1",
    "mid_batch_penalty": "1",
    "activation_traffic": "1",
    "layer_overhead": "s",
    "step_overhead": "s",
    "gang_overhead": "s",
    "request_overhead": "s",
    "sequence_overhead": "s",
    "hop": "s",
    "bandwidth": "B/s",
    "efficiency": "1",
    "allreduce_floor": "s",
    "burst": "B",
}


def unit_of(quantity: str) -> str | None:
    """The unit that facts of this quantity have; None for an unknown quantity."""
    return _UNITS.get(quantity)


@cache
def _read(name: str) -> Any:
    return yaml.load(resources.files(__package__).joinpath(name).read_text("utf-8"), Loader=_Loader)  # noqa: S506


def _facts(file: str, key: str) -> dict[str, tuple[tuple[Fact, ...], dict[str, str]]]:
    """Per entry its facts and its plain words (``interconnect``, ``ports``)."""
    document = _read(file)
    date, sources = str(document["date"]), document["sources"]
    entries = {}
    for name, entry in document[key].items():
        facts, words = [], {}
        for quantity, value in entry.items():
            if not isinstance(value, list):
                words[quantity] = str(value)
                continue
            low, high = (float(value[2]), float(value[3])) if len(value) == 4 else (None, None)
            facts.append(
                Fact(
                    name=f"{name}.{quantity}",
                    value=float(value[0]),
                    unit=_UNITS[quantity],
                    source=sources[value[1]],
                    date=date,
                    kind=_kind(sources[value[1]]),
                    low=low,
                    high=high,
                )
            )
        entries[name] = (tuple(facts), words)
    return entries


def _kind(source: str) -> Kind:
    """A source says of itself what kind it is; published is the rule."""
    if source.startswith("assumption"):
        return "assumption"
    return "measured" if source.startswith("measured") else "catalogue"


@cache
def gpus() -> dict[str, tuple[tuple[Fact, ...], dict[str, str]]]:
    """Every GPU: its facts, and its ``interconnect``."""
    return _facts("gpus.yaml", "gpus")


@cache
def fabrics() -> dict[str, tuple[tuple[Fact, ...], dict[str, str]]]:
    """Every link: its facts, and its ``ports``."""
    return _facts("fabrics.yaml", "fabrics")


@cache
def engines() -> dict[str, tuple[tuple[Fact, ...], dict[str, str]]]:
    """Every measured engine and precision: its efficiencies, and the GPUs they were ``measured_on``."""
    return _facts("engines.yaml", "engines")


def model_names() -> tuple[str, ...]:
    """Models whose config.json facts are known without a hub."""
    return tuple(_read("models.yaml")["models"])


def model_config(name: str) -> dict[str, Any]:
    """The config facts of a catalogue model, as a config.json would hold them.

    Raises:
        FactsError: No such model in the catalogue.
    """
    models = _read("models.yaml")["models"]
    if name not in models:
        raise FactsError(
            f"{name!r} is not in the catalogue of models", where="model", remedy=f"known are {', '.join(models)}"
        )
    config: dict[str, Any] = copy.deepcopy(models[name])
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which terms a catalogue model's weights are given, as far as known on the catalogue's date.

    Attributes:
        gated: True where the hub asks for an account that accepted them.
    """

    licence: str
    gated: bool


def model_terms(name: str) -> Terms | None:
    """Licence and gate of a catalogue model: the longest beginning of its name that the catalogue knows."""
    found = [start for start in _read("models.yaml")["licences"] if name.startswith(start)]
    return Terms(**_read("models.yaml")["licences"][max(found, key=len)]) if found else None
