"""``spanwise estimate``: the bare model's answer for a list of points."""

from __future__ import annotations

from typing import Annotated

import typer

from spanwise.cli import frame

_START = "examples/points.csv is one to start from"


def estimate(
    model: Annotated[str, typer.Option("--model", help="A catalogue or hub name, or a path to a config.json.")],
    gpu: Annotated[str, typer.Option("--gpu", help="A catalogue name.")],
    points: Annotated[str, typer.Option("--points", help="CSV: phase, batch, context_tokens, new_tokens.")],
    tensor_parallel_size: Annotated[int, typer.Option("--tensor-parallel-size", help="Ranks per stage.")] = 1,
    pipeline_parallel_size: Annotated[int, typer.Option("--pipeline-parallel-size", help="Stages.")] = 1,
    fabric: Annotated[str | None, typer.Option("--fabric", help="Link between nodes; none: all in one node.")] = None,
    gpus_per_node: Annotated[
        int | None,
        typer.Option(
            "--gpus-per-node",
            help="With --fabric. Default: one stage per node; one GPU per node where there is one stage.",
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="As in an intent; default: the checkpoint's.")] = None,
    gpu_memory_utilization: Annotated[float, typer.Option("--gpu-memory-utilization", help="As vLLM's.")] = 0.9,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option("--max-num-batched-tokens", help="As vLLM's; default: vLLM's own for this GPU.")
    ] = None,
    facts: Annotated[str | None, typer.Option("--facts", help="Facts that beat the catalogue.")] = None,
    as_json: frame.JsonFlag = False,
) -> None:
    """Predict single engine steps: prefill and decode, without load, with a range each.

    A row of prefill is `batch` prompts of `new_tokens` each, one of decode `new_tokens` steps for `batch` requests, each
    step at the stated context. A point that the KV cache or the model cannot hold is marked; its time is arithmetic only.

    Example: spanwise estimate --model meta-llama/Meta-Llama-3-8B --gpu H200-141GB-SXM --points examples/points.csv
    """
    frame.wants_json(as_json)
    from spanwise.checkpoints.resolve import resolve_config
    from spanwise.decide.judge import served_format
    from spanwise.decide.question import default_batched_tokens, default_max_sequences
    from spanwise.errors import FactsError, InputError, LayoutError
    from spanwise.estimate.layout import Layout, check_layout, needs_whole_experts
    from spanwise.estimate.memory import replica_memory
    from spanwise.estimate.points import answer, parse_points
    from spanwise.facts.architectures import model_facts
    from spanwise.facts.book import load_facts
    from spanwise.intent.load import read_text

    if not 0 < gpu_memory_utilization <= 1:
        raise InputError(
            f"is {gpu_memory_utilization:g}", where="--gpu-memory-utilization", remedy="give a share above 0, up to 1"
        )
    if max_num_batched_tokens is not None and not 1 <= max_num_batched_tokens <= 1 << 24:
        raise InputError(
            f"is {max_num_batched_tokens}", where="--max-num-batched-tokens", remedy="give 1 to 16777216 tokens"
        )
    tensor, pipeline = tensor_parallel_size, pipeline_parallel_size
    for name, size in (("--tensor-parallel-size", tensor), ("--pipeline-parallel-size", pipeline)):
        if not 1 <= size <= 100_000:
            raise LayoutError(f"is {size}", where=name, remedy="give a size from 1 to 100000")
    if gpus_per_node is not None and not 1 <= gpus_per_node <= 1024:
        raise LayoutError(f"is {gpus_per_node}", where="--gpus-per-node", remedy="give 1 to 1024")
    book = load_facts(facts)
    found = model_facts(resolve_config(model).config, name=model)
    weights = served_format(dtype, found)
    card = book.gpu(gpu)
    link = None if fabric is None else book.fabric(fabric, where="--fabric")
    if link is None and gpus_per_node is not None:
        if gpus_per_node < tensor * pipeline:
            raise LayoutError(
                f"{tensor * pipeline} ranks on nodes of {gpus_per_node} GPUs need a link between the nodes",
                where="--gpus-per-node",
                remedy="name it with --fabric, or leave --gpus-per-node away: all ranks are in one node then",
            )
        frame.note("--gpus-per-node changes nothing without --fabric: all ranks are in one node")
    per_node = tensor * pipeline if link is None else gpus_per_node or (tensor if pipeline > 1 else 1)
    layout = Layout(tensor, pipeline, per_node, expert_parallel=needs_whole_experts(found, tensor))
    check_layout(found, layout)
    if layout.world_size > layout.nodes and card.link is None:
        raise FactsError(
            f"nothing is known about the link between GPUs of a node with {gpu}",
            where="--gpu",
            remedy="use a GPU of the catalogue, or add its link",
        )
    tokens = max_num_batched_tokens or default_batched_tokens(card)
    memory = replica_memory(
        found,
        weights,
        layout,
        gpu_memory_bytes=card.memory.value,
        utilization=gpu_memory_utilization,
        batched_tokens=tokens,
        max_sequences=default_max_sequences(card),
        cuda=card.cuda,
    )
    answers = answer(
        parse_points(read_text(points, error=InputError, what="a points file", start=_START), where=points),
        model=found,
        weights=weights,
        gpu=card,
        fabric=link,
        layout=layout,
        batched_tokens=tokens,
        memory=memory,
    )
    if as_json:
        frame.print_json(
            {
                "schema": "spanwise.estimate/1",
                "model": model,
                "gpu": gpu,
                "fabric": fabric,
                "dtype": weights.name,
                "tensor_parallel_size": tensor,
                "pipeline_parallel_size": pipeline,
                "nodes": layout.nodes,
                "kv_capacity_tokens": memory.kv_capacity_tokens,
                "points": [item.as_json() for item in answers],
            }
        )
        return
    room = f"{memory.kv_capacity_tokens} tokens" if memory.fits else "none: the weights do not fit"
    frame.echo(
        f"{model} in {weights.name} on {gpu}, TP={tensor} PP={pipeline} over {layout.nodes} node(s); KV cache: {room}"
    )
    frame.echo(f"{'phase':<8} {'batch':>6} {'context':>9} {'new':>9} {'time ms':>12}  range")
    for item in answers:
        point, (low, high) = item.point, item.uncertainty
        frame.echo(
            f"{point.phase:<8} {point.batch:>6} {point.context_tokens:>9} {point.new_tokens:>9} {item.time_ms:>12.2f}  "
            f"{low:.2f} to {high:.2f}{'' if item.why_not is None else f'  does not fit: {item.why_not}'}"
        )
    if any(item.point.phase == "decode" and item.point.new_tokens > 1 for item in answers):
        frame.echo("decode with new > 1: so many steps, each at the stated context")
