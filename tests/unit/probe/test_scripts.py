"""The scripts that run on strangers' hosts: one file each, standard library only, old Pythons too; and what they say of this machine."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from spanwise.probe import on_host
from spanwise.probe.reach import script

SCRIPTS = ("on_host", "on_wire", "on_group", "on_leash")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_needs_nothing_of_ours(name: str) -> None:
    source = resources.files("spanwise.probe").joinpath(f"{name}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = set(sys.stdlib_module_names) | ({"torch"} if name == "on_group" else set())
    assert imported <= allowed
    # A command's single argument may have 128 KiB on Linux.
    assert len(source.encode()) < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' own tables")
def test_this_machine_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_API_TOKEN", "secret-word")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    monkeypatch.setenv("https_proxy", "http://user:secret-word@proxy:1")
    done = subprocess.run(
        script("on_host", {"paths": [str(tmp_path)]}, sys.executable), capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    parts = (
        "names",
        "interfaces",
        "routes",
        "room",
        "limits",
        "memory",
        "versions",
        "gpus",
        "rdma",
        "environment",
        "cores",
    )
    assert {part for part in parts if isinstance(said[part], dict) and set(said[part]) == {"error"}} == set()
    loopback = next(entry for entry in said["interfaces"] if entry["name"] == "lo")
    assert loopback["loopback"]
    assert said["room"][str(tmp_path)]["free_bytes"] > 0
    assert said["environment"]["variables"]["NCCL_DEBUG"] == "WARN"
    assert said["environment"]["proxies"] == ["https_proxy"]
    assert "secret-word" not in done.stdout


def sysfs(
    root: Path, *, state: str = "4: ACTIVE", layer: str = "Ethernet", kinds: dict[int, str] | None = None
) -> None:
    """A tree as Linux' RDMA core lays it out (Documentation/ABI/stable/sysfs-class-infiniband); no device exists here, so it stands in."""
    port = root / "class/infiniband/mlx5_0/ports/1"
    for folder in ("gids", "gid_attrs/types", "gid_attrs/ndevs"):
        (port / folder).mkdir(parents=True)
    (port / "state").write_text(state + "\n")
    (port / "link_layer").write_text(layer + "\n")
    (port / "rate").write_text("400 Gb/sec (4X NDR)\n")
    for index in range(4):
        kind = (kinds or {}).get(index)
        (port / f"gids/{index}").write_text(
            ("0000:0000:0000:0000:0000:ffff:0a00:0001" if kind else "0000:0000:0000:0000:0000:0000:0000:0000") + "\n"
        )
        if kind:
            (port / f"gid_attrs/types/{index}").write_text(kind + "\n")
            (port / f"gid_attrs/ndevs/{index}").write_text("eth2\n")


def test_rdma_devices_are_read_from_sysfs(tmp_path: Path) -> None:
    sysfs(tmp_path, kinds={0: "IB/RoCE v1", 3: "RoCE v2"})
    (device,) = on_host.rdma(str(tmp_path))
    (port,) = device["ports"]
    assert device["name"] == "mlx5_0"
    assert port["state"] == "ACTIVE"
    assert port["rate"] == "400 Gb/sec (4X NDR)"
    assert [(gid["index"], gid["type"], gid["interface"]) for gid in port["gids"]] == [
        (0, "IB/RoCE v1", "eth2"),
        (3, "RoCE v2", "eth2"),
    ]


def test_a_host_without_rdma_has_none(tmp_path: Path) -> None:
    assert on_host.rdma(str(tmp_path)) == []
