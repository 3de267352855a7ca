"""What a lab is asked to be, and what it turned out to be (the state file)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spanwise.errors import InputError
from spanwise.lab.processes import start_ticks
from spanwise.lab.wiring import LOGICAL_CPUS, MAX_GPUS, MAX_HOSTS, Isolation

# A CPU rank needs about a megabyte of shared memory per message queue slot, Ray an object store: measured with vLLM 0.32
# and Ray 2.60, a gang of two ranks touches less than 200 MiB. Below this an engine start dies with a bus error.
MIN_SHM_BYTES = 192 * 2**20


class HostShape(BaseModel):
    """One host that differs from its neighbours: what Ray counts on it. Used where a manifest's groups are emulated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str = Field(description="The group of the manifest that it belongs to.")
    gpus: int = Field(ge=0, le=MAX_GPUS)
    cpus: float = Field(default=LOGICAL_CPUS, ge=0)
    resources: dict[str, float] = Field(default_factory=dict, description="Custom resources of Ray.")
    labels: dict[str, str] = Field(default_factory=dict, description="Ray labels beside the lab's own.")


class Confinement(BaseModel):
    """What hosts on which foreign code may run are given of the machine; everything else is not there (lab/sandbox.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    readable: tuple[str, ...] = Field(description="Directories shown at their own place, read-only.")
    code: str = Field(default="", description="Directory of the foreign code; a copy stands at /code.")


class LabSpec(BaseModel):
    """What `lab up` was asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: int = Field(ge=1, le=MAX_HOSTS)
    gpus_per_host: int = Field(ge=1, le=64, description="Logical GPUs that Ray schedules; each is a CPU rank here.")
    link: str = Field(description="Fabric name or 'unlimited'.")
    rate_bit_per_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Rate of each host's link; None is not limited."
    )
    scale: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="Real fabric rate divided by the lab's rate."
    )
    shm_bytes: int = Field(default=2 * 2**30, gt=0, description="Size of each host's /dev/shm.")
    domains: int = Field(default=1, ge=1, description="Hosts are dealt to this many failure domains, in order.")
    ray: bool = True
    made_by: Literal["lab", "up", "demo", "run"] = Field(
        default="lab", description="Which command brought it up; `down` takes away what `up` made."
    )

    confined: Confinement | None = Field(
        default=None, description="Set where foreign code may run: everything on the hosts then runs without rights."
    )
    shapes: tuple[HostShape, ...] = Field(default=(), description="Per host; empty: all have gpus_per_host GPUs.")

    @model_validator(mode="after")
    def _one_shape_per_host(self) -> Self:
        if self.shapes and len(self.shapes) != self.hosts:
            raise ValueError(f"{len(self.shapes)} shapes for {self.hosts} hosts")
        return self

    def shape(self, index: int) -> HostShape:
        """What Ray counts on the host number ``index`` (from 0)."""
        return self.shapes[index] if self.shapes else HostShape(group="", gpus=self.gpus_per_host)


class HostState(BaseModel):
    """One emulated host, as it is."""

    name: str
    address: str
    domain: str
    gpus: int = Field(ge=0)
    group: str = Field(
        default="", description="Group of the manifest that the host stands for; empty outside `lab run`."
    )
    init_pid: int = Field(gt=0, description="Pid of the host's first process, as the machine sees it.")
    init_started: int = Field(description="Its kernel start time (clock ticks): tells a reused pid apart.")

    @property
    def alive(self) -> bool:
        """False when the host's first process, and with it the host, is gone."""
        return start_ticks(self.init_pid) == self.init_started


class LabState(BaseModel):
    """The one file that `lab status` reads."""

    schema_: Literal["spanwise.lab/1"] = Field(default="spanwise.lab/1", alias="schema")
    spec: LabSpec
    isolation: Isolation
    keeper_pid: int = Field(gt=0)
    token: str = Field(description="Names this lab and no other: whoever removes the file looks for it first.")
    keeper_started: int = Field(description="Kernel start time of the keeper (clock ticks): tells a reused pid apart.")
    hosts: tuple[HostState, ...] = Field(min_length=1)
    ray_address: str
    endpoint: str = Field(description="Where the door is reachable from this machine (loopback only).")
    created: str
    cannot_show: tuple[str, ...] = ()

    model_config = ConfigDict(populate_by_name=True)

    def host(self, name: str) -> HostState:
        """The host called ``name``.

        Raises:
            InputError: There is no such host; the message names those there are.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise InputError(
            f"no host {name!r} in this lab",
            where="lab",
            remedy="use one of: " + ", ".join(h.name for h in self.hosts),
        )


def state_dir() -> Path:
    """Directory of the lab's state file: ``SPANWISE_STATE_DIR``, else the platform's state directory."""
    if given := os.environ.get("SPANWISE_STATE_DIR"):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_state_dir("spanwise"))


# Bits per second that `tc` shapes sensibly; bounds also keep arithmetic from overflowing.
LEAST_RATE, MOST_RATE = 1e4, 1e13
_MOST_BYTES = 2**50
# ASCII: digits of other scripts and the Kelvin sign look alike and are somebody's mistake.
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_RATE = re.compile(r"(\d+(?:\.\d+)?) *([kmgt]?)bit(?:/s)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str, *, key: str) -> int:
    """Bytes of ``512M``, ``2G`` (powers of 1024).

    Raises:
        InputError: Not such a text.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise InputError(f"{text[:80]!r} is not a size", where=key, remedy="write it like 512M or 2G")
    size = float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")
    if size > _MOST_BYTES:
        raise InputError(
            f"{text[:80]!r} is larger than any host's memory", where=key, remedy="write it like 512M or 2G"
        )
    return int(size)


def parse_rate(text: str, *, key: str) -> float:
    """Bits per second of ``100mbit``, ``1.5gbit`` (powers of 1000, as `tc` reads them).

    Raises:
        InputError: Not such a text, or zero.
    """
    match = _RATE.fullmatch(text)
    value = float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " ") if match else 0.0
    if not LEAST_RATE <= value <= MOST_RATE:
        raise InputError(
            f"{text[:80]!r} is not a usable link rate",
            where=key,
            remedy="write it like 100mbit or 1gbit (10kbit to 10tbit)",
        )
    return value
