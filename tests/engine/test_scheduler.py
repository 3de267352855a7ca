"""The replay plans the same steps as the installed vLLM's own scheduler. No engine is started: only the class `Scheduler` is driven.

The replay's clock says when requests arrive and when steps end; each of its calls is repeated on vLLM's scheduler, with fake outputs of one
token per request that is through its prompt. Compared step by step: how many tokens of which request.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spanwise.estimate import replay as replaying
from spanwise.estimate.layout import Layout
from spanwise.estimate.rates import rates
from spanwise.estimate.serving import Load
from spanwise.estimate.step import costs
from spanwise.facts.architectures import model_facts
from spanwise.facts.book import FactBook
from spanwise.facts.catalogue import model_config

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine

# The shape does not matter to a scheduler; the length does.
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
Planned = dict[int, int]  # request, in order of arrival -> tokens of this step


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A closed loop and an engine."""

    concurrency: int
    inputs: int
    outputs: int
    batched_tokens: int = 256
    blocks: int = 1000
    sequences: int = 8
    ahead: bool = True
    stages: int = 1
    requests: int = 12
    gpu: bool = False
    """As on a GPU, where vLLM takes its V2 model runner; else as on CPU."""


class Theirs:
    """vLLM's scheduler, as the engine core drives it."""

    @dataclass(frozen=True, slots=True)
    class Step:
        """What was planned, and whose prompts are through with it."""

        output: Any
        through: set[str]

        @property
        def planned(self) -> Planned:
            return {int(name): tokens for name, tokens in self.output.num_scheduled_tokens.items()}

    def __init__(self, case: Case, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch
        from vllm.config import CacheConfig, DeviceConfig, ModelConfig, ParallelConfig, SchedulerConfig, VllmConfig
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        (directory / "config.json").write_text(json.dumps(_CONFIG), "utf-8")
        length = 16384
        model = ModelConfig(
            model=str(directory), skip_tokenizer_init=True, max_model_len=length, dtype="bfloat16", seed=0
        )
        scheduling = SchedulerConfig(
            max_model_len=length,
            is_encoder_decoder=False,
            max_num_seqs=case.sequences,
            max_num_batched_tokens=case.batched_tokens,
            enable_chunked_prefill=True,
            async_scheduling=case.ahead,
        )
        # Prompts of a load differ, so nothing is found in a prefix cache; what preempted requests find there is another question.
        cache = CacheConfig(block_size=replaying.BLOCK_TOKENS, enable_prefix_caching=False)
        config = VllmConfig(
            model_config=model,
            scheduler_config=scheduling,
            cache_config=cache,
            device_config=DeviceConfig("cpu"),
            parallel_config=ParallelConfig(),
        )
        # Set afterwards: two stages would ask for two devices, asynchronous scheduling for an executor that allows it, and the V2 runner
        # for Triton. No worker is started here, and the scheduler reads all of it from the configuration.
        config.parallel_config.pipeline_parallel_size = case.stages
        config.scheduler_config.async_scheduling = case.ahead
        monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1" if case.gpu else "0")
        # One block is the null block, which no request gets.
        blocks = case.blocks + 1
        cache.num_gpu_blocks = blocks
        spec = FullAttentionSpec(block_size=replaying.BLOCK_TOKENS, num_kv_heads=1, head_size=16, dtype=torch.float32)
        held = KVCacheConfig(
            num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
        )
        kind = AsyncScheduler if case.ahead else Scheduler
        self.scheduler = kind(
            vllm_config=config,
            kv_cache_config=held,
            structured_output_manager=StructuredOutputManager(config),
            block_size=replaying.BLOCK_TOKENS,
        )
        self.most_in_flight = config.max_concurrent_batches

    def add(self, number: int, prompt: int, output: int) -> None:
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        sampling = SamplingParams(ignore_eos=True, max_tokens=output)
        sampling.update_from_generation_config({}, 999)
        self.scheduler.add_request(
            Request(
                request_id=str(number),
                prompt_token_ids=[number % 900] * prompt,
                sampling_params=sampling,
                pooling_params=None,
            )
        )

    def schedule(self) -> Theirs.Step:
        planned = self.scheduler.schedule()
        requests = self.scheduler.requests
        # Who is through the prompt gets a token. That is known now: by the time the step ends others may be planned.
        through = {name for name in planned.num_scheduled_tokens if not requests[name].is_prefill_chunk}
        return Theirs.Step(planned, through)

    def settle(self, step: Theirs.Step) -> None:
        from vllm.v1.outputs import ModelRunnerOutput

        names = list(step.output.num_scheduled_tokens)
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[[7] if name in step.through else [] for name in names],
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        self.scheduler.update_from_output(step.output, output)


@dataclass(slots=True)
class Steps:
    """What was planned, by both alike, and how many steps were in flight at most."""

    planned: list[Planned] = field(default_factory=list)
    preemptions: int = 0
    most_in_flight: int = 0
    their_most_in_flight: int = 0


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Case], Steps]:
    def run(case: Case) -> Steps:
        their, steps = Theirs(case, tmp_path, monkeypatch), Steps()
        # Known by identity, so everything is kept alive.
        requests: list[Any] = []
        flying: list[tuple[Any, Theirs.Step]] = []

        class Recorded(replaying._Engine):
            """The replay's engine; what it is told is told to vLLM's scheduler too."""

            def schedule(self) -> Any:
                for request in self.waiting:
                    if request not in requests:
                        their.add(len(requests), request.prompt, request.output)
                        requests.append(request)
                self.plan: Planned = {}
                found = super().schedule()
                theirs = their.schedule()
                if self.plan or theirs.planned:
                    steps.planned.append(self.plan)
                assert self.plan == theirs.planned, (
                    f"step {len(steps.planned)}: the replay plans {self.plan}, vLLM {theirs.planned}"
                )
                if found is not None:
                    flying.append((found[1], theirs))
                    steps.most_in_flight = max(steps.most_in_flight, len(flying))
                return found

            def _plan(self, step: Any, chunks: Any, request: Any, new: int, need: int) -> None:
                self.plan[requests.index(request)] = new
                super()._plan(step, chunks, request, new, need)

            def settle(self, step: Any, now: float) -> int:
                ours, theirs = flying.pop(0)
                assert ours is step
                their.settle(theirs)
                return super().settle(step, now)

            def stretch(self, step: Any, work: Any, most: int) -> int:
                return 1

        # Steps that the replay takes many at once are taken singly; test_replay.py shows that this changes nothing.
        monkeypatch.setattr(replaying, "_Engine", Recorded)
        monkeypatch.setattr(replaying, "_leap", lambda engine, flying, now, entry_free, *rest: (now, entry_free, 0.0))
        model, book = model_facts(model_config("meta-llama/Meta-Llama-3-8B")), FactBook()
        weights = model.weight_format
        used = rates(book.gpu("H100-80GB-SXM"), book.fabric("ib-ndr-400g"), weights, "expected")
        seen = replaying.replay(
            used,
            costs(model, weights, Layout(1, case.stages, 8)),
            Load(input_tokens=case.inputs, output_tokens=case.outputs, concurrency=case.concurrency),
            kv_capacity_tokens=case.blocks * replaying.BLOCK_TOKENS,
            batched_tokens=case.batched_tokens,
            max_sequences=case.sequences,
            requests=case.requests,
            async_scheduling=case.ahead,
        )
        assert seen.complete
        steps.preemptions, steps.their_most_in_flight = seen.preemptions, their.most_in_flight
        return steps

    return run


LOOPS = [
    Case(concurrency=concurrency, inputs=inputs, outputs=outputs, ahead=ahead)
    for ahead in (True, False)
    for concurrency in (1, 3, 8)
    for inputs, outputs in ((100, 20), (700, 20), (256, 1), (16, 33))
]
PIPELINES = [
    Case(concurrency=concurrency, inputs=inputs, outputs=20, ahead=False, stages=2)
    for concurrency in (1, 3, 8)
    for inputs in (100, 700)
]
DEPTH = pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="the replay runs a pipeline synchronously, one step per stage; vLLM on a GPU asynchronously, with one step more in flight",
)
# The smallest loop that shows it, then eight requests of 40 + 40 tokens, which need 40 blocks.
TIGHT = [
    pytest.param(Case(concurrency=2, inputs=16, outputs=4, batched_tokens=24, blocks=2)),
    *(
        pytest.param(Case(concurrency=8, inputs=40, outputs=40, blocks=20, ahead=ahead, stages=stages))
        for ahead, stages in ((True, 1), (False, 1), (False, 2))
    ),
    *(
        pytest.param(Case(concurrency=8, inputs=40, outputs=40, blocks=blocks, ahead=ahead, stages=stages))
        for blocks in (27, 33)
        for ahead, stages in ((True, 1), (False, 2))
    ),
    *(Case(concurrency=8, inputs=40, outputs=40, blocks=blocks, ahead=False) for blocks in (27, 33)),
]
# Prompts that several steps compute, in a cache that does not hold all of them.
LONG = [
    pytest.param(Case(concurrency=2, inputs=40, outputs=20, batched_tokens=48, blocks=4)),
    *(
        pytest.param(Case(concurrency=3, inputs=700, outputs=20, blocks=blocks, ahead=ahead, stages=stages))
        for blocks in (60, 100)
        for ahead, stages in ((True, 1), (False, 1), (False, 2))
    ),
]


def name_of(case: Case) -> str:
    way = "async" if case.ahead else "sync"
    return f"{case.concurrency}x{case.inputs}+{case.outputs}-{case.blocks}blocks-{way}-pp{case.stages}"


@pytest.mark.parametrize("case", LOOPS, ids=name_of)
def test_one_stage(case: Case, both: Callable[[Case], Steps]) -> None:
    steps = both(case)
    assert len(steps.planned) >= case.requests // case.concurrency
    assert steps.preemptions == 0
    assert steps.most_in_flight <= steps.their_most_in_flight == (2 if case.ahead else 1)


@pytest.mark.parametrize("case", PIPELINES, ids=name_of)
def test_two_stages(case: Case, both: Callable[[Case], Steps]) -> None:
    assert both(case).their_most_in_flight == 2


@pytest.mark.parametrize("case", TIGHT, ids=name_of)
def test_a_cache_too_small_for_all(case: Case, both: Callable[[Case], Steps]) -> None:
    assert both(case).preemptions > 0


@pytest.mark.parametrize("case", LONG, ids=name_of)
def test_long_prompts_in_a_cache_too_small_for_all(case: Case, both: Callable[[Case], Steps]) -> None:
    both(case)


@pytest.mark.parametrize("stages", [1, pytest.param(2, marks=DEPTH)])
def test_as_on_a_gpu(stages: int, both: Callable[[Case], Steps]) -> None:
    """Long prompts in many chunks fill whatever depth there is."""
    steps = both(Case(concurrency=8, inputs=4000, outputs=20, stages=stages, blocks=4000, gpu=True))
    assert steps.most_in_flight == steps.their_most_in_flight
