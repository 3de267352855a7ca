"""`adopt`: what runs becomes an Intent and a Plan, so that lint, audit and migrate have something to start from. Changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spanwise.checkpoints.resolve import ResolvedConfig, resolve_config
from spanwise.cluster.address import ray_address
from spanwise.decide import PinnedLayout, Verdict, decide
from spanwise.errors import InputError, IntentError, LayoutError, ModelError, OutsideError
from spanwise.facts import catalogue
from spanwise.facts.architectures import model_facts
from spanwise.intent.load import intent_from
from spanwise.journey.adopted import Found, Note, found_in, found_on
from spanwise.journey.deploy import Target, describe
from spanwise.plan.environment import refusal
from spanwise.plan.make import plan
from spanwise.plan.types import Plan
from spanwise.render.plans import SECRET_TEXT
from spanwise.render.upstream import accelerator_type

INPUT_TOKENS, OUTPUT_TOKENS, CONCURRENCY = 1024, 256, 8
FABRIC = "ethernet-10g"
# Engine arguments that an intent has a key for, or that a plan makes anew.
_SAID_OTHERWISE = frozenset(
    {
        "tensor_parallel_size", "pipeline_parallel_size", "dtype", "quantization", "max_model_len", "gpu_memory_utilization", "revision",
        "distributed_executor_backend", "nnodes", "enable_expert_parallel",
    }
)  # fmt: skip
_DTYPES = {"half": "float16", "float16": "float16", "bfloat16": "bfloat16", "float": "float32", "float32": "float32"}
_QUANTIZED = {"fp8": "fp8", "awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "mxfp4": "mxfp4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says beside the source; None where the source, or an assumption, answers."""

    model: str | None = None
    gpu: str | None = None
    gpus_per_node: int | None = None
    nodes: int | None = None
    fabric: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_rate_per_s: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """One model: its intent, its plan where one could be made, and everything that was not said."""

    name: str
    where: str
    intent: dict[str, Any]
    plan: Plan | None
    notes: tuple[Note, ...]


def adopt_file(data: bytes, file: str, given: Given) -> list[Adopted]:
    """What a file runs.

    Raises:
        ManifestError: Nothing in it can be adopted.
        InputError: Something is missing that only the user can say.
    """
    return [_adopt(model, given) for model in found_in(data, file)]


def adopt_cluster(address: str, given: Given) -> list[Adopted]:
    """What a running Ray cluster serves.

    Raises:
        InputError: The address is empty, or the cluster runs another version of Ray.
        ClusterError: It did not answer.
        ManifestError: It serves nothing that can be adopted.
    """
    target = Target(ray_address=ray_address(address))
    return [_adopt(model, given) for model in found_on(describe(target), address)]


def _adopt(found: Found, given: Given) -> Adopted:
    if found.plan is not None:
        return Adopted(
            name=found.name, where=found.where, intent=found.plan.intent, plan=found.plan, notes=tuple(found.notes)
        )
    notes = list(found.notes)
    document = _intent(found, given, notes)
    _refuse_secrets(found, document)
    intent = intent_from(document, where=f"what {found.where} says")
    made = _plan(found, document, notes)
    if made is not None:
        notes += _not_kept(found, made)
    return Adopted(name=found.name, where=found.where, intent=intent.as_json(), plan=made, notes=tuple(notes))


def _refuse_secrets(found: Found, document: dict[str, Any]) -> None:
    """Intents and plans are shown, kept and committed.

    Raises:
        InputError: What would stand in them looks like a secret; it is not repeated.
    """
    for key, text in (("model", document["model"]), ("revision", document.get("revision")), ("its name", found.name)):
        if isinstance(text, str) and SECRET_TEXT.search(text):
            raise InputError(
                f"{key} holds a secret (not repeated here), and an intent must not carry it",
                where=found.where,
                remedy="take it out of the source; name the model with --model, and give the secret through the environment",
            )


def _intent(found: Found, given: Given, notes: list[Note]) -> dict[str, Any]:
    source = given.model or found.source
    if not source:
        raise InputError(
            "where the model's weights come from is not said", where=found.where, remedy="name the model with --model"
        )
    gpu = given.gpu or _gpu(found, notes)
    per_node = given.gpus_per_node or found.gpus_per_node
    ranks = found.tensor * found.pipeline
    if per_node is None:
        per_node = ranks if found.one_host else found.tensor
        notes.append(
            Note(
                kind="assumed",
                what="hardware.gpus_per_node",
                text=f"not said; {per_node}, so that a stage fits one host",
            )
        )
    nodes = given.nodes or found.nodes
    if nodes is None:
        nodes = math.ceil(ranks * found.replicas / per_node)
        notes.append(Note(kind="assumed", what="hardware.nodes", text=f"not said; the {nodes} that the layout needs"))
    hardware: dict[str, Any] = {"gpu": gpu, "gpus_per_node": per_node, "nodes": nodes}
    if found.hosts is not None and nodes == len(found.hosts):
        hardware["hosts"] = list(found.hosts)
    if nodes > 1:
        hardware["fabric"] = given.fabric or FABRIC
        if given.fabric is None:
            notes.append(
                Note(
                    kind="assumed",
                    what="hardware.fabric",
                    text=f"what joins the hosts is not said; {FABRIC}; name it with --fabric",
                )
            )
    document: dict[str, Any] = {"model": source, "hardware": hardware}
    arguments = found.arguments
    if dtype := _dtype(arguments, notes):
        document["dtype"] = dtype
    length = arguments.get("max_model_len")
    if isinstance(length, int) and not isinstance(length, bool) and length >= 2:
        document["max_model_len"] = length
    share = arguments.get("gpu_memory_utilization")
    # On CPU the share is of the machine's memory, which the ranks have in common: it says nothing about one rank's room.
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1 and not gpu.startswith("lab-"):
        document["gpu_memory_utilization"] = float(share)
    if isinstance(arguments.get("revision"), str):
        document["revision"] = arguments["revision"]
    document["workload"] = _workload(given, document.get("max_model_len"), notes)
    return document


def _gpu(found: Found, notes: list[Note]) -> str:
    """The catalogue's GPU for Ray's accelerator type.

    Raises:
        InputError: Nobody says what it runs on.
    """
    known = list(catalogue.gpus())
    kind = found.accelerator or ""
    # A100-40G and A100-80G are Ray's names for the two memories of one type.
    wanted, _, memory = kind.partition("-")
    fitting = [name for name in known if accelerator_type(name) == kind] or [
        name for name in known if memory in ("40G", "80G") and name.startswith(f"{wanted}-{memory}")
    ]
    if not fitting:
        said = f"accelerator type {kind[:40]!r} is not in the catalogue" if kind else "what GPU it runs on is not said"
        raise InputError(said, where=found.where, remedy=f"name it with --gpu: {', '.join(known)}")
    if len(fitting) > 1:
        notes.append(
            Note(
                kind="assumed",
                what="hardware.gpu",
                text=f"{kind} may be {', '.join(fitting)}; the first was taken; name it with --gpu",
            )
        )
    return fitting[0]


def _dtype(arguments: dict[str, Any], notes: list[Note]) -> str | None:
    quantized, dtype = arguments.get("quantization"), arguments.get("dtype")
    if isinstance(quantized, str):
        if quantized in _QUANTIZED:
            return _QUANTIZED[quantized]
        notes.append(
            Note(
                kind="not_kept",
                what="quantization",
                text=f"{quantized[:40]} has no name in an intent; the checkpoint's own counts",
            )
        )
    return _DTYPES.get(dtype) if isinstance(dtype, str) else None


def _workload(given: Given, longest: int | None, notes: list[Note]) -> dict[str, Any]:
    output = given.output_tokens or (min(OUTPUT_TOKENS, max(1, longest // 4)) if longest else OUTPUT_TOKENS)
    inputs = given.input_tokens or (min(INPUT_TOKENS, max(1, longest - output)) if longest else INPUT_TOKENS)
    workload: dict[str, Any] = {"input_tokens": inputs, "output_tokens": output}
    if given.request_rate_per_s is not None:
        workload["request_rate_per_s"] = given.request_rate_per_s
    if given.concurrency is not None or given.request_rate_per_s is None:
        workload["concurrency"] = given.concurrency or CONCURRENCY
    assumed = [
        key
        for key, value in (("input_tokens", given.input_tokens), ("output_tokens", given.output_tokens))
        if value is None
    ]
    if given.request_rate_per_s is None and given.concurrency is None:
        assumed.append("concurrency")
    for key in assumed:
        notes.append(
            Note(kind="assumed", what=f"workload.{key}", text=f"what is asked of it is not said; {workload[key]}")
        )
    return workload


def _plan(found: Found, document: dict[str, Any], notes: list[Note]) -> Plan | None:
    """The plan of the layout that runs; None, with a note, where it cannot be made."""
    intent = intent_from(document)
    try:
        resolved = resolve_config(intent.model, intent.revision)
        facts = model_facts(resolved.config, name=intent.model)
    except (ModelError, OutsideError) as error:
        notes.append(Note(kind="unknown", what="model", text=f"no plan: {error.what}; {error.remedy}"))
        return None
    pinned = PinnedLayout(
        tensor_parallel_size=found.tensor, pipeline_parallel_size=found.pipeline, replicas=found.replicas
    )
    try:
        verdict: Verdict = decide(intent, facts, pinned=pinned)
        if verdict.chosen is None:
            reasons = "; ".join(reason.text for reason in verdict.reasons)
            notes.append(
                Note(
                    kind="unknown",
                    what="plan",
                    text=f"no plan: by its memory budget this layout does not run: {reasons}",
                )
            )
            return None
        interface = found.environment.get("GLOO_SOCKET_IFNAME")
        return plan(
            intent,
            facts,
            verdict,
            source=_source(resolved),
            config=resolved.config,
            revision=None if resolved.source == "path" else resolved.revision or intent.revision,
            served_name=found.name,
            interface=interface if interface and not refusal("GLOO_SOCKET_IFNAME", interface) else None,
        )
    except (LayoutError, ModelError, IntentError) as error:
        notes.append(Note(kind="unknown", what="plan", text=f"no plan: {error.what}; {error.remedy}"))
        return None


def _source(resolved: ResolvedConfig) -> str:
    if resolved.source == "path" and resolved.path is not None:
        return str(resolved.path.parent.absolute())
    return resolved.name


def _not_kept(found: Found, made: Plan) -> list[Note]:
    """Engine arguments and variables of the source that the plan does not carry; names only."""
    names = sorted(set(map(str, found.arguments)) - _SAID_OTHERWISE - set(made.engine_args))
    settings = {setting.name for setting in made.environment}
    variables = sorted(set(found.environment) - settings)
    notes = [
        Note(kind="not_kept", what=name[:80], text="an engine argument that a plan does not carry") for name in names
    ]
    notes += [
        Note(kind="not_kept", what=name[:80], text="an environment variable that the plan does not set")
        for name in variables
    ]
    share = found.arguments.get("gpu_memory_utilization")
    if share is not None and share != made.engine_args.get("gpu_memory_utilization"):
        notes.append(
            Note(kind="not_kept", what="gpu_memory_utilization", text="the plan has its own share of the memory")
        )
    return notes
