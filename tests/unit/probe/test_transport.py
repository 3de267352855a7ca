"""NCCL's log read into transports. No GPUs here: the lines are recorded, from logs in public issues (named beside each), shortened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.probe.transport import check_transport, kind_of, read_log

# NVIDIA/nccl issue 707: A100, InfiniBand with GPUDirect RDMA.
GDR = """
10-90-43-152:120890:121560 [0] NCCL INFO Channel 01 : 2[c7000] -> 0[87000] [receive] via NET/IB/5/GDRDMA
10-90-43-152:120890:121563 [3] NCCL INFO Channel 01 : 3[ca000] -> 2[c7000] [send] via NET/IB/2/GDRDMA
"""
# NVIDIA/nccl issue 601: Ethernet, sockets.
SOCKETS = """
gpu23:2625:2638 [0] NCCL INFO NET/IB : No device found.
gpu23:2625:2638 [0] NCCL INFO NET/Socket : Using [0]enp1s0f0:10.0.0.23<0>
gpu23:2625:2638 [0] NCCL INFO Using network Socket
gpu24:2321:2333 [0] NCCL INFO Channel 00 : 3[84000] -> 4[2000] [receive] via NET/Socket/0
"""
# NVIDIA/nccl issues 392 and 1358: within a host.
INSIDE = """
 [0] NCCL INFO Ring 00 : 0[1b000] -> 1[1c000] via P2P/IPC
 [0] NCCL INFO Ring 00 : 0[1b000] -> 7[41000] via direct shared memory
LIUCC13-AC-01:106:121 [1] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via P2P/direct pointer
"""
# NVIDIA/nccl issue 1357: a plugin with a name of its own.
PLUGIN = """
qh100-gpu19:49357:49418 [3] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB/SHARP [1]mlx5_1:1/IB/SHARP [RO]; OOB ibp25s0:10.20.0.119<0>
qh100-gpu19:49357:49418 [3] NCCL INFO Using network IBext
qh100-gpu20:39629:39686 [0] NCCL INFO NET/Plugin: Loaded net plugin NCCL RDMA Plugin v6 (v6)
"""
# NVIDIA/nccl issues 676 and 1053: RDMA switched off by a variable.
DISABLED = """
axa:3048391:3048566 [0] NCCL INFO NCCL_IB_DISABLE set by environment to 1.
axa:3048391:3048566 [0] NCCL INFO NET/Socket : Using [0]lo:127.0.0.1<0>
axa:3048391:3048566 [0] NCCL INFO Using network Socket
axa:3048391:3048566 [0] NCCL INFO NET/Socket : GPU Direct RDMA Disabled for HCA 0 'lo'
"""


def test_rdma_with_direct_writes() -> None:
    found = read_log(GDR)
    assert found.channels == {"NET/IB/GDRDMA": 2}
    assert found.kinds == {"rdma": 2}
    assert found.direct == 2
    assert check_transport(found, rdma=True) == []


def test_sockets_where_rdma_was_asked_for_are_a_failure_with_the_reason() -> None:
    found = read_log(SOCKETS)
    assert found.network == "Socket"
    assert found.kinds == {"socket": 1}
    (finding,) = check_transport(found, rdma=True, hosts="gpu23, gpu24")
    assert finding.code == "transport_other"
    assert finding.severity == "error"
    assert "no InfiniBand or RoCE device" in finding.message
    assert check_transport(found, rdma=False) == []


def test_within_a_host() -> None:
    assert read_log(INSIDE).kinds == {"p2p": 2, "shm": 1}


def test_a_plugins_own_name_counts_as_rdma() -> None:
    found = read_log(PLUGIN)
    assert found.network == "IBext"
    assert found.plugin == "Loaded net plugin NCCL RDMA Plugin v6 (v6)"
    assert check_transport(found, rdma=True) == []


def test_a_variable_that_switches_it_off_is_named() -> None:
    (finding,) = check_transport(read_log(DISABLED), rdma=True)
    assert "NCCL_IB_DISABLE=1" in finding.message
    assert "GPUDirect RDMA is off" in finding.message


def test_a_log_without_a_word_proves_nothing() -> None:
    (finding,) = check_transport(read_log("vllm started\n"), rdma=True)
    assert finding.value == "unknown"


@pytest.mark.parametrize(
    ("via", "kind"),
    [
        ("NET/AWS Libfabric/0/GDRDMA", "rdma"),
        ("NET/gIB/1", "rdma"),
        ("NET/Socket/0", "socket"),
        ("SHM/direct/direct", "shm"),
        ("P2P/CUMEM/read", "p2p"),
        ("NVLS", "p2p"),
        ("?", "other"),
    ],
)
def test_kinds(via: str, kind: str) -> None:
    assert kind_of(via) == kind


@given(st.text(max_size=2000))
def test_any_text_is_read(text: str) -> None:
    read_log("NCCL INFO Channel 00 : " + text + "\nNCCL INFO " + text)
