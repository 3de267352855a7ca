"""Intent + Verdict -> Plan. Pure: the same input gives the same plan, and the same hash."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from spanwise import __version__
from spanwise.errors import InputError, LayoutError
from spanwise.estimate.layout import stage_layers
from spanwise.facts.dtypes import weight_format
from spanwise.plan.placement import place
from spanwise.plan.types import Expected, GangPlan, Layout, ModelRef, Plan, Rank, Setting, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanwise.decide.types import Chosen, MemoryBudget, Verdict
    from spanwise.facts.model import ModelFacts
    from spanwise.intent.types import Hardware, Intent

# Quantisations that vLLM makes from a full checkpoint while it loads, and its name for each (`--quantization`).
_ON_THE_FLY = {"fp8": "fp8"}
# The only domain a plan knows until hosts are probed: hosts that one fabric joins.
_DOMAIN = "domain-1"
# vLLM's CPU worker refuses to start when this share of the NUMA node is not free, and in the lab several ranks start on
# one machine (0.2 is plenty for a small model, measured on 23 GiB).
_LAB_MEMORY_SHARE = 0.2
_LAB_KV_BYTES_AT_LEAST = 128 * 2**20
# Linux: at most 15 characters, no slash, no space.
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,14}")
_TORCH = (
    "PyTorch, torch.distributed: https://docs.pytorch.org/docs/stable/distributed.html (common environment variables)"
)
_VLLM_STAGES = "vLLM, get_pp_indices (vllm/distributed/utils.py)"
_NCCL = "NCCL user guide: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"


def plan(
    intent: Intent,
    model: ModelFacts,
    verdict: Verdict,
    *,
    source: str,
    config: Mapping[str, Any],
    revision: str | None = None,
    served_name: str | None = None,
    interface: str | None = None,
    network: tuple[Setting, ...] = (),
) -> Plan:
    """Make a verdict concrete.

    Args:
        intent: What was asked.
        model: The model's facts.
        verdict: The judgement on them; its ``chosen`` layout is what is planned.
        source: Where the engine finds the weights: a directory, or a name on the hub.
        config: The model's config.json, to recognise another one later.
        revision: The commit of the hub that ``config`` came from; None for a directory, or when nobody knows.
        served_name: What clients ask for; None for the model's own name.
        interface: Network interface that joins the hosts, by the name it has on all of them; None when unknown.
        network: Settings that a probe found to be needed (`plan.network`); used where gangs span hosts, and beaten by ``interface``.

    Raises:
        InputError: A name that cannot be one.
        LayoutError: The verdict is infeasible; the hosts have no room; weights of this dtype need another checkpoint.
    """
    chosen = verdict.chosen
    if chosen is None or verdict.memory is None:
        raise LayoutError(
            "the verdict is infeasible: there is nothing to plan",
            where=intent.model,
            remedy="see `spanwise decide` for what would make it feasible",
        )
    name = _checked("served_model_name", _own_name(source, intent.model) if served_name is None else served_name)
    if interface is not None and not _INTERFACE.fullmatch(interface):
        raise InputError(
            f"{interface[:40]!r} is no name of a network interface", where="interface", remedy="see `ip link` on a host"
        )
    hosts = host_names(intent.hardware)
    gpus_per_host = intent.hardware.gpus_per_node
    gangs = _gangs(slug(name), chosen, hosts, gpus_per_host)
    used = tuple(host for host in hosts if any(host in gang.hosts for gang in gangs))
    gpu = intent.hardware.gpu if isinstance(intent.hardware.gpu, str) else intent.hardware.gpu.name
    spans = any(len(gang.hosts) > 1 for gang in gangs)
    length = _max_model_len(intent, model, verdict)
    stated = _environment(interface, spans=spans, lab=_is_lab(gpu))
    probed = tuple(item for item in network if spans and item.name not in {setting.name for setting in stated})
    return Plan(
        name=slug(name),
        spanwise_version=__version__,
        intent=intent.as_json(),
        verdict=verdict.verdict,
        justified=verdict.justified,
        reasons=tuple(dict.fromkeys(reason.code for reason in verdict.reasons)),
        model=ModelRef(served_name=name, source=source, revision=revision, config_sha256=config_sha256(config)),
        layout=Layout(
            tensor_parallel_size=chosen.tensor_parallel_size,
            pipeline_parallel_size=chosen.pipeline_parallel_size,
            replicas=chosen.replicas,
            dtype=chosen.dtype,
            gpu_memory_utilization=chosen.gpu_memory_utilization,
            max_model_len=length,
        ),
        stages=tuple(
            Stage(
                index=stage.index,
                first_layer=stage.first_layer,
                end_layer=stage.end_layer,
                weights_bytes_per_rank=stage.weights_bytes_per_gpu,
            )
            for stage in verdict.memory.stages
        ),
        gangs=gangs,
        engine_args={
            "model": source,
            "served_model_name": name,
            **_engine_args(model, chosen, length),
            **({"revision": revision} if revision else {}),
            **_executor(spans=spans, lab=_is_lab(gpu)),
            **(_lab_memory(verdict.memory, length) if _is_lab(gpu) else {}),
        },
        environment=(*_partition(chosen), *stated, *probed),
        expected=Expected(
            gpu=gpu,
            gpus_per_node=gpus_per_host,
            hosts=used,
            fabric=_fabric(intent.hardware),
            facts_kind=_facts_kind(verdict),
        ),
    ).sealed()


def _checked(what: str, name: str) -> str:
    """A name that clients type and files hold.

    Raises:
        InputError: Empty, very long, or with characters that cannot be printed.
    """
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InputError(f"{name[:40]!r} is no name", where=what, remedy="use 1 to 200 printable characters")
    return name


def host_names(hardware: Hardware) -> tuple[str, ...]:
    """The hosts by name: the intent's own, or ``host-1`` to ``host-N``."""
    return hardware.hosts or tuple(f"host-{number}" for number in range(1, hardware.nodes + 1))


def config_sha256(config: Mapping[str, Any]) -> str:
    """Sha256 of a config.json, independent of its spacing and the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _gangs(name: str, chosen: Chosen, hosts: tuple[str, ...], gpus_per_host: int) -> tuple[GangPlan, ...]:
    tensor = chosen.tensor_parallel_size
    placed = place(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=chosen.pipeline_parallel_size,
        replicas=chosen.replicas,
        hosts=hosts,
        gpus_per_host=gpus_per_host,
    )
    return tuple(
        GangPlan(
            id=f"{name}-{number}",
            ranks=tuple(
                Rank(rank=rank, stage=rank // tensor, tensor_rank=rank % tensor, domain=_DOMAIN, host=host)
                for rank, host in enumerate(places)
            ),
        )
        for number, places in enumerate(placed)
    )


def _max_model_len(intent: Intent, model: ModelFacts, verdict: Verdict) -> int:
    """Tokens of the longest request.

    As asked; else the model's own longest where the KV cache holds it with a tenth to spare (vLLM does not start where
    it does not, and the capacity is a prediction); else what the verdict counted with. The verdict's is a floor, taken
    from the load: a server that refuses longer requests than that, though it has the room, would be the worse server, and
    the command has one flag less (docs/verdicts.md).
    """
    chosen, memory, longest = verdict.chosen, verdict.memory, model.max_position
    if chosen is None or memory is None or longest is None or intent.max_model_len is not None:
        return chosen.max_model_len if chosen else 1
    return longest if memory.kv_capacity_tokens >= 1.1 * longest else chosen.max_model_len


def _engine_args(model: ModelFacts, chosen: Chosen, length: int) -> dict[str, Any]:
    """Sizes and precision. What vLLM reads from the checkpoint is left to it; ``trust_remote_code`` is never set."""
    arguments: dict[str, Any] = {
        "tensor_parallel_size": chosen.tensor_parallel_size,
        "pipeline_parallel_size": chosen.pipeline_parallel_size,
        **({"enable_expert_parallel": True} if chosen.expert_parallel else {}),
        **_precision(model, chosen.dtype),
        "gpu_memory_utilization": chosen.gpu_memory_utilization,
    }
    if length != model.max_position:  # else vLLM takes it from config.json
        arguments["max_model_len"] = length
    return arguments


def _executor(*, spans: bool, lab: bool) -> dict[str, Any]:
    """Who starts the ranks: Ray where they have several hosts, and in the lab, whose GPUs only Ray knows."""
    if not spans and not lab:
        return {}
    arguments: dict[str, Any] = {"distributed_executor_backend": "ray"}
    if lab:
        # Guard: with --enforce-eager a pipeline on CPU dies at its first request (vLLM 0.32: the CPU worker skips the
        # profile run); tracing once without a compiler avoids both that and minutes of compiling.
        arguments["compilation_config"] = {"mode": 2, "backend": "eager"}
    return arguments


def _lab_memory(memory: MemoryBudget, length: int) -> dict[str, Any]:
    """Memory of a rank in the lab, whose hosts share one machine: a small share, and a KV cache of the size needed."""
    tokens = max(memory.kv_needed_tokens, length)
    needed = max(stage.kv_bytes_per_token_per_gpu for stage in memory.stages) * tokens
    return {
        "gpu_memory_utilization": _LAB_MEMORY_SHARE,
        "kv_cache_memory_bytes": max(_LAB_KV_BYTES_AT_LEAST, needed),
    }


def _precision(model: ModelFacts, dtype: str) -> dict[str, Any]:
    """``dtype`` and ``quantization`` for the weights that the verdict counted."""
    asked, stored = weight_format(dtype), model.weight_format
    if asked.name == stored.name:
        # vLLM's `auto` keeps 16-bit and quantised checkpoints as they are, but turns float32 into 16 bits.
        return {"dtype": "float32" if asked.name == "float32" else "auto"}
    if not asked.quantised and not stored.quantised:
        return {"dtype": asked.name}
    if asked.name in _ON_THE_FLY and not stored.quantised:
        return {"dtype": "auto" if stored.name != "float32" else "bfloat16", "quantization": _ON_THE_FLY[asked.name]}
    raise LayoutError(
        f"{model.name} is stored as {stored.name}; vLLM cannot make {asked.name} of it while loading",
        where="dtype",
        remedy=f"name a checkpoint that is stored as {asked.name} as the model, or leave dtype out",
    )


def _partition(chosen: Chosen) -> tuple[Setting, ...]:
    """The layers per stage, where they are not those that vLLM would choose itself."""
    own = stage_layers(sum(chosen.stage_layers), chosen.pipeline_parallel_size)
    if chosen.stage_layers == own:
        return ()
    reason = f"layers per stage; vLLM's own split is {','.join(map(str, own))}, whose first or last stage is too slow or too full"
    value = ",".join(map(str, chosen.stage_layers))
    return (Setting(name="VLLM_PP_LAYER_PARTITION", value=value, reason=reason, source=_VLLM_STAGES),)


def _environment(interface: str | None, *, spans: bool, lab: bool) -> tuple[Setting, ...]:
    """As little as possible: only what is known and needed. A wrong interface name keeps a gang from forming at all."""
    if not spans or interface is None:
        return ()
    reason = "hosts may have several interfaces; this one joins them"
    settings = [Setting(name="GLOO_SOCKET_IFNAME", value=interface, reason=reason, source=_TORCH)]
    if not lab:
        exact = f"{reason}; NCCL reads the leading = as 'exactly this name', without it {interface}1 would match too"
        settings.append(Setting(name="NCCL_SOCKET_IFNAME", value=f"={interface}", reason=exact, source=_NCCL))
    return tuple(settings)


def _is_lab(gpu: str) -> bool:
    return gpu.startswith("lab-")


def _fabric(hardware: Hardware) -> str:
    fabric = hardware.fabric
    if fabric is None:
        return "none"
    if isinstance(fabric, str):
        return fabric
    return f"inline: {fabric.latency_us:g} us, {fabric.bandwidth_gbit_per_s:g} Gbit/s"


def _facts_kind(verdict: Verdict) -> Literal["catalogue", "measured", "mixed"]:
    measured = {fact.kind == "measured" for fact in verdict.facts}
    if measured == {True}:
        return "measured"
    return "mixed" if True in measured else "catalogue"


def _own_name(source: str, asked: str) -> str:
    """A hub name as it is; a directory by its last part."""
    if source.startswith(("/", ".")):
        return source.rstrip("/").rsplit("/", 1)[-1] or "model"
    return asked if "/" in asked and not asked.startswith(("/", ".")) else source


def slug(name: str) -> str:
    """``meta-llama/Meta-Llama-3-70B`` as ``meta-llama-3-70b``: fit for file names, labels and Kubernetes."""
    text = re.sub(r"[^a-z0-9]+", "-", name.rsplit("/", 1)[-1].lower()).strip("-")
    if not text or not text[0].isalpha():
        text = f"m-{text}".rstrip("-")
    if len(text) <= 40:
        return text
    return f"{text[:33].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
