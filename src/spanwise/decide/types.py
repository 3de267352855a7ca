"""The Verdict and its parts: the JSON of the contract as frozen values. Units are in the names."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from spanwise.errors import InputError
from spanwise.facts.fact import Fact

if TYPE_CHECKING:
    from spanwise.decide.codes import FlipCode, ReasonCode, RejectedCode

SCHEMA = "spanwise.verdict/1"

Span = Literal["one_gpu", "one_node", "multi_node", "infeasible"]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedLayout:
    """A layout the user (or a demonstration) insists on. None leaves a size to the judgement."""

    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    replicas: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why: a stable code, a sentence, and the figures the sentence rests on."""

    code: ReasonCode
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The whole deployment. ``stage_layers`` is vLLM's own split (get_pp_indices), unless a reason ``uneven_stages`` says why not."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    replicas: int
    nodes: int
    gpus: int
    dtype: str
    gpu_memory_utilization: float
    max_model_len: int
    max_num_batched_tokens: int
    stage_layers: tuple[int, ...]
    expert_parallel: bool = False

    @property
    def world_size(self) -> int:
        """Ranks of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBudget:
    """One pipeline stage: layers ``first_layer`` up to, not including, ``end_layer``; bytes are of one rank (GPU)."""

    index: int
    first_layer: int
    end_layer: int
    weights_bytes_per_gpu: int
    kv_bytes_per_token_per_gpu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Where one GPU's memory goes; the figures of the tightest stage. ``kv_capacity_tokens`` is of one replica."""

    gpu_memory_bytes: int
    usable_bytes: int
    weights_bytes_per_gpu: int
    activation_bytes_per_gpu: int
    reserve_bytes_per_gpu: int
    kv_bytes_per_gpu: int
    kv_bytes_per_token_per_gpu: int
    kv_capacity_tokens: int
    kv_needed_tokens: int
    stages: tuple[StageBudget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What the deployment will do. ``uncertainty`` holds ranges: every rate taken at its best, and at its worst.

    ``ttft_ms`` and its percentile are None where the queue grows without end. A closed loop (``concurrency``) counts all requests of
    three rounds, the first burst included; ``steady_*`` leave the burst out. Costs are in the currency of the intent's
    ``prices_per_gpu_hour``, None where it has no price for this GPU.
    """

    ttft_ms: float | None
    ttft_p95_ms: float | None
    tpot_ms: float
    tpot_p95_ms: float
    output_tokens_per_s: float
    requests_per_s: float
    max_requests_per_s: float
    concurrency: float
    steady_ttft_ms: float | None = None
    steady_ttft_p95_ms: float | None = None
    steady_tpot_ms: float | None = None
    preemptions: int = 0
    cost_per_hour: float | None = None
    cost_per_million_output_tokens: float | None = None
    uncertainty: dict[str, Range] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """What would have to change for another verdict. ``from_`` and ``to`` in the unit of ``what``."""

    what: FlipCode
    from_: float | int | str
    to: float | int | str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An alternative that was judged and not taken."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    replicas: int
    dtype: str
    code: RejectedCode
    text: str
    role: str = "other"
    gpu: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    predicted: Predicted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A candidate that no other one judged beats in TPOT, TTFT, requests per second and GPUs at once.

    ``ttft_ms`` is None where the queue grows without end; ``cost_per_hour`` is in the currency of the intent's ``prices_per_gpu_hour``,
    None without a price; ``uneven_stage_layers`` is None where the stages are vLLM's own. Figures are the formula's, those of the chosen
    one replayed (docs/verdicts.md).
    """

    tensor_parallel_size: int
    pipeline_parallel_size: int
    replicas: int
    nodes_per_replica: int
    gpus: int
    tpot_ms: float
    ttft_ms: float | None
    requests_per_s: float
    cost_per_hour: float | None
    keeps_objectives: bool
    chosen: bool
    uneven_stage_layers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What fails together, and what that costs. Shares are of 1; availability is of the whole load."""

    hosts_per_replica: int
    replicas_per_host: int
    one_host_takes_replicas: int
    one_host_takes_share: float
    host_availability: float
    replica_availability: float
    availability: float
    target: float | None
    spares_for_target: int | None
    spares: int = 0  # kept idle, on GPUs of their own; counted among the replicas that one host takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Is spreading this model justified, how, and why; ``chosen`` is None for ``infeasible``."""

    verdict: Span
    justified: bool
    reasons: tuple[Reason, ...]
    chosen: Chosen | None
    memory: MemoryBudget | None
    predicted: Predicted | None
    flips: tuple[Flip, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    facts: tuple[Fact, ...] = ()
    failure: Failure | None = None
    pareto: tuple[FrontPoint, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The contract's JSON document."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "justified": self.justified,
            "reasons": [_plain(item) for item in self.reasons],
            "chosen": None if self.chosen is None else _plain(self.chosen),
            "memory": None if self.memory is None else _plain(self.memory),
            "predicted": None if self.predicted is None else _plain(self.predicted),
            "flips": [_plain(item) for item in self.flips],
            "rejected": [_plain(item) for item in self.rejected],
            "facts": [fact.as_json() for fact in self.facts],
            "failure": None if self.failure is None else _plain(self.failure),
            "pareto": [_plain(item) for item in self.pareto],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Verdict:
        """Read back what :meth:`as_json` wrote.

        Raises:
            InputError: Not a verdict of this schema.
        """
        try:
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema is {document['schema']!r}")
            chosen, memory = document["chosen"], document["memory"]
            return cls(
                verdict=document["verdict"],
                justified=document["justified"],
                reasons=tuple(Reason(**item) for item in document["reasons"]),
                chosen=None if chosen is None else Chosen(**{**chosen, "stage_layers": tuple(chosen["stage_layers"])}),
                memory=None
                if memory is None
                else MemoryBudget(**{**memory, "stages": tuple(StageBudget(**stage) for stage in memory["stages"])}),
                predicted=_predicted(document["predicted"]),
                failure=None if document.get("failure") is None else Failure(**document["failure"]),
                pareto=tuple(_front_point(item) for item in document.get("pareto", ())),
                flips=tuple(
                    Flip(**{("from_" if key == "from" else key): value for key, value in item.items()})
                    for item in document["flips"]
                ),
                rejected=tuple(
                    Rejected(**{**item, "predicted": _predicted(item["predicted"])}) for item in document["rejected"]
                ),
                facts=tuple(Fact(**item) for item in document["facts"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"not a verdict of schema {SCHEMA}: {type(error).__name__}: {error}"[:300],
                remedy="make one with `spanwise decide INTENT.yaml --json`",
            ) from None


def _front_point(document: dict[str, Any]) -> FrontPoint:
    split = document.get("uneven_stage_layers")
    return FrontPoint(**{**document, "uneven_stage_layers": None if split is None else tuple(split)})


def _predicted(document: dict[str, Any] | None) -> Predicted | None:
    if document is None:
        return None
    ranges = {key: (low, high) for key, (low, high) in document["uncertainty"].items()}
    return Predicted(**{**document, "uncertainty": ranges, "caveats": tuple(document["caveats"])})


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts as JSON values; field names are the contract's keys (``from_`` is ``from``)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name.rstrip("_"): _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
