"""How much a probe measures: its bounds in time and traffic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        ping_s: Time for the round trips of one pair.
        most_pings: At most so many.
        stream_s: Time for one direction of one pair.
        most_bytes: At most so much in one direction.
        sizes: Bytes of the collectives.
        seconds_per_size: Time for one size of one operation.
        pairs: ``all``, or ``ring``: each host with the next only.
    """

    ping_s: float = 0.4
    most_pings: int = 1000
    stream_s: float = 1.5
    most_bytes: int = 4 << 30
    sizes: tuple[int, ...] = tuple(1 << power for power in range(10, 27, 2))
    seconds_per_size: float = 0.6
    pairs: str = "all"


QUICK = Effort(
    ping_s=0.2,
    stream_s=0.6,
    most_bytes=256 << 20,
    sizes=tuple(1 << power for power in range(10, 23, 4)),
    seconds_per_size=0.4,
    pairs="ring",
)
