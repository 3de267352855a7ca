"""The whole journey on this machine: decide, plan, lab, serve, prove, ask.

The article's case is judged; the small model is judged, planned against that judgement (openly forced: one rank would do),
served split over two emulated hosts beside the same model on one rank, compared token by token, and asked by a real client.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spanwise.checkpoints import smollm2
from spanwise.decide import PinnedLayout, Verdict
from spanwise.equivalence import Judgement, calibrate, judge
from spanwise.equivalence.judge import Rule
from spanwise.errors import OutputsDiffer
from spanwise.journey import deploy as serving
from spanwise.journey.ask import ask, score
from spanwise.journey.client import Conversation, converse
from spanwise.journey.lab_plan import article_verdict, lab_plan
from spanwise.journey.memory import PeakMemory
from spanwise.journey.prompts import OUTPUT_TOKENS, PROMPTS, QUESTION, RIGHT_ANSWER
from spanwise.lab import bring
from spanwise.lab.links import link_bytes
from spanwise.lab.spec import LabSpec, LabState
from spanwise.lab.wiring import Isolation, host_name
from spanwise.plan.types import Plan

Progress = Callable[[str], None]
REFERENCE_NAME = f"{smollm2.SERVED_NAME}-one-rank"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the demo is asked to show."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 2
    hosts: int = 2
    rate_bit_per_s: float | None = None
    isolation: Isolation | None = None
    port: int = 0
    keep: bool = False
    prompts: int = len(PROMPTS)
    output_tokens: int = OUTPUT_TOKENS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was seen; every figure of it was measured in this run."""

    article: Verdict
    verdict: Verdict
    plan: Plan
    reference: Plan
    lab: LabState
    gangs: list[dict[str, Any]]
    judgement: Judgement
    conversation: Conversation
    link_bytes: dict[str, dict[str, int]]
    phases_s: dict[str, float]
    peak_memory_bytes: int
    kept: bool


class _Phases:
    """Wall time per phase."""

    def __init__(self, say: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as ``name``."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
        self._say(f"{name}: {self.seconds[name]:.1f} s")


def _plans(options: Options, model: Path) -> tuple[Verdict, Plan, Plan]:
    hosts = tuple(host_name(index) for index in range(options.hosts))
    split = math.ceil(options.tensor_parallel_size * options.pipeline_parallel_size / options.hosts)
    pinned = PinnedLayout(
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size,
        replicas=1,
    )
    verdict, plan = lab_plan(model, hosts=hosts, gpus_per_host=split, pinned=pinned, served_name=smollm2.SERVED_NAME)
    alone = PinnedLayout(tensor_parallel_size=1, pipeline_parallel_size=1, replicas=1)
    _, reference = lab_plan(model, hosts=hosts[-1:], gpus_per_host=1, pinned=alone, served_name=REFERENCE_NAME)
    return verdict, plan, reference


def _counter(what: str, total: int, say: Progress, tick: Progress) -> Callable[[int], None]:
    """Told how many prompts are done: the last is a step that ended, the others are news of a running one."""
    return lambda number: (say if number == total else tick)(f"{what}: {number} of {total} prompts")


def _bytes_during(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {host: {way: after[host][way] - before[host][way] for way in after[host]} for host in after}


def _prove(endpoint: str, options: Options, say: Progress, tick: Progress) -> Judgement:
    """The split layout's answers against one rank's, with the noise of one rank measured."""
    prompts = dict(list(PROMPTS.items())[: options.prompts])
    tokens = options.output_tokens

    def tell(what: str) -> Callable[[int], None]:
        return _counter(what, len(prompts), say, tick)

    alone = ask(endpoint, REFERENCE_NAME, prompts, max_tokens=tokens, done=tell("one rank answered"))
    say("one rank again, batched, to measure its noise")
    again = tell("one rank answered, batched")
    batched = ask(endpoint, REFERENCE_NAME, prompts, max_tokens=tokens, together=True, done=again)
    scores = score(endpoint, REFERENCE_NAME, alone, done=tell("one rank scored its own answers"))
    split = ask(endpoint, smollm2.SERVED_NAME, prompts, max_tokens=tokens, done=tell("the split layout answered"))
    split_scores = score(endpoint, smollm2.SERVED_NAME, alone, done=tell("the split layout scored one rank's answers"))
    rule: Rule = "exact" if options.tensor_parallel_size == 1 else "noise"
    noise = calibrate([alone, batched], scores)
    return judge(alone, split, rule=rule, noise=noise, reference_scores=scores, candidate_scores=split_scores)


def _check(judgement: Judgement, conversation: Conversation) -> None:
    """Raise where the split model said something else, or something wrong.

    Raises:
        OutputsDiffer: Names the prompt, the position and the distance; or the wrong answer.
    """
    if not judgement.scores_hold:
        raise OutputsDiffer(
            f"scores of the same text moved {judgement.movement:.4f} nats on average;"
            f" one rank's own noise is {judgement.noise.movement:.4f}",
            where="equivalence of the split layout",
            remedy="do not serve this layout: its health is green and its output is wrong",
        )
    if not judgement.equivalent:
        worst = judgement.wrong[0]
        raise OutputsDiffer(
            f"{len(judgement.wrong)} of {len(judgement.comparisons)} prompts differ from one rank;"
            f" first {worst.prompt_id!r}: {worst.reason}",
            where="equivalence of the split layout",
            remedy="do not serve this layout: its health is green and its output is wrong",
        )
    for name, text in (("answer", conversation.answer), ("stream", conversation.streamed)):
        if RIGHT_ANSWER not in text:
            raise OutputsDiffer(
                f"the {name} to {QUESTION!r} is {text!r} and does not name {RIGHT_ANSWER}",
                where="the openai client",
                remedy="the layout or the model is damaged; do not serve it",
            )
    if conversation.stream_finish_reasons != (conversation.finish_reason,):
        raise OutputsDiffer(
            f"the stream ended with {list(conversation.stream_finish_reasons)} instead of one {conversation.finish_reason!r}",
            where="the openai client",
            remedy="the stream was cut; see the gang's log",
        )


def demo(
    options: Options, say: Progress, tick: Progress = lambda _: None, *, settle: Callable[[], None] = lambda: None
) -> Report:
    """Run the journey.

    Args:
        options: What is shown.
        say: Takes one line per step.
        tick: Takes news of the running step, which may be many.
        settle: Called before what runs is left running for good.

    Raises:
        LayoutError: The layout cannot be for this model.
        OutputsDiffer: The split changed the output, or an answer is wrong.
        SpanwiseError: Anything else that went wrong, as its own class; nothing is left running.
    """
    phases = _Phases(say)
    with phases.phase("prepare the model"):
        model = smollm2.prepare(say)
    with phases.phase("decide and plan"):
        article = article_verdict()
        verdict, plan, reference = _plans(options, model)
    ranks_on = {
        host: sum(rank.host == host for gang in plan.gangs for rank in gang.ranks) for host in plan.expected.hosts
    }
    spec = LabSpec(
        hosts=options.hosts,
        gpus_per_host=max(ranks_on.values()) + 1,  # one more for the one-rank reference
        link="unlimited" if options.rate_bit_per_s is None else f"{options.rate_bit_per_s / 1e6:g} Mbit/s",
        rate_bit_per_s=options.rate_bit_per_s,
        made_by="demo",
    )
    with phases.phase("lab up"):
        leash = bring.up(spec, port=options.port, wanted=options.isolation, progress=say)
    state = leash.state
    try:
        with PeakMemory(state.keeper_pid) as memory:
            target = serving.Target(lab=state)
            with phases.phase("serve both layouts"):
                gangs = serving.deploy(target, [plan, reference], say)
            before = link_bytes(state)
            with phases.phase("compare with one rank"):
                judgement = _prove(state.endpoint, options, say, tick)
            with phases.phase("ask as a client"):
                conversation = converse(state.endpoint, smollm2.SERVED_NAME, QUESTION)
            carried = _bytes_during(before, link_bytes(state))
        _check(judgement, conversation)
        if options.keep:
            settle()
            leash.commit()
    finally:
        if not leash.committed:
            with phases.phase("lab down"):
                bring.down()
    return Report(
        article=article,
        verdict=verdict,
        plan=plan,
        reference=reference,
        lab=state,
        gangs=gangs,
        judgement=judgement,
        conversation=conversation,
        link_bytes=carried,
        phases_s=phases.seconds,
        peak_memory_bytes=memory.peak_bytes,
        kept=options.keep,
    )
