"""What attackers found: secrets in messages, and files and environments that read as a defect of ours."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.commands import CommandLine

INTENT = "examples/llama-3-70b-10gbe.yaml"
SECRET = "hf_SECRETSECRET"


@pytest.fixture
def hub(tmp_path: Path) -> str:
    """An intent whose model only a hub would know."""
    intent = tmp_path / "hub.yaml"
    intent.write_text(re.sub(r"^model: .*", "model: acme/unknown", Path(INTENT).read_text(), flags=re.MULTILINE))
    return str(intent)


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    "environment",
    [
        {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_TOKEN": f"{SECRET}\r\n"},
        {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_TOKEN": f"{SECRET}\n{SECRET}"},
        {"HF_ENDPOINT": f"http://user:{SECRET}@127.0.0.1:1"},
        {"ALL_PROXY": "socks5://127.0.0.1:1"},
        {"HF_ENDPOINT": "https://127.0.0.1:1", "SSL_CERT_FILE": "/nonexistent"},
    ],
)
def test_no_secret_is_shown_and_the_network_is_never_a_defect(
    spanwise: CommandLine, hub: str, environment: dict[str, str], flags: list[str]
) -> None:
    outcome = spanwise("decide", hub, *flags, HF_HUB_OFFLINE="", **environment)
    assert outcome.code in (2, 3)
    assert SECRET not in outcome.out + outcome.err
    assert "defect" not in outcome.err
    assert "->" in outcome.err
    if flags:
        assert outcome.document["exit_code"] == outcome.code


def test_a_place_that_cannot_be_is_bad_input_with_json(spanwise: CommandLine) -> None:
    outcome = spanwise("lab", "down", "--json", SPANWISE_STATE_DIR="/tmp/" + "a" * 300)
    assert outcome.code == 2
    assert outcome.document["exit_code"] == 2
    assert "SPANWISE_STATE_DIR" in outcome.err


def test_an_empty_address_is_not_any_cluster(spanwise: CommandLine) -> None:
    assert spanwise("status", "--ray", "").code == 2
    assert spanwise("down", "--ray", "").code == 2


@pytest.mark.parametrize("text", ["vllm serve m " + "a" * 1_000_000, "vllm serve m " + "--x " * 20_000])
def test_what_is_too_long_to_be_a_command_is_said_at_once(spanwise: CommandLine, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.sh").write_text(text)
    started = time.monotonic()
    outcome = spanwise("lint", str(tmp_path / "x.sh"))
    assert outcome.code == 2
    assert "more than" in outcome.err
    assert time.monotonic() - started < 20  # a hang limit: it took minutes


def test_tampered_plans_and_verdicts_are_bad_input(spanwise: CommandLine, tmp_path: Path) -> None:
    from spanwise.plan.types import Plan

    path = tmp_path / "plan.json"
    assert spanwise("plan", INTENT, "-o", str(path)).code == 0
    whole = json.loads(path.read_text())

    def sealed(change) -> Path:
        document = json.loads(json.dumps(whole))
        change(document)
        document["hash"] = Plan.model_validate(document).computed_hash()
        (tmp_path / "tampered.json").write_text(json.dumps(document))
        return tmp_path / "tampered.json"

    def flagless(document) -> None:
        document["engine_args"]["model_weights"] = "x"

    def huge(document) -> None:
        document["stages"][0]["weights_bytes_per_rank"] = 10**400

    for change, word in ((flagless, "model_weights"), (huge, "number")):
        outcome = spanwise("render", str(sealed(change)), "--target", "vllm", "-o", str(tmp_path / "out"), "--json")
        assert outcome.code == 2, outcome.err
        assert word in outcome.err
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(
            '{"schema":"spanwise.verdict/1","x":' + "[" * 900 + name[0].join('""') + "]" * 900 + "}"
        )
    deep = spanwise("diff", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json")
    assert deep.code == 2
    assert "nested too deeply" in deep.err


def test_a_terminal_of_another_encoding_gets_an_answer(spanwise: CommandLine, tmp_path: Path) -> None:
    for name, more in (("p.json", []), ("q.json", ["--tensor-parallel-size", "8", "--pipeline-parallel-size", "1"])):
        assert spanwise("plan", INTENT, *more, "-o", str(tmp_path / name)).code == 0
    outcome = spanwise("diff", str(tmp_path / "p.json"), str(tmp_path / "q.json"), PYTHONIOENCODING="latin1")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("marker", [b"", b"[]", b"\xff", b'{"recipe": 1}'])
def test_a_damaged_model_cache_is_made_again(tmp_path: Path, marker: bytes) -> None:
    from spanwise.checkpoints import smollm2

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "spanwise.json").write_bytes(marker)
    assert not smollm2._is_made(folder)


def test_an_infeasible_intent_with_an_impossible_file_name_is_one_document(spanwise: CommandLine) -> None:
    outcome = spanwise("plan", "examples/llama-3-70b-one-gpu.yaml", "-o", "a" * 300, "--json")
    assert outcome.document["verdict"] == "infeasible"
    assert outcome.code == 1
