"""The Plan: a verdict made concrete. Serialisable, hashed, and it names the state that it expects.

A plan is stored data: it is read back by other commands, other hosts and later versions. It is validated when read
(pydantic), and its hash covers every field but the hash itself, so an edited plan says so.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = "spanwise.plan/1"


class _Stored(BaseModel):
    """Base of what a plan file holds: unknown keys are refused, because the hash would not cover their meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRef(_Stored):
    """Which weights run, and under which name clients ask for them."""

    served_name: str = Field(description="What clients put into `model`.")
    source: str = Field(description="A directory, or a hub name.")
    revision: str | None = Field(default=None, description="Pinned commit on the hub; None for a directory.")
    config_sha256: str = Field(description="Hash of the config.json the plan was made from (canonical JSON).")


class Layout(_Stored):
    """How one replica is cut, and how many there are."""

    tensor_parallel_size: int = Field(ge=1)
    pipeline_parallel_size: int = Field(ge=1)
    replicas: int = Field(ge=1)
    dtype: str
    gpu_memory_utilization: float = Field(gt=0, le=1)
    max_model_len: int = Field(ge=1, description="Tokens.")

    @property
    def world_size(self) -> int:
        """Ranks of one gang."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


class Stage(_Stored):
    """One pipeline stage: layers ``first_layer`` up to, not including, ``end_layer``."""

    index: int
    first_layer: int
    end_layer: int
    weights_bytes_per_rank: int


class Rank(_Stored):
    """One rank of a gang and the place where it must run."""

    rank: int = Field(description="Global rank: stage x tensor_parallel_size + tensor_rank, vLLM's own order.")
    stage: int
    tensor_rank: int
    domain: str = Field(description="The set of hosts that share a fabric tier and fail together.")
    host: str = Field(description="Host name as the cluster labels it (`spanwise.io/host`).")


class GangPlan(_Stored):
    """The ranks of one replica. It lives, dies and moves as a whole."""

    id: str
    ranks: tuple[Rank, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts in rank order, each once."""
        return tuple(dict.fromkeys(rank.host for rank in self.ranks))


class Setting(_Stored):
    """One environment variable for every rank, with its reason and where that was learnt."""

    name: str
    value: str
    reason: str
    source: str


class Expected(_Stored):
    """The state the plan was made for; `up` refuses when the cluster is no longer like this."""

    gpu: str
    gpus_per_node: int
    hosts: tuple[str, ...]
    fabric: str
    facts_kind: Literal["catalogue", "measured", "mixed"]


class Plan(_Stored):
    """A verdict made concrete."""

    schema_: Literal["spanwise.plan/1"] = Field(default=SCHEMA, alias="schema")
    name: str = Field(description="Slug of the served name; prefix of the gang ids.")
    hash: str = ""
    spanwise_version: str
    intent: dict[str, Any] = Field(description="The intent as asked, for `diff` and for later re-planning.")
    verdict: str
    justified: bool
    reasons: tuple[str, ...] = Field(description="Reason codes of the verdict.")
    model: ModelRef
    layout: Layout
    stages: tuple[Stage, ...]
    gangs: tuple[GangPlan, ...]
    engine_args: dict[str, Any] = Field(description="vLLM engine arguments under their upstream names.")
    environment: tuple[Setting, ...] = ()
    expected: Expected

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def canonical_json(self) -> str:
        """The text the hash is computed from: sorted keys, no hash field."""
        return json.dumps(
            self.model_dump(mode="json", by_alias=True, exclude={"hash"}), sort_keys=True, separators=(",", ":")
        )

    def computed_hash(self) -> str:
        """Sha256 of the canonical JSON, shortened to 16 hex digits (64 bit)."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def sealed(self) -> Self:
        """This plan with its hash filled in."""
        return self.model_copy(update={"hash": self.computed_hash()})
