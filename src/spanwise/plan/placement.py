"""Which rank runs on which host. Pure: sizes in, places out."""

from __future__ import annotations

from spanwise.errors import LayoutError


def place(
    *, tensor_parallel_size: int, pipeline_parallel_size: int, replicas: int, hosts: tuple[str, ...], gpus_per_host: int
) -> tuple[tuple[str, ...], ...]:
    """The host of every rank of every replica.

    A replica that fits one host gets one host. A larger one takes hosts of its own while there are any, its stages in
    the order of the hosts, and no stage straddles two hosts where one has room for it. Ranks are in vLLM's order:
    stage x tensor_parallel_size + tensor rank.

    Args:
        tensor_parallel_size: Ranks of one stage.
        pipeline_parallel_size: Stages of one replica.
        replicas: Replicas.
        hosts: Host names, in the order in which they are filled.
        gpus_per_host: GPUs of every host.

    Returns:
        One tuple per replica, one host name per rank.

    Raises:
        LayoutError: The hosts have no room for it.
    """
    free = dict.fromkeys(hosts, gpus_per_host)
    placed = []
    for replica in range(replicas):
        places = _replica(tensor_parallel_size, pipeline_parallel_size, free, gpus_per_host)
        if places is None:
            raise LayoutError(
                f"no room for replica {replica + 1} of {replicas}: tensor_parallel_size {tensor_parallel_size} x "
                f"pipeline_parallel_size {pipeline_parallel_size} on {len(hosts)} hosts of {gpus_per_host} GPUs, "
                f"{sum(free.values())} of them free",
                remedy="lower replicas, or choose a tensor_parallel_size that divides the GPUs of a host",
            )
        placed.append(places)
    return tuple(placed)


def _replica(tensor: int, stages: int, free: dict[str, int], gpus_per_host: int) -> tuple[str, ...] | None:
    """Place one replica and take its GPUs from ``free``; None where there is no room."""
    world = tensor * stages
    if world <= gpus_per_host:
        # First fit keeps small replicas together and leaves whole hosts to large ones.
        wanted = [(host, world) for host, count in free.items() if count >= world][:1]
    elif tensor <= gpus_per_host:
        wanted = _stages_on_hosts(tensor, stages, free, gpus_per_host)
    else:
        wanted = _across_hosts(world, free, gpus_per_host)
    if sum(count for _, count in wanted) < world:
        return None
    for host, count in wanted:
        free[host] -= count
    return tuple(host for host, count in wanted for _ in range(count))


def _stages_on_hosts(tensor: int, stages: int, free: dict[str, int], gpus_per_host: int) -> list[tuple[str, int]]:
    """Whole stages per host: on empty hosts where enough are left, else wherever a stage fits."""
    empty = [host for host, count in free.items() if count == gpus_per_host]
    enough = len(empty) * (gpus_per_host // tensor) >= stages
    wanted = []
    left = stages
    for host in empty if enough else free:
        here = min(left, free[host] // tensor)
        if here:
            wanted.append((host, here * tensor))
            left -= here
    return wanted


def _across_hosts(world: int, free: dict[str, int], gpus_per_host: int) -> list[tuple[str, int]]:
    """Stages larger than a host: ranks fill empty hosts one after the other."""
    wanted = []
    left = world
    for host, count in free.items():
        if count == gpus_per_host and left:
            wanted.append((host, min(left, count)))
            left -= min(left, count)
    return wanted
