"""A host on which foreign code may run, without Ray: what stands in it, and that what we run from there cannot be exchanged."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanwise.journey import foreign
from spanwise.lab import bring, enter
from spanwise.lab.isolation import choose
from spanwise.lab.spec import LabSpec, LabState

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture
def shown() -> Iterator[Path]:
    """A directory below /tmp that the host is given, and another that it is not."""
    with tempfile.TemporaryDirectory(prefix="shown-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        (top / "given").mkdir()
        (top / "given" / "file").write_text("ours")
        (top / "kept").write_text("the user's")
        yield top


@pytest.fixture
def lab(tmp_path: Path, shown: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabState]:
    monkeypatch.setenv("SPANWISE_STATE_DIR", str(tmp_path / "state"))
    confined = foreign.confinement("", [shown / "given"])
    spec = LabSpec(hosts=1, gpus_per_host=1, link="unlimited", ray=False, confined=confined)
    leash = bring.up(spec, progress=lambda _: None)
    try:
        yield leash.state
    finally:
        bring.down()


def run(lab: LabState, script: str) -> tuple[int, str]:
    process = enter.start(
        lab, lab.hosts[0], ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    out = process.communicate(timeout=60)[0]
    return process.returncode, out


def test_what_is_given_is_there_and_stays_ours(lab: LabState, shown: Path) -> None:
    given = shown / "given"
    assert run(lab, f"cat {given}/file") == (0, "ours")
    for attack in (
        f"echo theirs > {given}/file",
        f"touch {given}/new",
        f"touch {shown}/new",
        f"mv {given} {shown}/away",
        f"mv {shown} /tmp/away",
        f"rm -rf {shown} 2>/dev/null; test ! -e {given}/file",
        "mkdir -p $HOME/.local && touch /new",
        f"touch {sys.prefix}/new",
    ):
        code, said = run(lab, attack)
        assert code != 0, f"{attack}: {said}"
    assert run(lab, f"cat {given}/file") == (0, "ours")
    assert run(lab, f"cat {shown}/kept")[0] != 0
    assert sorted(path.name for path in shown.rglob("*")) == ["file", "given", "kept"]


def test_every_host_says_what_it_is_left_with(lab: LabState) -> None:
    (report,) = foreign.left_with(lab)
    assert report["host"] == "host-1"
    # Root's part falls to nobody; everybody else stays who they are, in a namespace of their own.
    assert report["uid_outside"] == (65534 if choose(None, confined=True)[0] == "root" else 0)
    assert set(report["capabilities"].values()) == {"0" * 16}
    json.dumps(report)


def test_what_a_home_holds_is_not_run_before_rights_are_gone(lab: LabState) -> None:
    """A startup file of Python, planted where a user's own would be, is not looked at by what still has rights."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("usercustomize", "sitecustomize"):
        folder = f"$HOME/.local/lib/{version}/site-packages"
        assert run(lab, f'mkdir -p {folder} && echo \'open("/tmp/planted", "w")\' > {folder}/{name}.py')[0] == 0
    assert run(lab, "true")[0] == 0
    assert run(lab, "test -e /tmp/planted")[0] == 1
