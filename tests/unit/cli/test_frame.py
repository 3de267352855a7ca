"""What every command shares: one JSON document also for errors, and no defect where the world refuses."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from spanwise.cli.main import COMMANDS
from tests.commands import SPANWISE, CommandLine

INTENT = "examples/llama-3-70b-10gbe.yaml"


@pytest.mark.parametrize(
    "words",
    [
        ["decide"],
        ["decide", INTENT, "--bogus"],
        ["lab", "up", "--hosts", "99"],
        ["plan", INTENT, "--tensor-parallel-size", "0"],
        ["bogus"],
    ],
)
def test_usage_errors_are_json_where_json_was_asked_for(spanwise: CommandLine, words: list[str]) -> None:
    outcome = spanwise(*words, "--json")
    assert outcome.code == 2
    assert outcome.document["exit_code"] == 2
    assert outcome.document["what"]
    assert "->" in outcome.err


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        (["decide", INTENT, "--explain"], "decide", "Option '--explain' requires an argument."),
        (["lab", "up", "--hosts"], "lab up", "Option '--hosts' requires an argument."),
        (["plan", "--bogus"], "plan", "No such option: --bogus"),
        (["lab", "bogus"], "lab", "No such command 'bogus'."),
        (["decide"], "decide", "INTENT.yaml is missing"),
        (["--bogus"], "", "No such option: --bogus"),
    ],
)
def test_a_usage_error_names_the_command_once_and_its_help(
    spanwise: CommandLine, words: list[str], place: str, said: str
) -> None:
    outcome = spanwise(*words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"spanwise: {place}: {said}" if place else f"spanwise: {said}")
    assert f"`{f'spanwise {place}'.strip()} --help`" in outcome.err


def test_help_is_no_error(spanwise: CommandLine) -> None:
    assert spanwise("--help").code == 0
    assert spanwise("lab", "up", "--help").code == 0
    assert spanwise("--version").code == 0
    assert "Usage" in spanwise().out + spanwise().err


LEAVES = [[name] for name in COMMANDS if name != "lab"] + [
    ["lab", name] for name in ("up", "status", "down", "exec", "logs")
]


@pytest.mark.parametrize("words", [[], ["lab"], *LEAVES], ids=" ".join)
def test_help_is_in_words_that_one_types(spanwise: CommandLine, words: list[str]) -> None:
    text = spanwise(*words, "--help").out
    usage = text.splitlines()[0]
    assert usage.startswith(f"Usage: spanwise {' '.join(words)}".rstrip())
    assert "Example" in text
    assert not re.findall(r"[{}]|<(?:str|int|float|list|Path)\b[^>]*>", text)
    assert "..." not in text.removeprefix(usage).replace("PLAN...", "").replace("FILE...", "").replace(
        "PLAN|INTENT...", ""
    ), "a sentence is cut"


def test_help_without_a_command_is_the_same(spanwise: CommandLine) -> None:
    bare, asked = spanwise(), spanwise("--help")
    assert bare.out + bare.err == asked.out


def test_usage_of_exec_names_the_inner_command(spanwise: CommandLine) -> None:
    assert "lab exec [OPTIONS] HOST COMMAND [ARGS]..." in spanwise("lab", "exec", "--help").out


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("spanwise", SPANWISE)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("flags", ["", " --json"])
@pytest.mark.parametrize("where", ["> /dev/full", ">&-"])
def test_an_answer_that_cannot_be_written_is_said(where: str, flags: str) -> None:
    done = _shell(f"spanwise decide {INTENT}{flags} {where}")
    assert done.returncode == 3, done.stderr
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_standard_streams_keep_the_exit_code() -> None:
    assert _shell("spanwise decide nosuch.yaml 2>&-").returncode == 2
    closed = _shell("spanwise lint - <&-")
    assert closed.returncode == 2
    assert "standard input is closed" in closed.stderr


@pytest.mark.parametrize("words", [f"decide {INTENT} --json", f"plan {INTENT}"])
def test_a_reader_that_goes_away_is_no_error(words: str) -> None:
    assert _shell(f"spanwise {words} | head -c 0; exit ${{PIPESTATUS[0]}}").returncode == 0


def test_output_through_a_link_keeps_the_link(spanwise: CommandLine, tmp_path: Path) -> None:
    target, link, loop = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "loop.json"
    target.write_text("old")
    link.symlink_to(target)
    loop.symlink_to(loop)
    assert spanwise("plan", INTENT, "-o", str(link)).code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["schema"] == "spanwise.plan/1"
    assert spanwise("plan", INTENT, "-o", str(loop)).code == 2
    assert loop.is_symlink()
    assert spanwise("plan", INTENT, "-o", "-").code == 2


@pytest.mark.parametrize(
    "pipe", ["/dev/stdout | cat", "/dev/stdout | head -c 200", ">(cat >&2) >/dev/null; wait $!", "/dev/null"]
)
def test_output_into_a_pipe_or_a_device(pipe: str) -> None:
    done = _shell(f"set -o pipefail; spanwise plan {INTENT} -o {pipe}")
    assert done.returncode == 0, done.stderr
    if "head" in pipe:
        assert done.stdout.startswith('{\n  "schema": "spanwise.plan/1"')
    if "cat" in pipe:
        text = done.stdout if "stdout" in pipe else done.stderr
        assert json.JSONDecoder().raw_decode(text[text.index("{") :])[0]["schema"] == "spanwise.plan/1"


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    "line",
    [
        'model: "/tmp/\\e[31mx"',
        '"\\e[2J": 1',
        'model: "a\\x9b31mb"',
        'revision: !!bool "x"',
        'revision: !!python/object/apply:os.system ["id"]',
        'prices_per_gpu_hour: {"\\e[2J": -1}',
    ],
)
def test_a_strangers_file_neither_moves_the_cursor_nor_is_a_defect(
    spanwise: CommandLine, tmp_path: Path, line: str, flags: list[str]
) -> None:
    intent = tmp_path / "intent.yaml"
    kept = [
        row for row in Path(INTENT).read_text().splitlines() if not row.startswith(line.split(":", maxsplit=1)[0] + ":")
    ]
    intent.write_text("\n".join([*kept, line]) + "\n")
    outcome = spanwise("decide", str(intent), *flags)
    assert outcome.code == 2, outcome.err
    assert "defect" not in outcome.err
    assert not any(not c.isprintable() and c not in "\n\t" for c in outcome.out + outcome.err)


@pytest.mark.parametrize(
    "change", [{"request_rate_per_s": "5e-324"}, {"fabric": "{latency_us: 1e9, bandwidth_gbit_per_s: 5e-324}"}]
)
def test_figures_that_would_overflow_are_refused(spanwise: CommandLine, tmp_path: Path, change: dict[str, str]) -> None:
    text = Path(INTENT).read_text()
    for key, value in change.items():
        text = re.sub(rf"{key}: .*", f"{key}: {value}", text)
    (tmp_path / "intent.yaml").write_text(text)
    outcome = spanwise("decide", str(tmp_path / "intent.yaml"), "--json")
    assert outcome.code == 2
    assert next(iter(change)) in outcome.document["what"]
