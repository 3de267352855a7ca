"""One variable tried: what may be tried at all, and what two sets of rounds say."""

from __future__ import annotations

import random

import pytest

from spanwise.errors import InputError
from spanwise.journey.try_setting import _row, parse_setting


@pytest.mark.parametrize(
    "text", ["NCCL_SOCKET_NTHREADS=4", "GLOO_SOCKET_IFNAME=eth1", "UCX_TLS=tcp", "FI_EFA_USE_DEVICE_RDMA=1"]
)
def test_network_variables_may_be_tried(text: str) -> None:
    assert "=".join(parse_setting(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "LD_PRELOAD=/tmp/x.so",
        "PYTHONPATH=/tmp",
        "NCCL_NET_PLUGIN=evil",
        "NCCL_TUNER_PLUGIN=x",
        "FI_PROVIDER_PATH=/tmp",
        "NCCL_DEBUG_FILE=/etc/x",
        "PATH=/tmp",
        "NCCL_X",
        "=1",
        "",
        "nccl_debug=1",
        "UCX_MODULE_DIR=/tmp",
        "NCCL_DEBUG=a\nb",
    ],
)
def test_what_loads_code_or_names_a_file_may_not(text: str) -> None:
    with pytest.raises(InputError):
        parse_setting(text)


def rounds(draw: random.Random, factor: float, drift: float = 0.0) -> list[dict[int, list[float]]]:
    return [
        {1024: [factor * (1 + drift * number) * draw.uniform(0.9, 1.1) * 1e-3 for _ in range(60)]}
        for number in range(3)
    ]


def test_a_real_difference_is_shown_and_none_is_not_made_up() -> None:
    draw = random.Random(1)
    plain = rounds(draw, 1.0)
    assert _row(1024, {False: plain, True: rounds(draw, 0.7)}, draw)["verdict"] == "faster"
    assert _row(1024, {False: plain, True: rounds(draw, 1.4)}, draw)["verdict"] == "slower"
    assert _row(1024, {False: plain, True: rounds(draw, 1.0)}, draw)["verdict"] == "no difference shown"


def test_passes_that_differ_among_themselves_show_nothing() -> None:
    """The machine drifts by 40 % from pass to pass: a tenth between the two ways is no finding."""
    draw = random.Random(2)
    row = _row(1024, {False: rounds(draw, 1.0, 0.4), True: rounds(draw, 0.9, 0.4)}, draw)
    assert row["verdict"] == "no difference shown"
    assert row["noise"] > 0.5
