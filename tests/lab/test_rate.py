"""Another rate for the links of a running lab: on all of them or on none, whatever happens meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from spanwise.lab.processes import start_ticks
from tests.commands import SPANWISE, CommandLine

pytestmark = pytest.mark.lab

# Stands before the real `tc`; the nth call does what DO says.
_SHIM = """#!/bin/sh
echo "$*" >> "$CALLS"
if [ "$(wc -l < "$CALLS")" = "$NTH" ]; then
  case "$DO" in
    fail) exit 1 ;;
    down) spanwise lab down > "$CALLS.down" 2>&1; echo $? >> "$CALLS.down" ;;
    die) kill -9 "$KEEPER"; exit 0 ;;
  esac
fi
exec "$TC" "$@"
"""


def _rates(spanwise: CommandLine) -> dict[str, str]:
    """What the kernel says of every end: host's ends by the host's name, the bridge's ports by theirs."""
    from spanwise.lab import links
    from spanwise.lab.spec import LabState

    state = LabState.model_validate_json((spanwise.state_dir / "lab.json").read_bytes())
    shown = links._network(state, links._bridge_process(state), "tc", "qdisc", "show")
    found = dict(re.findall(r"tbf .*?dev (port-\S+) .*?rate (\S+)", shown))
    for host in state.hosts:
        if host.alive:
            shown = links._network(state, host.init_pid, "tc", "qdisc", "show")
            found[host.name] = "".join(re.findall(r"tbf .*?rate (\S+)", shown))
    return found


def test_a_rate_is_changed_on_all_links_or_on_none(spanwise: CommandLine, tmp_path: Path) -> None:
    # A reader of progress that goes away is no reason to fail.
    line = f"{SPANWISE} lab up --hosts 2 --rate 100mbit 2>&1 >{tmp_path}/out | head -1; echo ${{PIPESTATUS[0]}}"
    up = subprocess.run(
        ["bash", "-c", line], env=spanwise.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert up.stdout.splitlines()[-1] == "0", up.stdout
    assert "lab of 2 hosts" in (tmp_path / "out").read_text()
    status = spanwise("lab", "status", "--json")
    assert status.code == 0, status.err
    state = status.document

    # exec: one leading -- is dropped, and a command that is not there is said in our words.
    assert spanwise("lab", "exec", "host-1", "--", "hostname").out.strip() == "host-1"
    assert spanwise("lab", "exec", "host-1", "--", "echo", "--", "x").out.strip() == "-- x"
    for name in ("no-such-command", "/bin/no-such-command"):
        absent = spanwise("lab", "exec", "host-1", name)
        assert absent.code == 127
        assert f"host-1 has no command '{name}'" in absent.err
        assert "nsenter" not in absent.err

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tc").write_text(_SHIM)
    (tmp_path / "bin" / "tc").chmod(0o755)
    calls = tmp_path / "calls"
    shim = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "TC": str(shutil.which("tc")),
        "CALLS": str(calls),
        "KEEPER": str(state["keeper_pid"]),
    }

    def rate(do: str, nth: int):
        calls.unlink(missing_ok=True)
        return spanwise("lab", "rate", "20mbit", **shim, DO=do, NTH=str(nth))

    ends = ("host-1", "host-2", "port-host-1", "port-host-2")
    failed = rate("fail", 3)
    assert failed.code == 3
    assert "old rate again" in failed.err
    assert _rates(spanwise) == dict.fromkeys(ends, "100Mbit")
    assert spanwise("lab", "status", "--json").document["spec"]["rate_bit_per_s"] == 1e8

    # Taking the lab down has to wait until the change is written, or to give up.
    assert rate("down", 4).code == 0
    assert "bringing a lab up or down" in Path(f"{calls}.down").read_text()
    assert _rates(spanwise) == dict.fromkeys(ends, "20Mbit")
    assert spanwise("lab", "status", "--json").document["spec"]["rate_bit_per_s"] == 2e7

    os.kill(state["hosts"][1]["init_pid"], signal.SIGKILL)
    time.sleep(0.5)
    gone = spanwise("lab", "rate", "50mbit")
    assert gone.code == 3
    assert "host-2 is gone: no link was changed" in gone.err
    assert _rates(spanwise)["host-1"] == "20Mbit"
    assert spanwise("lab", "down").code == 0
    assert start_ticks(state["keeper_pid"]) != state["keeper_started"]
    assert not spanwise.state_dir.exists()


def test_a_lab_that_dies_meanwhile_is_not_written_back(spanwise: CommandLine, tmp_path: Path) -> None:
    up = spanwise("lab", "up", "--hosts", "1", "--json")
    assert up.code == 0, up.err
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tc").write_text(_SHIM)
    (tmp_path / "bin" / "tc").chmod(0o755)
    gone = spanwise(
        "lab", "rate", "20mbit", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", CALLS=str(tmp_path / "calls"),
        KEEPER=str(up.document["keeper_pid"]), DO="die", NTH="2", TC=str(shutil.which("tc")),
    )  # fmt: skip
    assert gone.code == 3
    assert "the lab has gone meanwhile" in gone.err
    assert spanwise("lab", "status").code == 1
    assert not (spanwise.state_dir / "lab.json").exists()
