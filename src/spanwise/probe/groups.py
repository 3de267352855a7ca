"""The collectives of one group, its ranks on their real hosts: alone, or as two groups that measure by turns."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from spanwise.errors import ProbeError
from spanwise.probe.curve import curve
from spanwise.probe.effort import Effort
from spanwise.probe.reach import Answer, Host, Job, Reach, answer_of, script

# Torch on a host with other load needs half a minute, and a group that cannot form says so after another.
_START_S = 90.0
# Ranks that see another one die say so within this; the one that died first is the cause.
_ECHO_S = 2.0
# Words of ranks that only saw another one go (gloo, TCPStore).
_ECHO = re.compile(r"closed by peer|reset by peer|Broken pipe|recvValue|sendBytes", re.IGNORECASE)
# Both arms' connections are made anew so often, and so many pairs of turns are measured over each: one with either arm first.
SESSIONS = 8
PAIRS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Ranks whose collectives are measured.

    Attributes:
        name: As the report calls it.
        operations: ``all_reduce`` (a tensor-parallel group), ``send_recv`` (neighbours of a pipeline: its first and its last rank).
        hosts: The host of each rank, by name.
    """

    name: str
    operations: tuple[str, ...]
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the ranks of a group speak.

    Attributes:
        backend: ``gloo`` or ``nccl``.
        interface: The one that gloo is told to use; None: as the host's own name says.
        environment: Variables of every rank, before torch starts.
    """

    backend: str
    interface: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank that was started."""

    arm: int
    host: Host
    job: Job


class _SecondArmError(ProbeError):
    """Of two groups that measure by turns the second failed: an answer, to whoever asked what its manner does."""


def _ranks(hosts: dict[str, Host], group: Group, effort: Effort, manner: Manner) -> list[tuple[Host, dict[str, Any]]]:
    """Host and question of every rank."""
    asked = {
        "world": len(group.hosts),
        "interface": manner.interface,
        "backend": manner.backend,
        "sizes": list(effort.sizes),
        "seconds_per_size": effort.seconds_per_size,
        "operations": list(group.operations),
        "device": "cuda" if manner.backend == "nccl" else "cpu",
        "address": hosts[group.hosts[0]].address,
    }
    seen: dict[str, int] = {}
    found = []
    for rank, name in enumerate(group.hosts):
        local = seen[name] = seen.get(name, -1) + 1
        found.append((hosts[name], {**asked, "rank": rank, "local_rank": local}))
    return found


def _answers(ranks: list[Rank], patience_s: float, what: str) -> list[Answer]:
    """What all ranks wrote, in their order; every rank is ended on the way out, whatever happens.

    Raises:
        ProbeError: A rank failed; the message is its own.
        _SecondArmError: The same, of arm 1.
    """
    with ThreadPoolExecutor(max_workers=len(ranks)) as pool:
        try:
            under_way: dict[Future[Answer], Rank] = {pool.submit(rank.job.result, patience_s): rank for rank in ranks}
            everyone = dict(under_way)
            until, failed = time.monotonic() + patience_s + 5, []
            while under_way and time.monotonic() < until:
                done, _ = wait(under_way, timeout=until - time.monotonic(), return_when=FIRST_COMPLETED)
                for future in done:
                    rank = under_way.pop(future)
                    if future.result().code != 0:
                        failed.append((rank, future.result()))
                        until = min(until, time.monotonic() + _ECHO_S)
            if failed:
                _say_why(failed, what)
            if under_way:
                raise ProbeError(f"{what}: did not answer in time", where=next(iter(under_way.values())).host.name)
            return [future.result() for future in everyone]
        finally:
            for rank in ranks:
                rank.job.end()


def _say_why(failed: list[tuple[Rank, Answer]], what: str) -> None:
    """Raise for the rank that is the cause: the first to end by itself that does not merely say that another one went."""
    told = [pair for pair in failed if pair[1].code is not None] or failed
    rank, answer = next((pair for pair in told if not _ECHO.search(pair[1].errors)), told[0])
    try:
        answer_of(rank.host, replace(answer, text=""), f"rank of {what}")
    except ProbeError as error:
        kind = _SecondArmError if rank.arm else ProbeError
        raise kind(error.what, where=error.where, remedy=error.remedy) from None


def _started(
    reach: Reach, arms: list[tuple[Manner, list[tuple[Host, dict[str, Any]]]]], shared: dict[str, Any]
) -> list[Rank]:
    """All ranks of all arms, started together; where one cannot be, those before it are ended."""
    ranks: list[Rank] = []
    with contextlib.ExitStack() as undo:
        for arm, (manner, asked) in enumerate(arms):
            for host, question in asked:
                whole = {**question, **shared} if len(arms) == 1 else {**question, **shared, "arm": arm}
                job = reach.start(host, script("on_group", whole, host.python), manner.environment or None)
                undo.callback(job.end)
                ranks.append(Rank(arm=arm, host=host, job=job))
        undo.pop_all()
    return ranks


def _port() -> int:
    return 20_000 + secrets.randbelow(10_000)


def measure_group(
    reach: Reach, hosts: dict[str, Host], group: Group, effort: Effort, manner: Manner
) -> list[dict[str, Any]]:
    """The curves of one group.

    Returns:
        Per operation its curve, the raw times (``times_s``), and the sizes that were left out.

    Raises:
        ProbeError: A rank failed; the message is its own.
    """
    ranks = _started(reach, [(manner, _ranks(hosts, group, effort, manner))], {"port": _port()})
    # Two passes of warm-up and three rounds of each size at worst five times its share.
    answers = _answers(ranks, _START_S + 6 * effort.seconds_per_size * len(effort.sizes), group.name)
    told = [answer_of(rank.host, answer, f"rank of {group.name}") for rank, answer in zip(ranks, answers, strict=True)]
    return _curves(group, ranks, answers, told)


def _connections(ranks: list[Rank], told: list[dict[str, Any]]) -> dict[str, list[list[str]]]:
    return {rank.host.name: word["connections"] for rank, word in zip(ranks, told, strict=True)}


def _curves(group: Group, ranks: list[Rank], answers: list[Answer], told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What rank 0 measured alone, a curve per operation, with what all ranks say of their connections."""
    said = told[0]
    shared = {
        "name": group.name,
        "hosts": list(group.hosts),
        "backend": said["backend"],
        "torch": said["torch"],
        "cuda_graphs": said["cuda_graphs"],
        "connections": _connections(ranks, told),
        "logs": [answer.text + answer.errors for answer in answers],
    }
    curves = []
    for operation in group.operations:
        times = {int(size): values for size, values in said["times_s"].get(operation, {}).items()}
        left_out = [size for skipped, size in said["skipped"] if skipped == operation]
        curves.append({**shared, **curve(operation, times), "times_s": times, "skipped_bytes": left_out})
    return curves


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTurns:
    """What two groups measured by turns.

    Attributes:
        curves: Of the first group, measured alone before, as `measure_group` gives them.
        times_s: ``times_s[arm][operation][size][session][pair]``: seconds of the rounds of one turn.
        skipped: Operation and size of what would have taken too long.
        connections: ``connections[arm][host]``: pairs of addresses that the ranks there were connected over.
        failed: Why the second group could not be formed or did not last, in the words of its rank; the rest is empty then.
    """

    curves: list[dict[str, Any]] = field(default_factory=list)
    times_s: tuple[dict[str, dict[int, list[list[list[float]]]]], ...] = ({}, {})
    skipped: tuple[tuple[str, int], ...] = ()
    connections: tuple[dict[str, list[list[str]]], ...] = ({}, {})
    failed: str = ""


def measure_by_turns(
    reach: Reach, hosts: dict[str, Host], group: Group, effort: Effort, manners: tuple[Manner, Manner]
) -> ByTurns:
    """One group twice, both alive at the same time, measured by turns: one start of torch per rank and manner.

    Raises:
        ProbeError: A rank of the first failed; the message is its own.
    """
    arms = [(manner, _ranks(hosts, group, effort, manner)) for manner in manners]
    ranks = _started(reach, arms, {"port": _port(), "sessions": SESSIONS, "pairs": PAIRS})
    # Alone as above; by turns four shares of both arms at most and one size beyond that is begun, and as much again for handing over.
    patience_s = _START_S + 22 * effort.seconds_per_size * len(effort.sizes) * len(group.operations)
    try:
        answers = _answers(ranks, patience_s, group.name)
    except _SecondArmError as error:
        return ByTurns(failed=f"{error.where}: {error.what}")
    told = [answer_of(rank.host, answer, f"rank of {group.name}") for rank, answer in zip(ranks, answers, strict=True)]
    many = len(group.hosts)
    leaders = (told[0], told[many])
    return ByTurns(
        curves=_curves(group, ranks[:many], answers[:many], told[:many]),
        times_s=tuple(
            {
                operation: {int(size): sessions for size, sessions in by_size.items()}
                for operation, by_size in said["turns_s"].items()
            }
            for said in leaders
        ),
        skipped=tuple((operation, size) for operation, size in leaders[0]["turns_skipped"]),
        connections=(_connections(ranks[:many], told[:many]), _connections(ranks[many:], told[many:])),
    )
