"""One rank of a measured group. Runs on hosts as `python -c SOURCE JSON`; needs torch there, nothing of spanwise.

``{"rank", "world", "address", "port", "interface", "backend", "sizes", "seconds_per_size", "operations", "device"}``; rank 0 writes
JSON: per operation and size the seconds of every round. ``all_reduce`` is what tensor parallelism does in every layer; ``send_recv``
goes to the last rank and back, halved: what pipeline parallelism does between stages. Sizes that would take longer than their time are
named, not measured.

With ``{"arm", "sessions", "pairs"}`` it is a rank of one of two groups (arm 0, arm 1) that are alive at the same time; they speak
through the store of arm 0's rank 0. Arm 0 first measures as above while arm 1 waits; then both measure by turns, and rank 0 also
writes, per operation and size, a list per session of a list per pair of turns.
"""

import datetime
import json
import os
import socket
import struct
import sys
import time

_WARM = 2
_MOST = 400
# A rank that waits for the other arm's turn: longer than a collective of that arm may hang, so that the one that hangs says so. The first
# turn comes after all that arm 0 measures alone.
_TURN_S = 90
_FIRST_TURN_S = 600


def _clock(device):
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


# So many operations in one graph: launching a graph and waiting for it takes some 15 us, which no engine pays per all-reduce.
_IN_A_GRAPH = 20


def _graphed(step, device):
    """``step`` several times as one CUDA graph, as the engine's decode runs it, and how often; itself once without GPU or capture."""
    if device != "cuda":
        return step, 1
    import torch

    try:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            step()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(_IN_A_GRAPH):
                step()
        return graph.replay, _IN_A_GRAPH
    except RuntimeError:
        return step, 1


def connections():
    """Pairs of addresses that this process is connected over: gloo's transport is what these say. IPv4 and mapped addresses."""
    own = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue
        if target.startswith("socket:["):
            own.add(target[8:-1])
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        for row in rows:
            if row[9] in own and row[3] == "01":
                # The last four bytes, each word in the machine's order: an IPv4 address, also of one mapped into IPv6.
                ends = [socket.inet_ntoa(struct.pack("=I", int(row[i].split(":")[0][-8:], 16))) for i in (1, 2)]
                found.add(tuple(ends))
    return sorted(found)


def _step(distributed, asked, values, group):
    """One round of an operation, as a function."""
    rank, last = asked["rank"], asked["world"] - 1

    def step():
        if asked["operation"] == "all_reduce":
            distributed.all_reduce(values, group=group)
        elif rank == 0:
            distributed.send(values, last, group=group)
            distributed.recv(values, last, group=group)
        elif rank == last:
            distributed.recv(values, 0, group=group)
            distributed.send(values, 0, group=group)

    return step


def _timed(run, inside, rounds, values, asked):
    """Seconds of every round; half of them where a round goes there and back."""
    times = []
    for _ in range(rounds):
        started = _clock(asked["device"])
        run()
        times.append((_clock(asked["device"]) - started) / inside / (2 if asked["operation"] == "send_recv" else 1))
        values.fill_(1.0)
    return [round(value, 9) for value in times]


def _values(size, asked):
    import torch

    return torch.ones(max(1, size // 4), dtype=torch.float32, device=asked["device"])


def alone(asked, distributed):
    """Every size of every operation, one after the other."""
    import torch

    device = asked["device"]
    found, skipped, graphed = {}, [], False
    for operation in asked["operations"]:
        expected_s = 0.0
        for size in asked["sizes"]:
            # Seconds grow at most with the bytes, fourfold here: a size of which one round overruns its time is left out, on all ranks
            # alike.
            if expected_s * 4 > asked["seconds_per_size"]:
                skipped.append([operation, size])
                continue
            values, this = _values(size, asked), dict(asked, operation=operation)
            run, inside = _graphed(_step(distributed, this, values, None), device)
            graphed = graphed or inside > 1
            warm = 1 if expected_s > 0.05 else _WARM
            started = _clock(device)
            for _ in range(warm):
                run()
            warm_s = (_clock(device) - started) / warm
            # Rank 0's clock decides for all how often.
            rounds = torch.tensor(
                [max(3, min(_MOST, int(asked["seconds_per_size"] / max(warm_s, 1e-9))))], device=device
            )
            distributed.broadcast(rounds, 0)
            times = _timed(run, inside, int(rounds.item()), values, this)
            found.setdefault(operation, {})[size] = times
            mine = torch.tensor([sorted(times)[len(times) // 2]], dtype=torch.float64, device=device)
            distributed.broadcast(mine, 0)
            expected_s = mine.item()
    return {"times_s": found, "skipped": skipped, "cuda_graphs": graphed}


class Turns:
    """Whose turn it is. Both arms count alike, so that each knows its turns without being told."""

    def __init__(self, store, asked, distributed):
        self.store, self.asked, self.distributed = store, asked, distributed
        self.number = 0

    def take(self, arm, work):
        """Do ``work`` if it is this arm's, after the turn before and with all ranks at once; its result, else None."""
        result = None
        if arm == self.asked["arm"]:
            if self.number:
                patience_s = _TURN_S if self.number > 1 else _FIRST_TURN_S
                self.store.wait(["turn/%d" % self.number], datetime.timedelta(seconds=patience_s))
            self.distributed.barrier()
            result = work()
            _clock(self.asked["device"])
            self.distributed.barrier()
            if self.asked["rank"] == 0:
                self.store.set("turn/%d" % (self.number + 1), "1")
        self.number += 1
        return result

    def longest(self, name, mine):
        """The longer of what both arms took: what both plan with."""
        if self.asked["rank"] == 0:
            self.store.set("%s/%d" % (name, self.asked["arm"]), repr(mine))
        self.store.wait(["%s/%d" % (name, arm) for arm in (0, 1)], datetime.timedelta(seconds=_TURN_S))
        return max(float(self.store.get("%s/%d" % (name, arm))) for arm in (0, 1))


def by_turns(asked, distributed, store):
    """Every size of every operation, in several sessions; in each the connections of both arms are made anew, one after the other."""
    turns, device = Turns(store, asked, distributed), asked["device"]
    rounds, skipped, found, kept, graphed = {}, [], {}, [], False
    for session in range(asked["sessions"]):
        group = None
        for arm in (0, 1):
            group = turns.take(arm, distributed.new_group) or group
        for operation in asked["operations"]:
            this = dict(asked, operation=operation)
            for index, size in enumerate(asked["sizes"]):
                if [operation, size] in skipped:
                    continue
                values = _values(size, asked)
                step = _step(distributed, this, values, group)
                made, warm_s = None, 0.0

                def warm(step=step):
                    run, inside = _graphed(step, device)
                    run()
                    started = _clock(device)
                    run()
                    return run, inside, _clock(device) - started

                for arm in (0, 1):
                    made = turns.take(arm, warm) or made
                run, inside, warm_s = made
                graphed = graphed or inside > 1
                kept.append(run)  # see the guard in main: graphs end with the process
                if session == 0:
                    # Both arms do as many rounds, so that the slower one fits into its time.
                    turn_s = turns.longest("took/%s/%d" % (operation, size), warm_s)
                    number = 2 * asked["sessions"] * asked["pairs"]
                    share_s = 2 * asked["seconds_per_size"]
                    if number * turn_s > 4 * share_s:
                        skipped += [[operation, larger] for larger in asked["sizes"][index:]]
                        continue
                    rounds[(operation, size)] = max(1, min(_MOST // 20, int(share_s / number / max(turn_s, 1e-9))))
                    if number * turn_s > share_s:
                        skipped += [[operation, larger] for larger in asked["sizes"][index + 1 :]]
                often = rounds[(operation, size)]

                def block(run=run, inside=inside, often=often, values=values, this=this):
                    return _timed(run, inside, often, values, this)

                sessions = found.setdefault(operation, {}).setdefault(size, [])
                sessions.append([])
                for pair in range(asked["pairs"]):
                    first = (session + pair) % 2  # turned round every time: a drift takes and gives alike
                    for arm in (first, 1 - first):
                        times = turns.take(arm, block)
                        if times is not None:
                            sessions[-1].append(times)
    return {"turns_s": found, "turns_skipped": skipped, "cuda_graphs": graphed}


def main():
    """Join the group, measure, leave."""
    asked = json.loads(sys.argv[1])
    if asked.get("interface") and asked["backend"] == "gloo":
        os.environ["GLOO_SOCKET_IFNAME"] = asked["interface"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    asked.setdefault("device", "cpu")
    arm = asked.get("arm")
    if asked["device"] == "cuda":
        torch.cuda.set_device(asked.get("local_rank", 0))
    patience = datetime.timedelta(seconds=asked.get("join_s", 30))
    keeps = asked["rank"] == 0 and not arm
    store = distributed.TCPStore(asked["address"], asked["port"], None, keeps, timeout=patience, wait_for_workers=False)
    distributed.init_process_group(
        asked["backend"],
        store=distributed.PrefixStore("arm%d" % (arm or 0), store),
        rank=asked["rank"],
        world_size=asked["world"],
        timeout=patience,
    )
    measured = {} if arm else alone(asked, distributed)
    if arm is not None:
        measured.update(by_turns(asked, distributed, store))
    distributed.barrier()
    said = {
        "rank": asked["rank"],
        "connections": connections(),
        "backend": asked["backend"],
        "cuda_graphs": measured.pop("cuda_graphs"),
        "torch": torch.__version__,
    }
    if asked["rank"] == 0:
        said.update(measured)
    print(json.dumps(said), flush=True)
    if arm is not None:
        # The store of arm 0 must outlive the last word of arm 1's ranks.
        store.add("done", 1)
        until = time.monotonic() + 10
        while keeps and store.add("done", 0) < 2 * asked["world"] and time.monotonic() < until:
            time.sleep(0.01)
    if asked["device"] == "cuda":
        # Guard: with captured graphs alive, destroy_process_group waits for ever (seen with torch 2.11, NCCL 2.28). All has been said.
        torch.cuda.synchronize()
        os._exit(0)
    if arm is not None:
        os._exit(0)  # the groups of all sessions are still there: leaving needs no farewell, and no patience
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
