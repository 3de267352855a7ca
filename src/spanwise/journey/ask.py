"""Ask an OpenAI-compatible endpoint and keep what is needed to compare answers token by token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from spanwise.equivalence import Answer, Candidate
from spanwise.errors import EngineError

Done = Callable[[int], None]
CANDIDATES = 5
REQUEST_TIMEOUT_S = 180.0


def _answer(prompt_id: str, choice: dict[str, Any]) -> Answer:
    """One choice of `/v1/completions` with ``return_tokens_as_token_ids``: tokens read ``token_id:<n>``."""
    logprobs = choice["logprobs"]
    return Answer(
        prompt_id=prompt_id,
        token_ids=tuple(int(token.removeprefix("token_id:")) for token in logprobs["tokens"]),
        logprobs=tuple(logprobs["token_logprobs"]),
        top=tuple(
            tuple(
                sorted(
                    (Candidate(token=token, logprob=value) for token, value in best.items()), key=lambda c: -c.logprob
                )
            )
            for best in logprobs["top_logprobs"]
        ),
        text=choice["text"],
        finish_reason=choice["finish_reason"],
        prompt_token_ids=tuple(choice.get("prompt_token_ids") or ()),
    )


async def _one(client: httpx.AsyncClient, model: str, prompt_id: str, prompt: str, max_tokens: int) -> Answer:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,  # every answer has full length, so that a late difference cannot hide behind an early end
        "logprobs": CANDIDATES,
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
    }
    return _answer_of(prompt_id, await _post(client, model, prompt_id, body), client)


async def _post(client: httpx.AsyncClient, model: str, prompt_id: str, body: dict[str, Any]) -> Any:
    """The JSON document that answers ``body``.

    Raises:
        EngineError: No answer, or not 200.
    """
    where = f"{client.base_url}v1/completions, model {model}, prompt {prompt_id!r}"
    try:
        response = await client.post("/v1/completions", json=body)
    except httpx.HTTPError as error:
        raise EngineError(
            f"no answer: {type(error).__name__} {error}", where=where, remedy="is the gang still up? `spanwise status`"
        ) from error
    if response.status_code != 200:
        raise EngineError(
            f"HTTP {response.status_code}: {response.text[:300]}",
            where=where,
            remedy="see the gang's log: `spanwise lab logs`",
        )
    return response.json()


def _answer_of(prompt_id: str, document: Any, client: httpx.AsyncClient) -> Answer:
    try:
        return _answer(prompt_id, document["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineError(
            f"an answer without token ids and log-probabilities ({error!r})",
            where=f"{client.base_url}v1/completions, prompt {prompt_id!r}",
        ) from error


async def _score(client: httpx.AsyncClient, model: str, answer: Answer) -> tuple[float, ...]:
    body = {
        "model": model,
        "prompt": [*answer.prompt_token_ids, *answer.token_ids],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,  # of the tokens themselves only
    }
    document = await _post(client, model, answer.prompt_id, body)
    try:
        entries = document["choices"][0]["prompt_logprobs"][len(answer.prompt_token_ids) :]
        return tuple(
            float(entry[str(token)]["logprob"]) for entry, token in zip(entries, answer.token_ids, strict=True)
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineError(
            f"scores are missing from the answer ({error!r})", where=f"model {model}, prompt {answer.prompt_id!r}"
        ) from error


async def _score_all(endpoint: str, model: str, answers: Sequence[Answer], done: Done) -> dict[str, tuple[float, ...]]:
    found = {}
    async with httpx.AsyncClient(base_url=endpoint, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
        for number, answer in enumerate(answers, 1):
            found[answer.prompt_id] = await _score(client, model, answer)
            done(number)
    return found


def score(
    endpoint: str, model: str, answers: Sequence[Answer], *, done: Done = lambda _: None
) -> dict[str, tuple[float, ...]]:
    """Log-probabilities (nats) that ``model`` gives to each token of somebody's answers, in one pass per answer.

    Args:
        endpoint: URL of the door.
        model: Served name.
        answers: Whose tokens are scored.
        done: Told how many are done, after each.

    Raises:
        EngineError: The endpoint did not answer as it should; names the prompt.
    """
    return asyncio.run(_score_all(endpoint, model, answers, done))


async def _ask(
    endpoint: str, model: str, prompts: Mapping[str, str], max_tokens: int, together: bool, done: Done
) -> list[Answer]:
    # trust_env off: a proxy variable of the user's shell must not see, or break, loopback traffic.
    async with httpx.AsyncClient(base_url=endpoint, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
        if together:
            arrived = iter(range(1, len(prompts) + 1))

            async def counted(prompt_id: str, prompt: str) -> Answer:
                answer = await _one(client, model, prompt_id, prompt, max_tokens)
                done(next(arrived))
                return answer

            return list(await asyncio.gather(*(counted(*item) for item in prompts.items())))
        answers = []
        for number, (prompt_id, prompt) in enumerate(prompts.items(), 1):
            answers.append(await _one(client, model, prompt_id, prompt, max_tokens))
            done(number)
        return answers


def ask(
    endpoint: str,
    model: str,
    prompts: Mapping[str, str],
    *,
    max_tokens: int,
    together: bool = False,
    done: Done = lambda _: None,
) -> list[Answer]:
    """Greedy answers with candidates, in the order of ``prompts``.

    Args:
        endpoint: URL of the door.
        model: Served name.
        prompts: Prompt texts by id.
        max_tokens: Exactly this many tokens are asked for.
        together: All at once (batched by the engine) instead of one after the other.
        done: Told how many are answered, after each.

    Raises:
        EngineError: The endpoint did not answer as it should; names the prompt.
    """
    return asyncio.run(_ask(endpoint, model, prompts, max_tokens, together, done))
