"""What a user asked of a lab, as text, checked and made a `LabSpec`."""

from __future__ import annotations

from typing import get_args

from spanwise.errors import InputError
from spanwise.lab.spec import LEAST_RATE, MOST_RATE, LabSpec, parse_rate, parse_size
from spanwise.lab.wiring import Isolation


def parse_isolation(text: str | None) -> Isolation | None:
    """The kind of isolation asked for.

    Raises:
        InputError: Not one of the kinds.
    """
    kinds: tuple[Isolation, ...] = get_args(Isolation)
    if text is None:
        return None
    for kind in kinds:
        if text == kind:
            return kind
    raise InputError(f"{text!r} is no kind of isolation", where="--isolation", remedy=f"use one of: {', '.join(kinds)}")


def lab_spec(
    *, hosts: int, gpus: int, link: str, scale: float, rate: str | None, shm_size: str, domains: int
) -> LabSpec:
    """A `LabSpec` from the command line's words.

    Raises:
        FactsError: An unknown fabric.
        InputError: A rate, size or number of domains that cannot be.
    """
    if domains > hosts:
        raise InputError(
            f"{domains} domains for {hosts} hosts", where="--domains", remedy="at most one domain per host"
        )
    if rate is not None:
        if link != "unlimited":
            raise InputError("both --rate and --link are given", where="--rate", remedy="give one of them")
        bits: float | None = parse_rate(rate, key="--rate")
        link = f"rate {rate}"
    else:
        bits = None if link == "unlimited" else fabric_rate(link) / scale
        if bits is not None and not LEAST_RATE <= bits <= MOST_RATE:
            raise InputError(
                f"{link} divided by {scale:g} is {bits:g} bit/s",
                where="--scale",
                remedy="keep the rate between 10 kbit/s and 10 Tbit/s",
            )
    return LabSpec(
        hosts=hosts,
        gpus_per_host=gpus,
        link=link,
        rate_bit_per_s=bits,
        scale=scale if rate is None and bits else 1.0,
        shm_bytes=parse_size(shm_size, key="--shm-size"),
        domains=domains,
    )


def fabric_rate(name: str) -> float:
    """Line rate of a catalogue fabric, bits per second.

    Raises:
        FactsError: No such fabric; the message names those there are.
    """
    from spanwise.facts.book import FactBook

    return float(FactBook().fabric(name, where="--link").bandwidth.value) * 8
