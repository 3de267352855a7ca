"""`lab run`: a manifest on emulated hosts, with small models in the place of its own, asked and taken down again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spanwise.checkpoints import small
from spanwise.checkpoints.resolve import read_config, resolve_config
from spanwise.errors import EngineError, LayoutError, ManifestError, SpanwiseError
from spanwise.estimate.layout import Layout, check_layout
from spanwise.facts.architectures import model_facts
from spanwise.journey import foreign
from spanwise.journey.client import Reply, reply
from spanwise.journey.deploy import Target, apply_config
from spanwise.journey.memory import PeakMemory
from spanwise.journey.prompts import QUESTION
from spanwise.journey.rehearsal import Rehearsal, check_size, rehearse, serve_config
from spanwise.journey.rehearsed_models import Model
from spanwise.lab import bring
from spanwise.lab.machine import free_bytes
from spanwise.lab.processor import quick_dtype
from spanwise.lab.spec import LabSpec, LabState
from spanwise.lab.wiring import Isolation
from spanwise.reading import bytes_of
from spanwise.render.lint.documents import MAX_BYTES
from spanwise.render.manifest import read_manifest

Progress = Callable[[str], None]
ANSWER_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a manifest is run."""

    shrink: bool = False
    max_ranks: int | None = None
    isolation: Isolation | None = None
    port: int = 0
    keep: bool = False
    allow_code: bool = False
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One model and what it said; ``error`` instead of ``reply`` where it said nothing."""

    model: Model
    stands_in: str
    replicas: list[list[str]]
    reply: Reply | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was seen."""

    rehearsal: Rehearsal
    lab: LabState
    asked: tuple[Asked, ...]
    answers: tuple[foreign.Answer, ...] = ()
    left_with: list[dict[str, Any]] | None = None
    phases_s: dict[str, float]
    peak_memory_bytes: int
    kept: bool

    @property
    def all_answered(self) -> bool:
        """True when every model did, and every application of foreign code."""
        return all(asked.reply is not None for asked in self.asked) and not any(found.error for found in self.answers)


def load(file: str) -> bytes:
    """The bytes of a manifest.

    Raises:
        ManifestError: It cannot be read.
    """
    try:
        return bytes_of(file, MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "not a regular file"
        raise ManifestError(
            f"cannot be read: {reason}", where=file[:200], remedy="give the path of a manifest"
        ) from None


def prepare(data: bytes, file: str, options: Options) -> Rehearsal:
    """Everything that is decided before anything is started.

    Raises:
        ManifestError: Not a manifest that can be run here.
        LayoutError: More than this machine holds, or a layout that the manifest's own model forbids.
    """
    manifest = read_manifest(data, file, allow_code=options.allow_code)
    code_dir = foreign.code_directory(manifest, options.code) if options.allow_code else ""
    rehearsal = rehearse(manifest, dtype=quick_dtype(), shrink=options.shrink, code_dir=code_dir)
    for model in rehearsal.models:
        small.small_config(model.shape)
        _check_original(model)
    check_size(rehearsal, free_bytes=free_bytes(), max_ranks=options.max_ranks)
    return rehearsal


def _check_original(model: Model) -> None:
    """The small model must not hide that the manifest's own cannot be cut like that; asked only of what lies on this machine.

    Raises:
        LayoutError: Its heads or layers forbid the layout.
    """
    if not model.source:
        return
    try:
        config = resolve_config(model.source, environ={**os.environ, "HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}).config
        facts = model_facts(config, name=model.source)
    except SpanwiseError:
        return  # nothing is known of it here
    tensor, stages, layers = model.shape.tensor_parallel_size, model.shape.pipeline_parallel_size, model.shape.layers
    if layers is not None and layers != facts.layers:
        raise LayoutError(
            f"the stages' lengths add up to {layers}, {model.source} has {facts.layers} layers",
            where=f"{model.where}: {model.name}",
            remedy="give lengths that add up to the model's layers",
        )
    try:
        check_layout(facts, Layout(tensor, stages, tensor * stages))
    except LayoutError as error:
        raise LayoutError(error.what, where=f"{model.where}: {model.name}", remedy=error.remedy) from None


def run(rehearsal: Rehearsal, options: Options, say: Progress, *, settle: Callable[[], None] = lambda: None) -> Report:
    """Bring the hosts up, apply the config, ask every model, take everything down.

    Args:
        rehearsal: What `prepare` decided.
        options: How.
        say: Takes one line per step.
        settle: Called before what runs is left running for good.

    Raises:
        SpanwiseError: What went wrong, as its own class; nothing is left running.
    """
    phases: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        phases[name] = round(time.monotonic() - started, 2)
        say(f"{name}: {phases[name]:.1f} s")

    shapes = sorted({model.shape for model in rehearsal.models}, key=lambda shape: shape.name)
    directories = {}
    if shapes:
        with phase("prepare the models"):
            directories = {shape: small.prepare(shape, say) for shape in shapes}
    config = serve_config(
        rehearsal, directories, {shape: read_config(path / "config.json") for shape, path in directories.items()}
    )
    spec = LabSpec(
        hosts=len(rehearsal.hosts),
        gpus_per_host=max([1, *(host.gpus for host in rehearsal.hosts)]),
        link="unlimited",
        shapes=rehearsal.hosts,
        made_by="run",
        confined=None
        if rehearsal.code is None
        else foreign.confinement(rehearsal.code_dir, (path.absolute() for path in directories.values())),
    )
    if spec.confined and os.geteuid() == 0:
        foreign.open_to_all(directories.values())
    with phase("lab up"):
        leash = bring.up(spec, port=options.port, wanted=options.isolation, progress=say)
    answers: tuple[foreign.Answer, ...] = ()
    left_with = None
    try:
        if spec.confined:
            with phase("check that no rights are left"):
                left_with = foreign.left_with(leash.state)
        with PeakMemory(leash.state.keeper_pid) as memory:
            with phase("apply the Serve config"):
                replicas = apply_config(Target(lab=leash.state), config, say, ranks=rehearsal.ranks)
            with phase("ask every model"):
                asked = tuple(_ask(model, rehearsal, leash.state, replicas) for model in rehearsal.models)
            if rehearsal.foreign:
                with phase("ask the foreign applications"):
                    answers = tuple(
                        foreign.ask(leash.state.endpoint, item.name, item.foreign.import_path, item.route_prefix)
                        for item in rehearsal.foreign
                        if item.foreign
                    )
        if options.keep:
            settle()
            leash.commit()
    finally:
        if not leash.committed:
            with phase("lab down"):
                bring.down()
    return Report(
        rehearsal=rehearsal,
        lab=leash.state,
        asked=asked,
        answers=answers,
        left_with=left_with,
        phases_s=phases,
        peak_memory_bytes=memory.peak_bytes,
        kept=options.keep,
    )


def _ask(model: Model, rehearsal: Rehearsal, lab: LabState, replicas: list[dict[str, Any]]) -> Asked:
    application = next(item for item in rehearsal.manifest.applications if item.name == model.application)
    wanted = _deployments(model)
    places = [
        replica["hosts"]
        for replica in replicas
        if replica["application"] == model.application and replica["deployment"] in wanted
    ]
    found = Asked(model=model, stands_in=model.shape.name, replicas=places)
    base_url = f"{lab.endpoint}{application.route_prefix.rstrip('/')}"
    try:
        return dataclasses.replace(found, reply=reply(base_url, model.name, QUESTION, max_tokens=ANSWER_TOKENS))
    except EngineError as error:
        return dataclasses.replace(found, error=error.what)


def _deployments(model: Model) -> set[str]:
    """Names of the Serve deployments of a model: one per gang in our runtime, else one, named as Ray Serve LLM does."""
    if model.plan is not None:
        return {f"gang-{gang.id}" for gang in model.plan.gangs}
    return {f"LLMServer:{model.name.replace('/', '--').replace('.', '_')}"}
