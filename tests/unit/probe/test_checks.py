"""Findings from what hosts said: those that no emulated host can show (RDMA, GPUs) from recorded or made-up words, marked so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.probe import on_host
from spanwise.probe.checks_host import check_host
from spanwise.probe.checks_pairs import check_between, check_pairs
from spanwise.probe.finding import CODES
from spanwise.probe.reach import Host
from spanwise.probe.report import Expected, HostReport, Probed
from tests.unit.probe.test_scripts import sysfs


def said(name: str, address: str, **parts: Any) -> dict[str, Any]:
    """What a healthy host says of itself, with parts replaced."""
    interface = {
        "name": "eth0",
        "address": address,
        "prefix": 24,
        "addresses_v6": [],
        "mtu": 9000,
        "up": True,
        "loopback": False,
        "speed_mbit_per_s": None,
    }
    return {
        "python": "/usr/bin/python3",
        "names": {"hostname": name, "addresses": [address], "error": None},
        "interfaces": [interface],
        "routes": [
            {"destination": "0.0.0.0", "prefix": 0, "gateway": "10.0.0.254", "interface": "eth0", "mask": "0.0.0.0"}
        ],
        "room": {
            "/dev/shm": {"total_bytes": 8 << 30, "free_bytes": 8 << 30},
            "/tmp": {"total_bytes": 99 << 30, "free_bytes": 50 << 30},
        },
        "limits": {"open_files": [65536, 65536], "locked_memory_bytes": [-1, -1], "processes": [-1, -1]},
        "versions": {"python": "3.12.3", "ray": "2.60.0", "vllm": "0.32.0", "torch": "2.13.0"},
        "gpus": {"cards": [{"name": "H100", "driver_version": "580.1"}] * 8, "topology": None},
        "rdma": [],
        "environment": {"variables": {}, "proxies": []},
        "clock_s": 1000.0,
        **parts,
    }


def host(number: int, **parts: Any) -> HostReport:
    name, address = f"node-{number}", f"10.0.0.{number}"
    return HostReport(host=Host(name=name), facts=said(name, address, **parts), asked_at=(999.9, 1000.1))


def codes(reports: list[HostReport], expected: Expected | None = None) -> list[tuple[str, str]]:
    expected = expected or Expected(gpus_per_host=8)
    found = [item for report in reports if report.facts is not None for item in check_host(report, expected)]
    return [(item.code, item.host) for item in [*found, *check_between(reports, expected)]]


def test_healthy_hosts_have_no_finding() -> None:
    assert codes([host(1), host(2), host(3)]) == []


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("gpu_missing", {"gpus": {"cards": [{"name": "H100", "driver_version": "580.1"}] * 7, "topology": None}}),
        ("shm_small", {"room": {"/dev/shm": {"total_bytes": 512 << 20, "free_bytes": 0}}}),
        ("version_missing", {"versions": {"python": "3.12.3", "ray": None, "vllm": "0.32.0", "torch": "2.13.0"}}),
        ("clock_skewed", {"clock_s": 990.0}),
        ("hostname_unresolved", {"names": {"hostname": "node-2", "addresses": None, "error": "no answer within 3 s"}}),
    ],
)
def test_one_host(code: str, parts: dict[str, Any]) -> None:
    found = codes([host(1), host(2, **parts), host(3)], Expected(gpus_per_host=8, engine=("ray", "vllm")))
    assert (code, "node-2") in found
    assert {name for _, name in found} == {"node-2"}


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("version_differs", {"versions": {"python": "3.11.3", "ray": "2.60.0", "vllm": "0.32.0", "torch": "2.13.0"}}),
        ("gpu_differs", {"gpus": {"cards": [{"name": "A100", "driver_version": "580.1"}] * 8, "topology": None}}),
        ("version_differs", {"gpus": {"cards": [{"name": "H100", "driver_version": "550.9"}] * 8, "topology": None}}),
        ("environment_differs", {"environment": {"variables": {"NCCL_SOCKET_IFNAME": "eth1"}, "proxies": []}}),
    ],
)
def test_the_odd_one_out_is_named(code: str, parts: dict[str, Any]) -> None:
    assert codes([host(1), host(2, **parts), host(3)]) == [(code, "node-2")]


def test_what_differs_by_nature_is_no_finding() -> None:
    """Every host has its own VLLM_HOST_IP."""
    reports = [host(n, environment={"variables": {"VLLM_HOST_IP": f"10.0.0.{n}"}, "proxies": []}) for n in (1, 2, 3)]
    assert codes(reports) == []


def test_two_hosts_with_one_address() -> None:
    twin = HostReport(host=Host(name="node-2"), facts=said("node-2", "10.0.0.1"), asked_at=(999.9, 1000.1))
    assert codes([host(1), twin]) == [("address_repeated", "node-1, node-2")]


RDMA = Expected(gpus_per_host=8, rdma=True)


@pytest.mark.parametrize(
    ("code", "tree"),
    [
        ("rdma_port_down", {"state": "1: DOWN", "kinds": {0: "IB/RoCE v1", 3: "RoCE v2"}}),
        ("rdma_gid_missing", {"kinds": {0: "IB/RoCE v1"}}),
        (None, {"kinds": {0: "IB/RoCE v1", 3: "RoCE v2"}}),
        (None, {"layer": "InfiniBand", "kinds": {0: "IB/RoCE v1"}}),
    ],
)
def test_rdma_ports(tmp_path: Path, code: str | None, tree: dict[str, Any]) -> None:
    sysfs(tmp_path, **tree)
    found = codes([host(1, rdma=on_host.rdma(str(tmp_path)))], RDMA)
    assert found == ([(code, "node-1")] if code else [])


def test_rdma_needs_locked_memory(tmp_path: Path) -> None:
    sysfs(tmp_path, kinds={3: "RoCE v2"})
    parts = {
        "rdma": on_host.rdma(str(tmp_path)),
        "limits": {"open_files": [65536, 65536], "locked_memory_bytes": [65536, 65536], "processes": [-1, -1]},
    }
    assert codes([host(1, **parts)], RDMA) == [("locked_memory_limited", "node-1")]


def pair(a: str, b: str, there: float, back: float) -> dict[str, Any]:
    return {"from": a, "to": b, "there_bytes_per_s": there, "back_bytes_per_s": back}


def test_a_link_that_is_slow_in_one_direction() -> None:
    probed = Probed(hosts=[host(1), host(2)], pairs=[pair("node-1", "node-2", 1e9, 0.3e9)])
    assert [(item.code, item.host) for item in check_pairs(probed, Expected())] == [
        ("link_asymmetric", "node-2 -> node-1")
    ]


def test_a_fast_fabric_is_not_judged_by_one_stream() -> None:
    """One TCP stream does not fill 400 Gbit/s: its figure says nothing about the link."""
    probed = Probed(hosts=[host(1), host(2)], pairs=[pair("node-1", "node-2", 3e9, 3e9)])
    assert list(check_pairs(probed, Expected(fabric_bytes_per_s=50e9))) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(said("a", "b"))), st.dictionaries(st.just("error"), st.text(), min_size=1))
def test_a_part_that_could_not_be_read_hides_nothing(part: str, broken: dict[str, str]) -> None:
    if part in ("clock_s", "python"):
        return
    codes([host(1, **{part: broken}), host(2)])


def test_every_code_is_told_of() -> None:
    """A page or table that lists codes reads CODES; a code without a meaning is none."""
    assert all(meaning and not meaning.endswith(".") for meaning in CODES.values())
