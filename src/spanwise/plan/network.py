"""Network settings out of what a probe saw: as few as possible, each with its reason and source.

NCCL finds its way by itself in most clusters, and a setting that was right on one cluster breaks the next. So a variable is set only
where the
hosts show that the default would go wrong. Those that NVIDIA documents for debugging, and says not to leave set, are never written; whoever
wants to know what one does on a cluster measures it: `spanwise probe --try NAME=VALUE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanwise.plan.types import Setting

_NCCL = "NVIDIA, NCCL environment variables: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"
_TORCH = (
    "PyTorch, torch.distributed: https://docs.pytorch.org/docs/stable/distributed.html (common environment variables)"
)
# NCCL finds the right RoCE v2 address by itself from this version on (NCCL_IB_GID_INDEX in its documentation: -1 since 2.21).
_OWN_GID_SINCE = (2, 21)

# "Debugging" and "use with caution" in NVIDIA's documentation, or known to hide a fault that should be mended.
NEVER = frozenset(
    {
        "NCCL_ALGO",
        "NCCL_PROTO",
        "NCCL_NTHREADS",
        "NCCL_BUFFSIZE",
        "NCCL_MIN_NCHANNELS",
        "NCCL_MAX_NCHANNELS",
        "NCCL_P2P_DISABLE",
        "NCCL_SHM_DISABLE",
        "NCCL_IB_DISABLE",
        "NCCL_IGNORE_CPU_AFFINITY",
        "NCCL_LAUNCH_MODE",
        "NCCL_CROSS_NIC",
        "NCCL_NET_GDR_LEVEL",
    }
)


def network_settings(document: dict[str, Any]) -> tuple[Setting, ...]:
    """Settings for every rank of a gang over the hosts of a probe's document (spanwise.facts/1); none where it has no hosts.

    Args:
        document: What `spanwise probe -o` wrote. Parts that are missing or of another form give no setting.
    """
    hosts = [
        host for host in _list(document.get("hosts")) if isinstance(host, dict) and isinstance(host.get("facts"), dict)
    ]
    if len(hosts) < 2:
        return ()
    gpus = all(_list(_dict(host["facts"].get("gpus")).get("cards")) for host in hosts)
    return (*_interface(hosts, gpus=gpus), *(_rdma(hosts) if gpus else ()))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _interface(hosts: list[dict[str, Any]], *, gpus: bool) -> Iterator[Setting]:
    """The common interface by name, only where a host has another one that could be taken."""
    names = {name for host in hosts if isinstance(name := host.get("interface"), str)}
    name = names.pop() if len(names) == 1 else None
    if not isinstance(name, str) or not name:
        return
    others = sorted(
        {
            str(entry.get("name"))
            for host in hosts
            for entry in map(_dict, _list(host["facts"].get("interfaces")))
            if entry.get("address") and entry.get("up") and not entry.get("loopback") and entry.get("name") != name
        }
    )
    if not others:
        return
    reason = f"{name} joins the hosts as probed; they have {', '.join(others[:4])} too"
    yield Setting(name="GLOO_SOCKET_IFNAME", value=name, reason=reason, source=_TORCH)
    if gpus:
        exact = f"{reason}; the leading = reads 'exactly this name'"
        yield Setting(name="NCCL_SOCKET_IFNAME", value=f"={name}", reason=exact, source=_NCCL)


def _rdma(hosts: list[dict[str, Any]]) -> Iterator[Setting]:
    """The devices that work, only where some do not; the address index, only where NCCL would not find it."""
    usable: list[set[str]] = []
    broken: set[str] = set()
    indices: set[int] = set()
    roce = False
    for host in hosts:
        mine = set()
        for device in map(_dict, _list(host["facts"].get("rdma"))):
            ports = [_dict(port) for port in _list(device.get("ports"))]
            active = [port for port in ports if port.get("state") == "ACTIVE"]
            if not active:
                broken.add(str(device.get("name")))
                continue
            mine.add(str(device.get("name")))
            for port in active:
                if port.get("link_layer") == "Ethernet":
                    roce = True
                    indices |= {
                        gid["index"]
                        for gid in map(_dict, _list(port.get("gids")))
                        if gid.get("type") == "RoCE v2" and _mapped(gid)
                    }
        usable.append(mine)
    common = set.intersection(*usable) if usable else set()
    if common and broken - common:
        listed = ",".join(sorted(common))
        yield Setting(
            name="NCCL_IB_HCA",
            value=f"={listed}",
            reason=f"{', '.join(sorted(broken))} is not active on some host; NCCL would try it",
            source=_NCCL,
        )
    if roce and len(indices) == 1 and (version := _nccl(hosts)) is not None and version < _OWN_GID_SINCE:
        yield Setting(
            name="NCCL_IB_GID_INDEX",
            value=str(indices.pop()),
            reason=f"the RoCE v2 address of every port; NCCL {'.'.join(map(str, version))} takes index 0 by itself, "
            f"NCCL 2.21 and later find it",
            source=_NCCL,
        )


def _mapped(gid: dict[str, Any]) -> bool:
    """An address that maps an IPv4 one: routable, and the one that NCCL's own search takes."""
    return str(gid.get("gid", "")).startswith("0000:0000:0000:0000:0000:ffff:")


def _nccl(hosts: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The oldest NCCL among the hosts; None where one does not say."""
    found = []
    for host in hosts:
        versions = _dict(host["facts"].get("versions"))
        text = versions.get("nvidia-nccl-cu13") or versions.get("nvidia-nccl-cu12")
        words = str(text).split(".")
        if len(words) < 2 or not (words[0].isdigit() and words[1].isdigit()):
            return None
        found.append((int(words[0]), int(words[1])))
    return min(found)
