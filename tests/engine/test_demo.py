"""The main job, end to end, with real vLLM on a real Ray cluster over two emulated hosts."""

from __future__ import annotations

import json
import subprocess

import httpx
import openai
import pytest

from tests.engine.conftest import Running

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

MODEL = "smollm2-135m-instruct"
QUESTION = "What is the capital of France? Answer in one sentence."


def test_ranks_stand_on_two_hosts_as_planned(running: Running) -> None:
    gang = next(gang for gang in running.report["gangs"] if gang["model"] == MODEL)
    assert [(rank["rank"], rank["stage"], rank["host"]) for rank in gang["ranks"]] == [
        (0, 0, "host-1"),
        (1, 1, "host-2"),
    ]
    assert [rank["hostname"] for rank in gang["ranks"]] == ["host-1", "host-2"], "the ranks' own word, not Ray's"
    assert len({rank["address"] for rank in gang["ranks"]}) == 2


def test_output_equals_one_rank_token_by_token(running: Running) -> None:
    found = running.report["equivalence"]
    assert found["equivalent"] is True
    assert found["rule"] == "exact"
    assert len(found["prompts"]) == 10
    assert all(prompt["verdict"] == "equal" and prompt["tokens"] >= 64 for prompt in found["prompts"])
    assert found["noise"]["positions"] > 0, "noise must have been measured"


def test_activations_crossed_the_link(running: Running) -> None:
    # 640 answer tokens and the prompts, 576 x 2 bytes of hidden state and as much residual each: above 1 MB from stage 0 to 1.
    sent = running.report["link_bytes"]["host-1"]["sent"]
    assert sent > 1_000_000


def test_memory_and_time_promises(running: Running) -> None:
    assert running.report["peak_memory_bytes"] < 12 * 2**30
    assert set(running.report["phases_s"]) >= {
        "decide and plan",
        "lab up",
        "serve both layouts",
        "compare with one rank",
    }


def test_verdicts_are_honest(running: Running) -> None:
    article, own = running.report["article"], running.report["verdict"]
    assert article["verdict"] == "one_node"
    assert article["chosen"]["tensor_parallel_size"] == 4
    assert "tensor_parallel_crosses_slow_fabric" in {item["code"] for item in article["rejected"]}
    assert own["justified"] is False, "one rank would do: the demo must say so"
    assert "layout_forced_by_user" in {reason["code"] for reason in own["reasons"]}


@pytest.fixture
def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{running.endpoint}/v1",
        api_key="none",
        timeout=60,
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=60),
    )


def test_openai_client_chat_completion_and_models(client: openai.OpenAI) -> None:
    assert MODEL in [card.id for card in client.models.list()]
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=32, temperature=0
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    text = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=3, temperature=0)
    assert "Paris" in text.choices[0].text


def test_openai_client_streams_what_it_answers(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=32, temperature=0)
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=messages, max_tokens=32, temperature=0, stream=True)
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"], "exactly one finish"
    assert len(chunks) > 3, "it must arrive in pieces"
    text = list(
        client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0, stream=True)
    )
    assert len(text) > 3


def test_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "x"}])


def test_status_names_gangs_and_ranks(running: Running) -> None:
    outcome = running.spanwise("status", "--json")
    assert outcome.code == 0, outcome.err
    status = outcome.document
    assert status["endpoint"] == running.endpoint
    assert MODEL in status["models"]
    gang = next(gang for gang in status["gangs"] if gang["model"] == MODEL)
    assert gang["state"] == "healthy"
    assert gang["plan_hash"] == running.report["plan_hash"]
    assert {"id", "model", "state", "epoch", "ranks", "domain"} <= gang.keys()
    assert [rank["host"] for rank in gang["ranks"]] == ["host-1", "host-2"]
    assert all(rank["pid"] > 0 for rank in gang["ranks"])


def test_only_loopback_reaches_the_door(running: Running) -> None:
    port = running.endpoint.rsplit(":", 1)[1]
    sockets = subprocess.run(
        ["ss", "-ltnH", f"sport = :{port}"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert sockets[3] == f"127.0.0.1:{port}"
    addresses = subprocess.run(["ip", "-br", "address"], capture_output=True, text=True, check=True).stdout
    assert "10.77.0." not in addresses, "the lab's network must not show on the machine"


def test_a_plan_for_hosts_that_are_not_there_is_stale(running: Running, tmp_path) -> None:
    intent = tmp_path / "intent.yaml"
    model = running.report["plan_model"]
    intent.write_text(
        f"model: {model}\nmax_model_len: 2048\nhardware: {{gpu: lab-cpu, gpus_per_node: 1, hosts: [host-7]}}\n"
        "workload: {input_tokens: 64, output_tokens: 16, concurrency: 1}\n"
    )
    outcome = running.spanwise("up", str(intent))
    assert outcome.code == 2, outcome.err
    assert "host-7" in outcome.err
    assert "host-1" in outcome.err
    assert running.spanwise("status").code == 0, "what runs keeps running"


def test_plans_that_are_served_already_are_left_alone(running: Running, tmp_path) -> None:
    files = []
    for document in running.report["plans"]:
        files.append(tmp_path / f"{document['name']}.json")
        files[-1].write_text(json.dumps(document))
    before = running.spanwise("status", "--json").document["gangs"]
    outcome = running.spanwise("up", *map(str, files), "--json")
    assert outcome.code == 0, outcome.err
    assert "already served, nothing to do" in outcome.err
    assert set(outcome.document["models"]) == {gang["model"] for gang in before}
    pids = {gang["id"]: [rank["pid"] for rank in gang["ranks"]] for gang in before}
    assert {gang["id"]: [rank["pid"] for rank in gang["ranks"]] for gang in outcome.document["gangs"]} == pids


def test_progress_comes_in_the_order_of_things(running: Running) -> None:
    """How far a step is comes only where it takes long (tests/unit/cli/test_live.py)."""
    assert "compare with one rank: " in running.progress
    healthy = running.progress.index("is healthy")
    assert "gangs submitted" in running.progress[:healthy]


def test_a_second_plan_that_does_not_fit_names_the_conflict(running: Running, tmp_path) -> None:
    intent = tmp_path / "intent.yaml"
    model = running.report["plan_model"]
    intent.write_text(
        f"model: {model}\nmax_model_len: 2048\nhardware: {{gpu: lab-cpu, gpus_per_node: 3, hosts: [host-1]}}\n"
        "workload: {input_tokens: 64, output_tokens: 16, concurrency: 1}\n"
    )
    plan = tmp_path / "plan.json"
    assert running.spanwise("plan", str(intent), "--tensor-parallel-size", "3", "-o", str(plan)).code == 0
    outcome = running.spanwise("up", str(plan))
    assert outcome.code == 2, outcome.err
    assert "2 GPUs" in outcome.err
    assert running.spanwise("status").code == 0
