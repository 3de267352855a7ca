#!/usr/bin/env python3
"""A link of two network namespaces with a delay: two TAP devices, and a queue between that hands each frame on after its time.

`delay_link.py MILLISECONDS` prints the two namespaces' holder processes as JSON and forwards until standard input ends. netem is not in
every kernel; this is. What it adds of its own (the jitter of a user-space queue) it measures itself: how late each frame was handed on.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import sys
import time

_TUNSETIFF, _TAP_NO_HEADER = 0x400454CA, 0x0002 | 0x1000
_CLONE_NEWNET = 0x40000000
# The last stretch is waited in a loop: timers of the kernel wake up some 50 us late.
_SPIN_S = 200e-6


def holder() -> subprocess.Popen[bytes]:
    """A process that holds a network namespace."""
    process = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def tap(pid: int, name: str) -> int:
    """A TAP device in that namespace; its file descriptor works from here."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(other, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_NO_HEADER))
        return descriptor
    finally:
        libc.setns(own, _CLONE_NEWNET)
        os.close(own)
        os.close(other)


def main() -> None:
    """Make it, say it, forward."""
    delay_s = float(sys.argv[1]) / 1e3
    holders = [holder(), holder()]
    descriptors = [tap(process.pid, "eth0") for process in holders]
    for index, process in enumerate(holders):
        for command in (f"ip address add 10.66.0.{index + 1}/24 dev eth0", "ip link set eth0 up", "ip link set lo up"):
            subprocess.run(["nsenter", f"--net=/proc/{process.pid}/ns/net", *command.split()], check=True)
    print(json.dumps({"pids": [process.pid for process in holders]}), flush=True)
    queue: list[tuple[float, int, int, bytes]] = []
    late: list[float] = []
    count = 0
    while True:
        wait_s = 1.0 if not queue else max(0.0, queue[0][0] - time.perf_counter() - _SPIN_S)
        ready, _, _ = select.select([0, *descriptors], [], [], wait_s)
        now = time.perf_counter()
        if 0 in ready and not os.read(0, 64):
            break
        for index, descriptor in enumerate(descriptors):
            if descriptor not in ready:
                continue
            while True:
                try:
                    frame = os.read(descriptor, 65536)
                except BlockingIOError:
                    break
                count += 1
                heapq.heappush(queue, (now + delay_s, count, descriptors[1 - index], frame))
        while queue and queue[0][0] - time.perf_counter() <= _SPIN_S:
            due, _, target, frame = heapq.heappop(queue)
            while time.perf_counter() < due:
                pass
            late.append(time.perf_counter() - due)
            with contextlib.suppress(BlockingIOError):  # a full queue drops, as a switch does
                os.write(target, frame)
    late.sort()
    for process in holders:
        process.kill()
        process.wait()
    if late:
        print(
            json.dumps(
                {
                    "frames": len(late),
                    "late_p50_us": late[len(late) // 2] * 1e6,
                    "late_p99_us": late[len(late) * 99 // 100] * 1e6,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
