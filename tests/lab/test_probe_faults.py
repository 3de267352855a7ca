"""Faults that cost users days, planted one by one into real emulated hosts: each is found and named, and a healthy lab has no finding."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spanwise.journey.probe import Request, probe
from spanwise.journey.reach import LabReach
from spanwise.lab import enter, links
from spanwise.lab.spec import LabState
from spanwise.lab.wiring import port_of
from spanwise.probe.checks_host import check_host
from spanwise.probe.checks_pairs import check_between, check_pairs
from spanwise.probe.effort import Effort
from spanwise.probe.finding import Finding
from spanwise.probe.report import Expected
from spanwise.probe.run import ask_hosts, measure_links, preflight
from tests.lab.bare import bare_lab

pytestmark = pytest.mark.lab

RATE = 100e6


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabState]:
    with bare_lab(tmp_path_factory.mktemp("state"), hosts=3, rate_bit_per_s=RATE) as state:
        if state.isolation == "loopback":
            pytest.skip("loopback hosts share the machine's network: nothing can be planted there")
        yield state


def on(lab: LabState, host: str, command: str) -> str:
    """Run a shell line on a host; it must succeed."""
    process = enter.start(
        lab, lab.host(host), ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, f"{command}: {out}"
    return out


def findings(reach: LabReach, expected: Expected, measure: Effort | None = None) -> list[Finding]:
    """What a preflight says; with ``measure`` the links too."""
    probed, wire = preflight(reach, expected, lambda _text: None)
    if wire is not None:
        try:
            if measure is not None:
                measure_links(probed, wire, measure, lambda _text: None)
            wire.close(probed)
        finally:
            wire.abandon()
    found = [item for report in probed.hosts if report.facts is not None for item in check_host(report, expected)]
    return [*found, *check_between(probed.hosts, expected), *check_pairs(probed, expected)]


@dataclass(frozen=True)
class Fault:
    """One fault: how to plant it, how to undo it, what must be said of which host."""

    code: str
    host: str
    plant: str = ""
    undo: str = ""
    on: str = "host-2"
    interface: str = ""
    expected: Expected = field(default_factory=lambda: Expected(interface="eth0"))
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    by: Callable[[LabState], contextlib.AbstractContextManager[None]] | None = None
    measure: bool = False
    also: tuple[str, ...] = ()  # what follows from it, and may be said too


_HOSTS = "/dev/shm/spanwise/hosts"
_SAVED = f"cp {_HOSTS} {_HOSTS}.saved && "
_RESTORE = f"cat {_HOSTS}.saved > /etc/hosts"


@contextlib.contextmanager
def narrow_path(lab: LabState) -> Iterator[None]:
    """A hop between the hosts that carries smaller packets than they do."""
    bridge = links._bridge_process(lab)
    links._network(lab, bridge, "ip", "link", "set", "dev", port_of("host-2"), "mtu", "1300")
    try:
        yield
    finally:
        links._network(lab, bridge, "ip", "link", "set", "dev", port_of("host-2"), "mtu", "1500")


@contextlib.contextmanager
def slow_link(lab: LabState) -> Iterator[None]:
    """One host's link at a tenth of the others' rate, both ways."""
    bridge = links._bridge_process(lab)
    ends = [(bridge, port_of("host-3")), (lab.host("host-3").init_pid, "eth0")]
    for words in ((links.shaping(RATE / 10)), (links.shaping(RATE))):
        for target, device in ends:
            links._network(lab, target, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *words)
        if words == links.shaping(RATE / 10):
            yield


@contextlib.contextmanager
def no_road(lab: LabState) -> Iterator[None]:
    """Two hosts that drop what they would send to each other."""
    ways = (("host-1", "10.77.0.2"), ("host-2", "10.77.0.1"))
    for host, address in ways:
        on(lab, host, f"ip route add blackhole {address}/32")
    try:
        yield
    finally:
        for host, address in ways:
            on(lab, host, f"ip route del blackhole {address}/32")


FAULTS = [
    Fault(
        "hostname_loopback", "host-2", _SAVED + f"sed 's/^10.77.0.2 /127.0.1.1 /' {_HOSTS}.saved > /etc/hosts", _RESTORE
    ),
    Fault("hostname_unresolved", "host-2", _SAVED + f"sed '/host-2$/d' {_HOSTS}.saved > /etc/hosts", _RESTORE),
    Fault(
        "hostname_elsewhere",
        "host-2",
        _SAVED + f"sed 's/^10.77.0.2 /10.77.0.99 /' {_HOSTS}.saved > /etc/hosts",
        _RESTORE,
    ),
    Fault("hostname_repeated", "host-1, host-2", "hostname host-1", "hostname host-2", also=("hostname_elsewhere",)),
    Fault(
        "interface_missing",
        "host-2",
        "ip link set eth0 down && ip link set eth0 name ens9 && ip link set ens9 up && ip route replace default via 10.77.0.254",
        "ip link set ens9 down && ip link set ens9 name eth0 && ip link set eth0 up && ip route replace default via 10.77.0.254",
        interface="eth0",
    ),
    Fault(
        "interface_down",
        "host-2",
        "ip link set eth0 down",
        "ip link set eth0 up && ip route replace default via 10.77.0.254",
        interface="eth0",
        also=("unreachable",),
    ),
    Fault(
        "interface_without_address",
        "host-2",
        "ip address flush dev eth0",
        "ip address add 10.77.0.2/24 dev eth0 && ip route replace default via 10.77.0.254",
        interface="eth0",
        also=("unreachable", "hostname_elsewhere"),
    ),
    Fault(
        "own_address_other",
        "host-2",
        "ip link add other0 type veth peer name other1 && ip address add 10.99.0.1/24 dev other0"
        " && ip link set other0 up && ip link set other1 up && ip route replace default via 10.99.0.2",
        "ip link del other0 && ip route replace default via 10.77.0.254",
        interface="other0",
        prefix=("env", "-u", "VLLM_HOST_IP"),
    ),
    Fault(
        "mtu_differs",
        "host-2",
        "ip link set eth0 mtu 1400",
        "ip link set eth0 mtu 1500",
        interface="eth0",
        also=("path_mtu",),
    ),
    Fault("path_mtu", "host-1 -> host-2", by=narrow_path, interface="eth0", also=("path_mtu",)),
    Fault(
        "port_blocked",
        "host-1 -> host-2",
        "ip rule add ipproto tcp dport 10000-20000 prohibit",
        "ip rule del ipproto tcp dport 10000-20000 prohibit",
        on="host-1",
        interface="eth0",
        also=("port_blocked",),
    ),
    Fault(
        "one_way",
        "host-2 -> host-3",
        "ip route add blackhole 10.77.0.3/32",
        "ip route del blackhole 10.77.0.3/32",
        interface="eth0",
    ),
    Fault("unreachable", "host-1 <-> host-2", by=no_road, interface="eth0"),
    Fault("shm_small", "host-2", "mount -o remount,size=64m /dev/shm", "mount -o remount,size=2g /dev/shm"),
    Fault(
        "disk_full",
        "host-2",
        "mount -o remount,size=64m /dev/shm/spanwise",
        "mount -o remount,size=2g /dev/shm/spanwise",
    ),
    Fault("open_files_low", "host-2", prefix=("prlimit", "--nofile=512:512")),
    Fault("clock_skewed", "host-2", environment={"PYTHONPATH": "clock"}),
    Fault("version_differs", "host-2", environment={"PYTHONPATH": "version"}),
    Fault("environment_differs", "host-2", environment={"NCCL_IB_DISABLE": "1"}),
    Fault("proxy_set", "host-2", environment={"http_proxy": "http://user:secret-word@proxy:3128"}),
    Fault("host_silent", "host-2", prefix=("false",)),
    Fault("gpu_missing", "host-2", expected=Expected(interface="eth0", gpus_per_host=1), also=("gpu_missing",)),
    Fault("rdma_missing", "host-2", expected=Expected(interface="eth0", rdma=True), also=("rdma_missing",)),
    Fault("host_not_in_cluster", "host-9", expected=Expected(interface="eth0", missing=("host-9",))),
    Fault(
        "link_slow",
        "host-1 -> host-3",
        by=slow_link,
        expected=Expected(interface="eth0", fabric_bytes_per_s=RATE / 8),
        measure=True,
        also=("link_slow",),
    ),
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Directories for a host's PYTHONPATH: a clock that is seven seconds ahead, and another Ray's metadata."""
    clock, version = tmp_path_factory.mktemp("clock"), tmp_path_factory.mktemp("version")
    (clock / "sitecustomize.py").write_text("import time\n_now = time.time\ntime.time = lambda: _now() + 7\n")
    metadata = version / "ray-2.9.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.9.0\n")
    return {"clock": str(clock), "version": str(version)}


QUICK = Effort(ping_s=0.1, stream_s=0.5, most_bytes=16 << 20)


def test_a_healthy_lab_has_no_finding(lab: LabState) -> None:
    assert findings(LabReach(lab), Expected(interface="eth0", fabric_bytes_per_s=RATE / 8), QUICK) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_a_planted_fault_is_found_and_named(lab: LabState, planted: dict[str, str], fault: Fault) -> None:
    environment = {name: planted.get(value, value) for name, value in fault.environment.items()}
    reach = LabReach(lab, environment={fault.on: environment}, prefix={fault.on: list(fault.prefix)})
    with fault.by(lab) if fault.by else contextlib.nullcontext():
        if fault.plant:
            on(lab, fault.on, fault.plant)
        try:
            found = findings(reach, fault.expected, QUICK if fault.measure else None)
        finally:
            if fault.undo:
                on(lab, fault.on, fault.undo)
    named = [item for item in found if item.code == fault.code and item.host == fault.host]
    assert len(named) == 1, found
    assert named[0].interface == fault.interface
    assert named[0].message and named[0].remedy
    # Nothing else is blamed, but what follows from it.
    assert {item.code for item in found} <= {fault.code, *fault.also}, found
    assert "secret-word" not in str(found)


def test_the_lab_is_healthy_again(lab: LabState) -> None:
    """Every fault was undone: what came before was found because it was planted."""
    assert findings(LabReach(lab), Expected(interface="eth0")) == []


@pytest.mark.parametrize("megabit", [5, 10, 20, 50, 100, 200])
def test_the_bandwidth_found_is_the_rate_that_was_set(lab: LabState, megabit: int) -> None:
    from spanwise.lab.rate import change_rate

    change_rate(lab, megabit * 1e6)
    try:
        probed, wire = preflight(LabReach(lab), Expected(interface="eth0"), lambda _text: None)
        assert wire is not None
        try:
            pair = wire.measure("host-1", "host-2", Effort(ping_s=0.1, stream_s=1.5))
            wire.close(probed)
        finally:
            wire.abandon()
    finally:
        change_rate(lab, RATE)
    for rate in (pair["there_bytes_per_s"], pair["back_bytes_per_s"]):
        print(f"set {megabit} Mbit/s, found {rate * 8e-6:.2f}")
        assert rate * 8e-6 == pytest.approx(megabit, rel=0.1)


def test_a_probe_leaves_nothing_on_the_hosts(lab: LabState) -> None:
    running = "ps -e -o comm= | grep -v -x -e ps -e sh -e grep -e sort | sort"
    before = on(lab, "host-2", running)
    ask_hosts(LabReach(lab))
    findings(LabReach(lab), Expected(interface="eth0"))
    assert on(lab, "host-2", running) == before


def test_a_facts_file_is_what_decide_reads(lab: LabState, tmp_path: Path) -> None:
    """The whole probe with real collectives, and its document read back as facts."""
    from spanwise.facts.book import book_from

    effort = Effort(ping_s=0.2, stream_s=0.6, sizes=(1 << 10, 1 << 14, 1 << 18, 1 << 20), seconds_per_size=0.5)
    document = probe(LabReach(lab), Request(effort=effort, fabric="lab-link"), lambda _text: None)
    assert document["findings"] == []
    link = book_from(document).fabric("lab-link")
    assert link.bandwidth.kind == "measured"
    assert link.bandwidth.value * 8 == pytest.approx(RATE, rel=0.1)
    assert link.hop.value > 0
    assert 0 < link.efficiency.value <= 1
    operations = {group["operation"] for group in document["groups"]}
    assert operations == {"all_reduce", "send_recv"}
    for group in document["groups"]:
        assert {pair[1] for pairs in group["transport"]["connections"].values() for pair in pairs} <= {
            "10.77.0.1",
            "10.77.0.2",
            "10.77.0.3",
        }


EVEN = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4096, "torch_dtype": "float32",
    "hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 12,
    "num_key_value_heads": 4, "vocab_size": 8192,
}  # fmt: skip


def test_measured_facts_change_a_verdict_that_the_catalogue_had_wrong(lab: LabState) -> None:
    """The intent says 10 Gbit/s, the cable carries 10 Mbit/s: spreading, right by the catalogue, is wrong by the probe."""
    from spanwise.decide import decide
    from spanwise.facts.architectures import model_facts
    from spanwise.facts.book import book_from
    from spanwise.intent.types import Intent
    from spanwise.lab.rate import change_rate

    asked = Intent.model_validate(
        {
            "model": "even",
            "dtype": "float32",
            "hardware": {"gpu": "lab-cpu", "gpus_per_node": 1, "nodes": 2, "fabric": "ethernet-10g"},
            "workload": {"input_tokens": 32, "output_tokens": 24, "concurrency": 1},
            "objectives": {"tpot_p95_ms": 75},
        }
    )
    model = model_facts(EVEN, name="even")
    believed = decide(asked, model)
    assert (believed.verdict, believed.justified) == ("multi_node", True)
    change_rate(lab, 10e6)
    try:
        effort = Effort(ping_s=0.2, stream_s=0.6, sizes=(1 << 10, 1 << 14, 1 << 18), seconds_per_size=0.4)
        document = probe(LabReach(lab), Request(effort=effort, fabric="ethernet-10g"), lambda _text: None)
    finally:
        change_rate(lab, RATE)
    assert {finding["code"] for finding in document["findings"]} == {"link_slow"}
    measured = decide(asked, model, book_from(document))
    assert measured.verdict == "one_gpu"
    assert not measured.justified
