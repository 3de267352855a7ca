"""The latency that a probe finds, against a ping-pong tool that we did not write (ping3), over links with a set delay."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from spanwise.probe.effort import Effort
from spanwise.probe.reach import Host, ProcessJob, start_process
from spanwise.probe.report import Expected
from spanwise.probe.run import preflight

pytestmark = pytest.mark.lab

# Its word on the same link: echo requests that the other side's kernel answers.
PING = """
import json, time, ping3
found = []
for _ in range(100):
    found.append(ping3.ping("10.66.0.2", timeout=2))
    time.sleep(0.005)
print(json.dumps(found))
"""


# Both in turn, so often; the quietest block of each counts, because other load on the machine only ever adds to a latency.
BLOCKS = 4


@dataclass(frozen=True)
class Ends:
    """The two ends of a link, as the probe reaches them."""

    pids: tuple[int, int]

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(Host(name=f"end-{n}", address=f"10.66.0.{n}", python=sys.executable) for n in (1, 2))

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> ProcessJob:
        pid = self.pids[int(host.name[-1]) - 1]
        return start_process(["nsenter", f"--net=/proc/{pid}/ns/net", "--", *command], environment)


@contextmanager
def delayed(milliseconds: float) -> Iterator[Ends]:
    script = str(Path(__file__).with_name("delay_link.py"))
    link = subprocess.Popen(
        [sys.executable, script, str(milliseconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert link.stdin is not None
    assert link.stdout is not None
    try:
        first = link.stdout.readline()
        if not first:
            pytest.fail("the delayed link did not come up")
        yield Ends(tuple(json.loads(first)["pids"]))
    finally:
        link.stdin.close()
        rest = link.stdout.read()
        link.wait(10)
        print(f"{milliseconds} ms link: {rest.strip()}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="TAP devices and raw sockets need root")
@pytest.mark.parametrize("milliseconds", [1, 2, 5, 10])
def test_the_latency_found_is_that_of_an_independent_tool(milliseconds: float) -> None:
    ours, theirs = [], []
    with delayed(milliseconds) as ends:
        probed, wire = preflight(ends, Expected(), lambda _text: None)
        assert wire is not None
        try:
            for _ in range(BLOCKS):
                found = wire.measure(
                    "end-1", "end-2", Effort(ping_s=2.0, most_pings=100, stream_s=0.1, most_bytes=1 << 18)
                )
                ours.append(found["round_trip"]["p50_us"] / 1e3)
                answer = ends.start(ends.hosts[0], [sys.executable, "-c", PING]).result(60)
                assert answer.code == 0, answer.errors
                theirs.append(statistics.median(json.loads(answer.text)) * 1e3)
            wire.close(probed)
        finally:
            wire.abandon()
    print(f"set {2 * milliseconds} ms both ways, ours {ours} ms, ping3 {theirs} ms")
    assert min(ours) == pytest.approx(min(theirs), rel=0.1)
    assert min(ours) >= 2 * milliseconds
