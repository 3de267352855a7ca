"""Dense first layers, then routed experts beside a shared one: DeepSeek V2 and V3 (latent attention), GLM-4.5, Llama 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwise.facts.architectures.blocks import Attention, Body, attention, experts, sizes, tied
from spanwise.facts.model import LayerFacts

if TYPE_CHECKING:
    from spanwise.facts.config import Config


def deepseek(c: Config) -> Body:
    """DeepSeek V2, V3, R1, Kimi K2: latent attention (the cache keeps one compressed vector), shared and routed experts."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    latent, rope = c.size("kv_lora_rank"), c.size("qk_rope_head_dim")
    nope, value = c.size("qk_nope_head_dim"), c.size("v_head_dim")
    q_rank = c.optional_size("q_lora_rank")
    if c.flag("attention_bias", False):
        c.refuse("attention_bias", "true is not known for this architecture")
    q_width = heads * (nope + rope)
    split = (q_rank or hidden) * q_width + latent * heads * (nope + value) + heads * value * hidden
    replicated = hidden * (latent + rope) + (hidden * q_rank if q_rank else 0)
    layers, dense = c.size("num_hidden_layers"), c.size("intermediate_size")
    width, (count, visits) = c.size("moe_intermediate_size"), experts(c, "n_routed_experts")
    shared = c.count("n_shared_experts", 0)
    first, step = c.count("first_k_dense_replace", 0), c.size("moe_layer_freq", 1)

    def layer(moe: bool) -> LayerFacts:
        return LayerFacts(
            split_linear=split + 3 * hidden * (width * shared if moe else dense),
            attention_linear=split,
            expert_linear=3 * hidden * width * count if moe else 0,
            kv_linear=0,
            replicated_linear=replicated,
            other=2 * hidden + latent + (q_rank or 0) + (count * hidden if moe else 0),
            experts=count if moe else 0,
            experts_per_token=visits if moe else 0,
            kv_values_per_token=latent + rope,
            kv_heads=1,
            score_width=heads * (nope + rope + value),
        )

    kinds = {moe: layer(moe) for moe in (False, True)}
    return Body(
        layers=tuple(kinds[index >= first and index % step == 0] for index in range(layers)),
        attention=Attention(hidden=hidden, heads=heads, kv_heads=1, head_dim=nope + rope),
        tied=tied(c),
        intermediate=width,
        widths=((width * shared,) if shared else ()) + ((dense,) if first or step > 1 else ()),
    )


def glm4_moe(c: Config) -> Body:
    """GLM-4.5: grouped-query attention; its prediction layer (MTP) is loaded only for speculative decoding."""
    bias = c.flag("attention_bias", False)
    plain = attention(c)
    extra = 2 * plain.head_dim if c.flag("use_qk_norm", False) else 0
    a = attention(c, qkv_bias=bias, extra=extra)
    s, width, (count, visits) = sizes(c), c.size("moe_intermediate_size"), experts(c, "n_routed_experts")
    shared, first = c.count("n_shared_experts", 1), c.count("first_k_dense_replace", 1)
    dense = a.layer(mlp=3 * s.hidden * s.width, other=2 * s.hidden)
    mixture = a.layer(
        mlp=3 * s.hidden * width * shared,
        other=2 * s.hidden + count * s.hidden,
        expert_linear=3 * s.hidden * width * count,
        experts=count,
        experts_per_token=visits,
    )
    return Body(
        layers=tuple(dense if index < first else mixture for index in range(s.layers)),
        attention=a,
        tied=tied(c),
        intermediate=width,
        widths=((width * shared,) if shared else ()) + ((s.width,) if first else ()),
    )


def llama4(c: Config) -> Body:
    """Llama 4: experts in every n-th layer beside a shared one; all but every fourth layer attend within chunks."""
    bias = c.flag("attention_bias", False)
    a = attention(c, head_dim=128, qkv_bias=bias, o_bias=bias)
    s, dense = sizes(c), c.size("intermediate_size_mlp")
    count, visits = experts(c, "num_local_experts")
    step = c.size("interleave_moe_layer_step", 1)
    chosen = c.raw("moe_layers")
    mixtures = frozenset(range(step - 1, s.layers, step)) if chosen is None else c.indices("moe_layers")
    chunk = c.optional_size("attention_chunk_size") if c.has("attention_chunk_size") else 8192
    kinds = c.layer_types(s.layers)
    if kinds:
        local = [kind == "chunked_attention" for kind in kinds]
    else:
        rope = c.switches("no_rope_layers", s.layers)  # 1: rotary positions, and chunks
        interval = c.size("no_rope_layer_interval", 4)
        local = rope or [(index + 1) % interval != 0 for index in range(s.layers)]

    def layer(index: int) -> LayerFacts:
        window = chunk if local[index] else None
        if index not in mixtures:
            return a.layer(mlp=3 * s.hidden * dense, other=2 * s.hidden, window=window, chunked=True)
        return a.layer(
            mlp=3 * s.hidden * s.width,
            other=2 * s.hidden + count * s.hidden,
            window=window,
            chunked=True,
            expert_linear=3 * s.hidden * s.width * count,
            experts=count,
            experts_per_token=visits,
        )

    # Two thousand layers are a few distinct ones: equal layers are made one object, which the estimate counts on.
    made: dict[LayerFacts, LayerFacts] = {}
    return Body(
        layers=tuple(made.setdefault(facts, facts) for facts in map(layer, range(s.layers))),
        attention=a,
        tied=tied(c),
        intermediate=s.width,
        widths=(dense,) if len(mixtures) < s.layers else (),
    )
