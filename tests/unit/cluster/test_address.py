"""Addresses of Ray clusters: what can be one is taken, a password is never repeated."""

from __future__ import annotations

import pytest

from spanwise.cluster.address import ray_address
from spanwise.errors import InputError


@pytest.mark.parametrize(
    "text", ["auto", "gpu-a:6379", "10.0.0.1:6379", "ray://head:10001", "[fd00::1]:6379", " auto "]
)
def test_addresses(text: str) -> None:
    assert ray_address(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", " ", "-x", "a b", "http://x", "head:1:2", "x" * 400, "ray://u:s3cr3t@head:1", "s3cr3t@head", "a\nb", "\x00"],
)
def test_what_is_none_is_refused_and_a_password_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as caught:
        ray_address(text)
    assert "s3cr3t" not in str(caught.value)
