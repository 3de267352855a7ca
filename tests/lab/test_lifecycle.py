"""A lab comes up, is what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from spanwise.lab import isolation
from tests.commands import CommandLine
from tests.leftovers import left, snapshot

pytestmark = pytest.mark.lab

# The promise for a lab on two cores is 30 s; a hang limit, not a measurement.
UP_HANG_S = 90


def test_up_status_exec_down_leaves_nothing(spanwise: CommandLine) -> None:
    before = snapshot()
    up = spanwise(
        "lab",
        "up",
        "--hosts",
        "3",
        "--gpus",
        "2",
        "--link",
        "ethernet-10g",
        "--scale",
        "100",
        "--domains",
        "3",
        "--json",
        timeout_s=UP_HANG_S,
    )
    assert up.code == 0, up.err
    state = up.document
    assert [host["name"] for host in state["hosts"]] == ["host-1", "host-2", "host-3"]
    assert [host["domain"] for host in state["hosts"]] == ["domain-1", "domain-2", "domain-3"]
    assert state["spec"]["rate_bit_per_s"] == 1e8
    assert state["endpoint"].startswith("http://127.0.0.1:")

    # Own name, address, /dev/shm, processes and hosts file.
    assert spanwise("lab", "exec", "host-2", "hostname").out.strip() == "host-2"
    assert "10.77.0.2/24" in spanwise("lab", "exec", "host-2", "ip", "-br", "address", "show", "eth0").out
    spanwise("lab", "exec", "host-2", "touch", "/dev/shm/only-here")
    assert "only-here" in spanwise("lab", "exec", "host-2", "ls", "/dev/shm").out
    assert "only-here" not in spanwise("lab", "exec", "host-1", "ls", "/dev/shm").out
    assert "only-here" not in os.listdir("/dev/shm")
    resolved = spanwise("lab", "exec", "host-3", "getent", "hosts", "host-3").out
    assert resolved.startswith("10.77.0.3"), "a host name that resolves to loopback breaks gloo"
    raylets = spanwise("lab", "exec", "host-1", "sh", "-c", "ps -e -o comm= | grep -c raylet").out.strip()
    assert raylets == "1", "a host must see its own raylet only"

    # Real Ray, with logical GPUs and labels per host.
    nodes = spanwise(
        "lab", "exec", "host-1", "python", "-c",
        "import ray,json;ray.init(address='auto',logging_level='ERROR');print(json.dumps([[n['Labels'].get('spanwise.io/host'),"
        "n['Labels'].get('spanwise.io/domain'),n['Resources'].get('GPU')] for n in ray.nodes()]))",
    )  # fmt: skip
    assert sorted(json.loads(nodes.out.splitlines()[-1])) == [[f"host-{i}", f"domain-{i}", 2.0] for i in (1, 2, 3)], (
        nodes.err
    )

    # The exit status of a command is ours; an unknown host is named.
    assert spanwise("lab", "exec", "host-1", "sh", "-c", "exit 7").code == 7
    unknown = spanwise("lab", "exec", "host-9", "true")
    assert unknown.code == 2
    assert "host-1, host-2, host-3" in unknown.err

    assert spanwise("lab", "status", "--json").document["up"] is True
    # A second up says so and touches nothing.
    second = spanwise("lab", "up")
    assert second.code == 2
    assert "already up" in second.err
    assert spanwise("lab", "status").code == 0
    # Nothing is served on it, and it is somebody's own: it stays, and that is said.
    stopped = spanwise("down")
    assert stopped.code == 0
    assert "nothing ran" in stopped.err
    assert "still up" in stopped.err
    assert "spanwise lab down" in stopped.err
    assert spanwise("lab", "status").code == 0

    assert spanwise("lab", "down").code == 0
    assert left(before) == {}
    assert not spanwise.state_dir.exists()
    assert spanwise("lab", "status").code == 1
    assert spanwise("lab", "down").code == 0, "taking down nothing is not an error"


def test_link_rate_is_the_one_asked_for(spanwise: CommandLine) -> None:
    assert spanwise("lab", "up", "--rate", "80mbit", timeout_s=UP_HANG_S).code == 0
    server = spanwise.popen("lab", "exec", "host-2", "python", "-c", _SINK)
    assert server.stdout is not None
    assert server.stdout.readline().strip() == "ready"
    sent = spanwise("lab", "exec", "host-1", "python", "-c", _SOURCE)
    server.communicate(timeout=30)
    bits_per_s = float(sent.out)
    print(f"{bits_per_s / 1e6:.1f} Mbit/s")
    # Wide on purpose: this proves that the link is shaped to about this rate; its precision is measured by `probe`.
    assert 0.7 * 80e6 < bits_per_s < 1.1 * 80e6, f"{bits_per_s / 1e6:.1f} Mbit/s"
    status = spanwise("lab", "status", "--json").document
    assert status["link_bytes"]["host-1"]["sent"] > 20_000_000


def test_small_messages_are_shaped_too_and_the_rate_can_change_while_the_lab_runs(spanwise: CommandLine) -> None:
    assert spanwise("lab", "up", "--rate", "100mbit", timeout_s=UP_HANG_S).code == 0
    fast = _message_s(spanwise)
    changed = spanwise("lab", "rate", "10mbit", "--json")
    assert changed.code == 0, changed.err
    assert changed.document["spec"]["rate_bit_per_s"] == 10e6
    assert spanwise("lab", "status", "--json").document["spec"]["rate_bit_per_s"] == 10e6
    slow = _message_s(spanwise)
    # 50 kB after a pause: 40 ms at 10 Mbit/s, 4 ms at 100. A bucket that fills during the pause would let them pass at once.
    assert slow > 0.035, slow
    assert 0.0035 < fast < slow / 2, fast
    assert spanwise("lab", "rate", "unlimited").code == 0
    assert _message_s(spanwise) < fast
    refused = spanwise("lab", "rate", "quick")
    assert refused.code == 2
    assert "100mbit" in refused.err


def _message_s(spanwise: CommandLine) -> float:
    """Seconds that a message of 50 kB takes on a link that was idle, the least of several."""
    server = spanwise.popen("lab", "exec", "host-2", "python", "-c", _ANSWERER)
    assert server.stdout is not None
    assert server.stdout.readline().strip() == "ready"
    sent = spanwise("lab", "exec", "host-1", "python", "-c", _ASKER)
    server.communicate(timeout=30)
    return float(sent.out)


_ANSWERER = """
import socket
s = socket.create_server(("10.77.0.2", 5002)); print("ready", flush=True)
c, _ = s.accept(); n = 0
while b := c.recv(1 << 20):
    n += len(b)
    if n % 50_000 == 0: c.sendall(b"x")
"""
_ASKER = """
import socket, time
c = socket.create_connection(("10.77.0.2", 5002)); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); least = 9.0
for _ in range(8):
    time.sleep(0.05); t = time.monotonic(); c.sendall(bytes(50_000)); c.recv(1); least = min(least, time.monotonic() - t)
print(least)
"""


_SINK = """
import socket
s = socket.create_server(("10.77.0.2", 5001)); print("ready", flush=True)
c, _ = s.accept(); n = 0
while b := c.recv(1 << 20): n += len(b)
c.sendall(b"done")
"""
_SOURCE = """
import socket, time
c = socket.create_connection(("10.77.0.2", 5001)); t = time.monotonic()
for _ in range(20): c.sendall(bytes(1_000_000))
c.shutdown(socket.SHUT_WR); c.recv(4)
print(20_000_000 * 8 / (time.monotonic() - t))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("moment", ["starting", "linked"])
def test_interrupted_up_leaves_nothing(spanwise: CommandLine, number: signal.Signals, code: int, moment: str) -> None:
    before = snapshot()
    process = spanwise.popen("lab", "up")
    if moment == "linked":
        assert process.stderr is not None
        assert "linked" in process.stderr.readline()
    else:
        time.sleep(0.7)
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code
    if code == 130:
        assert "interrupted; what this command started is cleaned up" in words
    assert left(before) == {}
    assert not (spanwise.state_dir / "lab.json").exists()


def test_state_of_a_killed_lab_is_noticed(spanwise: CommandLine) -> None:
    before = snapshot()
    state = spanwise("lab", "up", "--hosts", "1", "--json", timeout_s=UP_HANG_S).document
    os.kill(state["keeper_pid"], signal.SIGKILL)
    assert left(before) == {}, "with the keeper everything goes"
    assert spanwise("lab", "status").code == 1
    assert not (spanwise.state_dir / "lab.json").exists()


def test_port_in_use(spanwise: CommandLine) -> None:
    before = snapshot()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = spanwise("lab", "up", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 2
    assert "port" in outcome.err
    assert "choose another" in outcome.err
    assert left(before) == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--link", "tin-cans"], "ethernet-10g"),
        (["--rate", "fast"], "100mbit"),
        (["--rate", "1gbit", "--link", "ethernet-10g"], "give one of them"),
        (["--shm-size", "8M"], "192M"),
        (["--shm-size", "lots"], "512M"),
        (["--isolation", "docker"], "userns, root, loopback"),
        (["--domains", "5"], "at most one domain per host"),
        (["--hosts", "0"], "hosts"),
        (["--rate", "9" * 400 + "gbit"], "10tbit"),
        (["--shm-size", "9" * 400 + "T"], "512M"),
        (["--shm-size", "900T"], "memory"),
        (["--link", "ethernet-10g", "--scale", "inf"], "--scale"),
    ],
)
def test_bad_words(spanwise: CommandLine, words: list[str], says: str) -> None:
    outcome = spanwise("lab", "up", *words)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe\0", b"", b"[]"])
def test_damaged_state_file_is_named(spanwise: CommandLine, damage: bytes) -> None:
    spanwise.state_dir.mkdir()
    (spanwise.state_dir / "lab.json").write_bytes(damage)
    outcome = spanwise("lab", "status")
    assert outcome.code == 3
    assert "lab.json" in outcome.err
    (spanwise.state_dir / "lab.json").unlink()


def _unprivileged(*words: str) -> list[str]:
    """A command without any capability, in a user namespace that may not make others: neither userns nor root works there."""
    inner = (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "
        + " ".join(words)
    )
    return ["unshare", "--user", "--map-root-user", "sh", "-c", inner]


def test_without_namespaces_or_root_raylets_on_loopback(spanwise: CommandLine) -> None:
    before = snapshot()
    process = subprocess.run(
        _unprivileged("spanwise", "lab", "up", "--json"),
        env=spanwise.environment,
        capture_output=True,
        text=True,
        timeout=UP_HANG_S,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    state = json.loads(process.stdout)
    assert state["isolation"] == "loopback"
    assert [host["address"] for host in state["hosts"]] == ["127.0.0.2", "127.0.0.3"]
    assert any("link rates" in line for line in state["cannot_show"]), "it must say what it cannot show"
    assert "isolation userns is not possible here" in process.stderr
    # Ray is already running on this machine now: a second lab of this kind is refused.
    other = CommandLine(spanwise.state_dir / "other")
    refused = other("lab", "up", "--isolation", "loopback")
    assert refused.code == 3
    assert "already running" in refused.err
    assert spanwise("lab", "down").code == 0
    assert left(before) == {}


def test_root_isolation_asked_for_without_root(spanwise: CommandLine) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", 'exec "$0" "$@"']
    words = [*command, spanwise.environment.get("PYTHON", "python3"), "-c", _ASK_FOR_ROOT]
    if os.geteuid() != 0:
        words = ["python3", "-c", _ASK_FOR_ROOT]
    done = subprocess.run(
        words,
        env=spanwise.environment | {"PYTHONPATH": os.path.abspath("src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "not root", done.stderr


_ASK_FOR_ROOT = "from spanwise.lab.isolation import refusal; print(refusal('root').reason)"


def test_no_room_in_shared_memory(spanwise: CommandLine) -> None:
    """The loopback fallback uses the machine's own /dev/shm: a 64 MB one is refused before anything starts."""
    before = snapshot()
    script = "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec spanwise lab up --isolation loopback"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=spanwise.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "/dev/shm has" in done.stderr
    assert "MiB" in done.stderr
    assert left(before) == {}


def test_root_without_user_namespaces(spanwise: CommandLine) -> None:
    """Where user namespaces are switched off but root is at hand, the lab is made with root's rights."""
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces"
        " && spanwise lab up --json && spanwise lab exec host-2 hostname && spanwise lab down"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=spanwise.environment, capture_output=True, text=True, timeout=UP_HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"isolation": "root"' in done.stdout
    assert done.stdout.strip().endswith("host-2")


def test_other_systems_are_told_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.platform, "system", lambda: "Darwin")
    with pytest.raises(isolation.UnsupportedPlatformError) as refusal:
        isolation.require_linux()
    assert refusal.value.exit_code == 2
    assert "Linux VM" in refusal.value.remedy


def test_two_ups_at_once_make_one_lab(spanwise: CommandLine) -> None:
    before = snapshot()
    both = [spanwise.popen("lab", "up", "--hosts", "1") for _ in range(2)]
    answers = [process.communicate(timeout=UP_HANG_S) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], answers
    refused = next(err for process, (_, err) in zip(both, answers, strict=True) if process.returncode == 2)
    assert "bringing a lab up or down" in refused or "already up" in refused
    assert spanwise("lab", "down").code == 0
    assert left(before) == {}, "the loser must not leave a lab that nothing names"


def test_down_during_up_does_not_say_that_nothing_is_up(spanwise: CommandLine) -> None:
    before = snapshot()
    rising = spanwise.popen("lab", "up")
    assert rising.stderr is not None
    assert "linked" in rising.stderr.readline()
    down = spanwise("lab", "down")
    rising.communicate(timeout=UP_HANG_S)
    if down.code == 0:  # it came up while down waited for it
        assert "is down" in down.err
    else:
        assert down.code == 2
        assert "bringing a lab up or down" in down.err
        assert spanwise("lab", "status").code == 0
        assert spanwise("lab", "down").code == 0
    assert left(before) == {}


def test_a_foreign_process_is_never_taken_for_a_keeper(spanwise: CommandLine) -> None:
    from spanwise.lab.processes import start_ticks

    state = spanwise("lab", "up", "--hosts", "1", "--json", timeout_s=UP_HANG_S).document
    path = spanwise.state_dir / "lab.json"
    right = path.read_text()
    with subprocess.Popen(["sleep", "600"]) as foreign:
        path.write_text(
            right.replace(f'"keeper_pid": {state["keeper_pid"]}', f'"keeper_pid": {foreign.pid}').replace(
                f'"keeper_started": {state["keeper_started"]}', f'"keeper_started": {start_ticks(foreign.pid)}'
            )
        )
        assert spanwise("lab", "down").code == 0
        assert foreign.poll() is None, "a process that is no keeper was ended"
        foreign.kill()
    spanwise.state_dir.mkdir(exist_ok=True)
    path.write_text(right)
    assert spanwise("lab", "down").code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_exec_ends_its_command_and_a_dead_host_is_named(spanwise: CommandLine, number: signal.Signals) -> None:
    state = spanwise("lab", "up", "--hosts", "2", "--json", timeout_s=UP_HANG_S).document
    inner = spanwise.popen("lab", "exec", "host-1", "sh", "-c", "echo ready; sleep 7531")
    assert inner.stdout is not None
    assert inner.stdout.readline().strip() == "ready"
    inner.send_signal(number)
    inner.communicate(timeout=30)
    assert inner.returncode == 130
    assert spanwise("lab", "exec", "host-1", "pgrep", "-f", "sleep 7531").out == ""
    assert spanwise("lab", "exec", "host-1", "sh", "-c", "kill -PIPE $$").code == 128 + signal.SIGPIPE

    quiet = spanwise("lab", "logs", "host-2")
    assert quiet.code == 0
    spanwise(
        "lab",
        "exec",
        "host-2",
        "sh",
        "-c",
        r"printf '\377\033[31mred\n' > $TMPDIR/ray/session_latest/logs/worker-x.out",
    )
    bytes_in_log = spanwise("lab", "logs", "host-2")
    assert bytes_in_log.code == 0
    assert "==> worker-x.out <==" in bytes_in_log.out, "each file under its name"
    assert "\033" not in bytes_in_log.out
    assert "[31m" not in bytes_in_log.out, "the whole colour code goes, not only its first byte"
    document = spanwise("lab", "logs", "host-2", "--json").document
    assert document["host"] == "host-2"
    assert any(line.endswith("red") for line in document["lines"])

    os.kill(state["hosts"][0]["init_pid"], signal.SIGKILL)
    time.sleep(0.5)
    status = spanwise("lab", "status", "--json")
    assert status.code == 1
    assert status.document["hosts_gone"] == ["host-1"]
    dead = spanwise("lab", "exec", "host-1", "true")
    assert dead.code == 3
    assert "host-1 is gone" in dead.err
    assert spanwise("lab", "down").code == 0
