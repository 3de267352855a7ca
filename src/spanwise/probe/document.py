"""What was measured, as the facts file that `decide` and `plan` read (spanwise.facts/1), with the raw curves and findings beside it."""

from __future__ import annotations

import datetime
import statistics
from typing import Any

from spanwise import __version__
from spanwise.estimate.rates import COLLECTIVE_BASE_S
from spanwise.facts.fact import Fact
from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected, Probed

# The estimate adds it again, so a hop is measured without it. Over gloo it is small beside the hop.
_COLLECTIVE_BASE_S = COLLECTIVE_BASE_S[0]
# A hop of a real link is not shorter than this; a fit that says less has seen noise.
_LEAST_HOP_S = 1e-6


def link_facts(probed: Probed, fabric: str, today: datetime.date | None = None) -> list[Fact]:
    """Hop, bandwidth and efficiency of the fabric between the hosts, as far as they were measured.

    An all-reduce of ``S`` bytes over ``n`` hosts, one rank each, takes ``base + 2 (n - 1) hop + 2 (n - 1) / n S / (bandwidth efficiency)``
    (ring; NCCL, src/graph/tuning.cc). So the measured line gives the hop and the share of the bandwidth that collectives reach.

    Args:
        probed: What was seen.
        fabric: Name that the facts get.
        today: Date of the facts; None is today.
    """
    date = (today or datetime.date.today()).isoformat()

    def fact(quantity: str, value: float, unit: str, low: float, high: float, what: str) -> Fact:
        return Fact(
            name=f"{fabric}.{quantity}",
            value=value,
            unit=unit,
            source=f"spanwise {__version__} probe: {what}",
            date=date,
            kind="measured",
            low=min(low, value),
            high=max(high, value),
        )

    rates = [rate for pair in probed.pairs for rate in (pair["there_bytes_per_s"], pair["back_bytes_per_s"]) if rate]
    if not rates:
        return []
    bandwidth = statistics.median(rates)
    facts = [fact("bandwidth", bandwidth, "B/s", min(rates), max(rates), f"one TCP stream, {len(rates)} directions")]
    trips = [pair["round_trip"] for pair in probed.pairs if "round_trip" in pair]
    ping_s = statistics.median(trip["p50_us"] for trip in trips) / 2e6
    reduce = next(
        (
            g
            for g in probed.groups
            if g["operation"] == "all_reduce" and g["line"] and len(set(g["hosts"])) == len(g["hosts"])
        ),
        None,
    )
    if reduce is None:
        late = max(trip["p95_us"] for trip in trips) / 2e6
        facts.append(
            fact(
                "hop",
                ping_s,
                "s",
                min(trip["min_us"] for trip in trips) / 2e6,
                late,
                "half a TCP round trip; collectives take longer",
            )
        )
        return facts
    n, line = len(reduce["hosts"]), reduce["line"]
    crossings = 2 * (n - 1)
    low, high = (max(_LEAST_HOP_S, (value * 1e-6 - _COLLECTIVE_BASE_S) / crossings) for value in line["alpha_range_us"])
    hop = max(_LEAST_HOP_S, (line["alpha_us"] * 1e-6 - _COLLECTIVE_BASE_S) / crossings)
    what = f"{reduce['backend']} all-reduce over {n} hosts, straight line within {line['worst_error']:.0%}"
    facts.append(fact("hop", hop, "s", min(low, ping_s), high * (1 + line["worst_error"]), what))
    moved = crossings / n
    shares = [
        min(1.0, moved * value / bandwidth) for value in (line["beta_bytes_per_s"], *line["beta_range_bytes_per_s"])
    ]
    facts.append(
        fact(
            "efficiency",
            shares[0],
            "1",
            min(shares) / (1 + line["worst_error"]),
            min(1.0, max(shares) * (1 + line["worst_error"])),
            what,
        )
    )
    return facts


def facts_document(
    probed: Probed, findings: list[Finding], expected: Expected, *, fabric: str, how: dict[str, Any]
) -> dict[str, Any]:
    """The whole file.

    Args:
        probed: What was seen.
        findings: What is wrong.
        expected: What was expected.
        fabric: Name of the fabric between the hosts.
        how: How it was measured: backend, effort, seconds.
    """
    hosts = []
    for report in probed.hosts:
        joins = report.interface(expected.interface) if report.facts is not None else None
        hosts.append(
            {
                "name": report.host.name,
                "interface": joins and joins["name"],
                "address": joins and joins["address"],
                "facts": report.facts,
                "error": report.error,
            }
        )
    return {
        "schema": "spanwise.facts/1",
        "facts": [fact.as_json() for fact in link_facts(probed, fabric)],
        "probe": how | {"spanwise": __version__, "fabric": fabric},
        "findings": [finding.as_json() for finding in findings],
        "hosts": hosts,
        "pairs": probed.pairs,
        "groups": [
            {key: value for key, value in group.items() if key not in ("logs", "connections")}
            for group in probed.groups
        ],
    }
