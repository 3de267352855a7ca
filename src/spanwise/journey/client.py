"""A user's client: the official `openai` package asks the door, whole and streamed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from spanwise.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What the client saw."""

    models: tuple[str, ...]
    answer: str
    finish_reason: str
    streamed: str
    stream_chunks: int
    stream_finish_reasons: tuple[str, ...]
    ttft_s: float


def converse(endpoint: str, model: str, question: str, *, max_tokens: int = 32) -> Conversation:
    """Ask ``question`` once whole and once streamed.

    Raises:
        EngineError: The client raised; its own message stands in ours.
    """
    import openai

    client = _client(endpoint)
    messages = [{"role": "user", "content": question}]
    try:
        models = tuple(card.id for card in client.models.list())
        whole = client.chat.completions.create(model=model, messages=messages, max_tokens=max_tokens, temperature=0)
        started, first, pieces, chunks, finishes = time.monotonic(), 0.0, [], 0, []
        for chunk in client.chat.completions.create(
            model=model, messages=messages, max_tokens=max_tokens, temperature=0, stream=True
        ):
            chunks += 1
            for choice in chunk.choices:
                if choice.delta.content:
                    first = first or time.monotonic() - started
                    pieces.append(choice.delta.content)
                if choice.finish_reason:
                    finishes.append(choice.finish_reason)
    except openai.OpenAIError as error:
        raise EngineError(
            f"the openai client raised {type(error).__name__}: {error}",
            where=endpoint,
            remedy="is the gang still up? `spanwise status`",
        ) from error
    return Conversation(
        models=models,
        answer=whole.choices[0].message.content or "",
        finish_reason=whole.choices[0].finish_reason,
        streamed="".join(pieces),
        stream_chunks=chunks,
        stream_finish_reasons=tuple(finishes),
        ttft_s=first,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One whole answer."""

    answer: str
    finish_reason: str
    completion_tokens: int
    took_s: float


def reply(base_url: str, model: str, question: str, *, max_tokens: int) -> Reply:
    """Ask ``question`` once.

    Args:
        base_url: URL of the application, without ``/v1``.
        model: Served name.
        question: What a user says.
        max_tokens: At most this many.

    Raises:
        EngineError: The client raised, or the answer holds nothing; its own message stands in ours.
    """
    import openai

    client = _client(base_url)
    started = time.monotonic()
    try:
        whole = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=max_tokens, temperature=0
        )
    except openai.OpenAIError as error:
        raise EngineError(
            f"the openai client raised {type(error).__name__}: {error}"[:600],
            where=f"{base_url}, model {model}",
            remedy="see the log of its hosts",
        ) from error
    tokens = whole.usage.completion_tokens if whole.usage is not None else 0
    if not whole.choices or tokens < 1:
        raise EngineError("an answer without a token", where=f"{base_url}, model {model}")
    return Reply(
        answer=whole.choices[0].message.content or "",
        finish_reason=whole.choices[0].finish_reason,
        completion_tokens=tokens,
        took_s=round(time.monotonic() - started, 2),
    )


def _client(base_url: str) -> Any:
    """The official client, deaf to the environment's proxy and key variables: they are for other endpoints."""
    import httpx
    import openai

    return openai.OpenAI(
        base_url=f"{base_url}/v1",
        api_key="none",
        timeout=120,
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=120),
    )
