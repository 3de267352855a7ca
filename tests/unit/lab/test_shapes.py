"""Hosts of different shapes: what Ray is told to count on each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from spanwise.lab.bring import labels
from spanwise.lab.machine import free_bytes
from spanwise.lab.ray_node import ray_start_command
from spanwise.lab.spec import HostShape, LabSpec


def command(**changes: object) -> list[str]:
    words = {
        "address": "10.77.0.2",
        "head_address": "10.77.0.1",
        "gpus": 2,
        "cpus": 4.0,
        "labels": {"a": "b"},
        "resources": {},
        "temp_dir": "/t",
        "block": False,
    }
    return ray_start_command(**{**words, **changes})  # type: ignore[arg-type]


def test_resources_and_cpus_reach_ray() -> None:
    found = command(resources={"spanwise-x": 2.0}, cpus=0.0)
    (resources,) = [word for word in found if word.startswith("--resources=")]
    assert json.loads(resources.partition("=")[2]) == {"spanwise-x": 2.0}
    assert "--num-cpus=0" in found
    assert "--num-gpus=2" in found
    assert not [word for word in command() if word.startswith("--resources")]


def test_a_host_has_its_own_shape_or_the_labs() -> None:
    plain = LabSpec(hosts=2, gpus_per_host=3, link="unlimited")
    assert (plain.shape(1).gpus, plain.shape(1).resources) == (3, {})
    shaped = LabSpec(
        hosts=2,
        gpus_per_host=3,
        link="unlimited",
        shapes=(HostShape(group="head", gpus=0), HostShape(group="w", gpus=3)),
    )
    assert [shaped.shape(index).gpus for index in range(2)] == [0, 3]
    assert LabSpec.model_validate_json(shaped.model_dump_json()) == shaped
    with pytest.raises(ValidationError, match="1 shapes for 2 hosts"):
        LabSpec(hosts=2, gpus_per_host=1, link="unlimited", shapes=(HostShape(group="head", gpus=0),))


def test_a_manifests_host_has_the_names_that_its_group_gives_and_no_other() -> None:
    plain = LabSpec(hosts=1, gpus_per_host=1, link="unlimited")
    assert labels(plain, 0, "host-1", "domain-1") == {
        "spanwise.io/host": "host-1",
        "spanwise.io/domain": "domain-1",
        "spanwise.io/lab-host": "host-1",
    }
    named = HostShape(group="w", gpus=1, labels={"spanwise.io/host": "gpu-a"})
    shaped = LabSpec(hosts=2, gpus_per_host=1, link="unlimited", shapes=(HostShape(group="head", gpus=0), named))
    assert "spanwise.io/host" not in labels(shaped, 0, "host-1", "domain-1")
    assert labels(shaped, 1, "host-2", "domain-1")["spanwise.io/host"] == "gpu-a"
    assert labels(shaped, 1, "host-2", "domain-1")["spanwise.io/lab-host"] == "host-2"


def test_free_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   2048 kB\n")
    assert free_bytes(tmp_path / "meminfo") == 2048 * 1024
    assert free_bytes(tmp_path / "none") == 0
    (tmp_path / "odd").write_text("MemAvailable: x\n")
    assert free_bytes(tmp_path / "odd") == 0
