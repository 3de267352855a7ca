"""docs/intent.md and the model of an intent say the same: every key, whether it is required, its default; its examples are taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from spanwise.intent.load import intent_from, parse_intent
from spanwise.intent.types import Dtype, Intent

PAGE = (Path(__file__).parents[3] / "docs" / "intent.md").read_text("utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")
    )
}


def fields(model: type[BaseModel], before: str = "") -> dict[str, Any]:
    """Every key in dotted form, those of nested mappings included."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        found[before + name] = field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= fields(kind, f"{before}{name}.")
    return found


FIELDS = fields(Intent)


def test_the_page_has_every_key_and_no_other() -> None:
    assert ROWS.keys() == FIELDS.keys()
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE)), "a key stands twice"


@pytest.mark.parametrize("key", FIELDS)
def test_a_row_is_whole_and_its_default_is_the_models(key: str) -> None:
    _, kind, _, default, meaning, example = ROWS[key]
    assert kind
    assert meaning
    assert example.startswith("`")
    field = FIELDS[key]
    if field.is_required():
        assert default == "required"
    elif field.default is None:
        assert default == "none"
    else:
        value = field.default
        assert yaml.safe_load(default.strip("`")) == (
            value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
        )


def test_the_formats_are_all_there() -> None:
    assert re.findall(r"`(\w+)`", ROWS["dtype"][1]) == list(get_args(Dtype))


@pytest.mark.parametrize("key", FIELDS)
def test_an_example_is_taken(key: str) -> None:
    document: dict[str, Any] = {
        "model": "m",
        "hardware": {"gpu": "L4-24GB", "nodes": 1},
        "workload": {"input_tokens": 1, "output_tokens": 1, "concurrency": 1},
    }
    if key.startswith("hardware.gpu."):
        document["hardware"]["gpu"] = {"memory_gib": 1, "memory_bandwidth_gb_per_s": 1, "bf16_tflops": 1}
    if key == "hardware.nodes":
        document["hardware"]["fabric"] = "ethernet-10g"
    if key.startswith("hardware.fabric."):
        document["hardware"]["fabric"] = {"latency_us": 1, "bandwidth_gbit_per_s": 1}
    if key.startswith("today."):
        document["today"] = {"gpu": "L4-24GB", "gpus": 1}
    if key == "workload.request_rate_per_s":
        del document["workload"]["concurrency"]
    *path, last = key.split(".")
    place = document
    for name in path:
        place = place.setdefault(name, {})
    place[last] = yaml.safe_load(ROWS[key][5].strip("`"))
    taken: Any = intent_from(document)
    for name in (*path, last):
        taken = getattr(taken, name)
    assert taken not in (None, ())


def test_the_whole_example_is_an_intent() -> None:
    block = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block
    assert parse_intent(block[1]).hardware.nodes == 2
