"""One rank of a measured group. Runs on hosts as `python -c SOURCE JSON`; needs torch there, nothing of spanwise.

``{"rank", "world", "address", "port", "interface", "backend", "sizes", "seconds_per_size", "operations", "device"}``; rank 0 writes
JSON: per
operation and size the seconds of every round. ``all_reduce`` is what tensor parallelism does in every layer; ``send_recv`` goes to the
last rank
and back, halved: what pipeline parallelism does between stages. Sizes that would take longer than their time are named, not measured.
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


def main():
    """Join the group, measure, leave."""
    asked = json.loads(sys.argv[1])
    if asked.get("interface") and asked["backend"] == "gloo":
        os.environ["GLOO_SOCKET_IFNAME"] = asked["interface"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    rank, world, device = asked["rank"], asked["world"], asked.get("device", "cpu")
    if device == "cuda":
        torch.cuda.set_device(asked.get("local_rank", 0))
    distributed.init_process_group(
        asked["backend"],
        init_method="tcp://%s:%d" % (asked["address"], asked["port"]),
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=asked.get("join_s", 30)),
    )
    found, skipped, graphed = {}, [], False
    for operation in asked["operations"]:
        expected_s = 0.0
        for size in asked["sizes"]:
            # Seconds grow at most with the bytes, fourfold here: a size of which one round overruns its time is left out, on all ranks
            # alike.
            if expected_s * 4 > asked["seconds_per_size"]:
                skipped.append([operation, size])
                continue
            values = torch.ones(max(1, size // 4), dtype=torch.float32, device=device)

            def step(values=values, operation=operation):
                if operation == "all_reduce":
                    distributed.all_reduce(values)
                elif rank == 0:
                    distributed.send(values, world - 1)
                    distributed.recv(values, world - 1)
                elif rank == world - 1:
                    distributed.recv(values, 0)
                    distributed.send(values, 0)

            run, inside = _graphed(step, device)
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
            times = []
            for _ in range(int(rounds.item())):
                started = _clock(device)
                run()
                times.append((_clock(device) - started) / inside)
                values.fill_(1.0)
            if operation == "send_recv":
                times = [value / 2 for value in times]
            found.setdefault(operation, {})[size] = [round(value, 9) for value in times]
            mine = torch.tensor([sorted(times)[len(times) // 2]], dtype=torch.float64, device=device)
            distributed.broadcast(mine, 0)
            expected_s = mine.item()
    distributed.barrier()
    said = {
        "rank": rank,
        "connections": connections(),
        "backend": asked["backend"],
        "cuda_graphs": graphed,
        "torch": torch.__version__,
    }
    if rank == 0:
        said.update(times_s=found, skipped=skipped)
    print(json.dumps(said), flush=True)
    if device == "cuda":
        # Guard: with captured graphs alive, destroy_process_group waits for ever (seen with torch 2.11, NCCL 2.28). All has been said.
        torch.cuda.synchronize()
        os._exit(0)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
