"""Words of the command line made a lab's specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import InputError
from spanwise.lab import wiring
from spanwise.lab.request import lab_spec, parse_isolation
from spanwise.lab.spec import parse_rate, parse_size


def spec(**words: object):
    given_words = {
        "hosts": 2,
        "gpus": 1,
        "link": "unlimited",
        "scale": 1.0,
        "rate": None,
        "shm_size": "1G",
        "domains": 1,
    }
    return lab_spec(**{**given_words, **words})  # type: ignore[arg-type]


def test_a_fabric_scaled_down() -> None:
    found = spec(link="ethernet-10g", scale=50)
    assert found.rate_bit_per_s == pytest.approx(2e8)
    assert (found.link, found.scale) == ("ethernet-10g", 50)


def test_a_rate_instead_of_a_fabric() -> None:
    assert spec(rate="1.5gbit").rate_bit_per_s == pytest.approx(1.5e9)
    assert spec().rate_bit_per_s is None


@pytest.mark.parametrize(
    "text", ["", "fast", "-1mbit", "0bit", "1", "1mbyte", "nanmbit", "1e9bit", "１０mbit", "10mbit\n", "10\u212abit"]
)
def test_unusable_rates(text: str) -> None:
    with pytest.raises(InputError):
        parse_rate(text, key="--rate")


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 2**29), ("2G", 2**31), ("1.5g", 3 * 2**29), ("1024", 1024), ("64MiB", 2**26)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, key="--shm-size") == size


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_our_error(text: str) -> None:
    for parse in (parse_rate, parse_size):
        try:
            assert parse(text, key="k") >= 0
        except InputError as error:
            assert error.remedy


def test_unknown_isolation_names_the_kinds() -> None:
    assert parse_isolation(None) is None
    assert parse_isolation("root") == "root"
    with pytest.raises(InputError) as refusal:
        parse_isolation("vm")
    assert "userns" in refusal.value.remedy


@given(hosts=st.integers(1, 16), domains=st.integers(1, 16))
def test_hosts_are_dealt_to_domains_evenly_and_in_order(hosts: int, domains: int) -> None:
    domains = min(hosts, domains)
    dealt = [wiring.domain_of(index, hosts, domains) for index in range(hosts)]
    assert dealt == sorted(dealt, key=lambda name: int(name.rsplit("-")[-1]))
    sizes = [dealt.count(name) for name in dict.fromkeys(dealt)]
    assert len(sizes) == domains
    assert max(sizes) - min(sizes) <= 1


def test_shaping_lets_nothing_but_a_moment_of_the_rate_pass_at_once_and_drops_nothing() -> None:
    assert wiring.shaping(None) == []
    slow, middle, fast = wiring.shaping(1e6), wiring.shaping(1e8), wiring.shaping(1e10)
    assert slow[3] == "1600b", "one packet"
    assert middle[3] == "3200b", "two"
    assert fast[3] == "125000b", "100 us"
    assert int(fast[5].removesuffix("b")) > 6 << 20, "a socket's whole window fits the queue"
