"""Network settings out of a probe's document: none where NCCL finds its way, and the one that is needed where it would not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spanwise.plan.network import NEVER, network_settings


def interface(name: str, address: str, *, up: bool = True) -> dict[str, Any]:
    return {"name": name, "address": address, "up": up, "loopback": name == "lo", "mtu": 1500}


def rdma(name: str, *, state: str = "ACTIVE", layer: str = "Ethernet", index: int = 3) -> dict[str, Any]:
    gids = [{"index": index, "gid": "0000:0000:0000:0000:0000:ffff:0a00:0001", "type": "RoCE v2", "interface": "eth2"}]
    return {
        "name": name,
        "ports": [{"port": 1, "state": state, "link_layer": layer, "rate": "400 Gb/sec", "gids": gids}],
    }


def probed(
    *,
    extra: tuple[str, ...] = (),
    devices: tuple[tuple[dict[str, Any], ...], ...] = ((), ()),
    nccl: str = "2.27.3",
    cards: int = 8,
) -> dict[str, Any]:
    hosts = []
    for number, mine in enumerate(devices, start=1):
        listed = [
            interface("lo", "127.0.0.1"),
            interface("eth0", f"10.0.0.{number}"),
            *(interface(name, f"10.1.0.{number}") for name in extra),
        ]
        facts = {
            "interfaces": listed,
            "gpus": {"cards": [{}] * cards},
            "rdma": list(mine),
            "versions": {"nvidia-nccl-cu12": nccl},
        }
        hosts.append({"name": f"node-{number}", "interface": "eth0", "facts": facts})
    return {"schema": "spanwise.facts/1", "facts": [], "hosts": hosts}


def names(document: dict[str, Any]) -> dict[str, str]:
    return {setting.name: setting.value for setting in network_settings(document)}


def test_a_plain_cluster_needs_no_setting() -> None:
    both = (rdma("mlx5_0"), rdma("mlx5_1"))
    assert names(probed(devices=(both, both))) == {}


def test_a_second_interface_is_ruled_out_by_name() -> None:
    assert names(probed(extra=("docker0",))) == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0"}
    assert names(probed(extra=("docker0",), cards=0)) == {"GLOO_SOCKET_IFNAME": "eth0"}


def test_devices_that_do_not_work_everywhere_are_left_out() -> None:
    good, bad = rdma("mlx5_0"), rdma("mlx5_1", state="DOWN")
    assert names(probed(devices=((good, rdma("mlx5_1")), (good, bad)))) == {"NCCL_IB_HCA": "=mlx5_0"}


def test_the_address_index_only_where_nccl_would_not_find_it() -> None:
    both = (rdma("mlx5_0"),)
    assert names(probed(devices=(both, both), nccl="2.20.5")) == {"NCCL_IB_GID_INDEX": "3"}
    assert names(probed(devices=(both, both), nccl="2.21.0")) == {}
    # Two hosts with different indices: no single value is right for all, and none is written.
    assert names(probed(devices=(both, (rdma("mlx5_0", index=5),)), nccl="2.20.5")) == {}
    assert names(probed(devices=((rdma("mlx5_0", layer="InfiniBand"),),) * 2, nccl="2.20.5")) == {}


def test_every_setting_has_a_reason_and_a_source_and_none_is_warned_about() -> None:
    both = ((rdma("mlx5_0"), rdma("mlx5_1")), (rdma("mlx5_0"), rdma("mlx5_1", state="DOWN")))
    found = network_settings(probed(extra=("docker0",), devices=both, nccl="2.19.3"))
    assert len(found) == 4
    assert all(setting.reason and setting.source for setting in found)
    assert not {setting.name for setting in found} & NEVER


_KEYS = ["facts", "hosts", "interfaces", "gpus", "cards", "rdma", "ports", "gids", "interface", "name"]
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["hosts", "facts"]), _ANY))
def test_any_document_is_read(document: dict[str, Any]) -> None:
    network_settings(document)
