"""config.json -> ModelFacts, one small function per family. Pure: a dict in, facts out; what is not known is refused.

Every count is proved equal to the parameter count of the model that transformers builds from the same config on
torch's meta device (tests/unit/facts/test_architectures.py). A family is added by adding its function to
``_FAMILIES`` and a case there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanwise.errors import ModelError
from spanwise.facts.config import Config
from spanwise.facts.model import LayerFacts, ModelFacts
from spanwise.facts.quantization import checkpoint_format

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """Grouped-query attention: sizes in elements."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    o_bias: bool = False
    extra: int = 0  # norms on q and k, attention sinks

    @property
    def split(self) -> int:
        return 2 * self.hidden * self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def other(self) -> int:
        bias = (self.heads + 2 * self.kv_heads) * self.head_dim if self.qkv_bias else 0
        return bias + (self.hidden if self.o_bias else 0) + self.extra

    def layer(self, *, mlp: int, other: int, window: int | None = None, **moe: int) -> LayerFacts:
        """This attention with an MLP of ``mlp`` split weights and ``other`` small parameters."""
        return LayerFacts(
            split_linear=self.split + mlp,
            kv_linear=self.kv,
            other=self.other + other,
            kv_values_per_token=2 * self.kv_heads * self.head_dim,
            kv_heads=self.kv_heads,
            score_width=2 * self.heads * self.head_dim,
            window=window,
            **moe,
        )


def _attention(c: Config, *, head_dim: int | None = None, **kwargs: Any) -> _Attention:
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    kv_heads = c.size("num_key_value_heads", heads)
    if heads % kv_heads:
        c.refuse("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads {heads}")
    width = c.optional_size("head_dim") or head_dim
    if width is None:
        if hidden % heads:
            c.refuse(
                "hidden_size", f"{hidden} is not a multiple of num_attention_heads {heads}, and head_dim is absent"
            )
        width = hidden // heads
    return _Attention(hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=width, **kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """What a family function returns; the rest of ModelFacts is the same for all."""

    layers: tuple[LayerFacts, ...]
    attention: _Attention
    tied: bool
    intermediate: int
    widths: tuple[int, ...] = ()
    head_bias: bool = False


def _windows(c: Config, layers: int, default: list[bool], size: int | None) -> list[int | None]:
    """Sliding window per layer: ``layer_types`` where the config has it, else ``default`` (True: sliding)."""
    kinds = c.layer_types(layers)
    sliding = [kind == "sliding_attention" for kind in kinds] if kinds else default
    return [size if slides else None for slides in sliding]


def _llama(c: Config) -> _Body:
    bias = c.flag("attention_bias", False)
    attention = _attention(c, qkv_bias=bias, o_bias=bias)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    mlp_bias = 2 * width + hidden if c.flag("mlp_bias", False) else 0
    layer = attention.layer(mlp=3 * hidden * width, other=2 * hidden + mlp_bias)
    tied = c.flag("tie_word_embeddings", False)
    return _Body(layers=(layer,) * layers, attention=attention, tied=tied, intermediate=width)


def _mistral(c: Config) -> _Body:
    attention = _attention(c)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    window = c.optional_size("sliding_window")
    windows = _windows(c, layers, [window is not None] * layers, window)
    return _Body(
        layers=tuple(attention.layer(mlp=3 * hidden * width, other=2 * hidden, window=w) for w in windows),
        attention=attention,
        tied=c.flag("tie_word_embeddings", False),
        intermediate=width,
    )


def _smollm3(c: Config) -> _Body:
    bias = c.flag("attention_bias", False)
    attention = _attention(c, qkv_bias=bias, o_bias=bias)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    if c.flag("mlp_bias", False) or c.flag("use_sliding_window", False):
        c.refuse("mlp_bias / use_sliding_window", "not known for this architecture")
    layer = attention.layer(mlp=3 * hidden * width, other=2 * hidden)
    return _Body(
        layers=(layer,) * layers,
        attention=attention,
        tied=c.flag("tie_word_embeddings", True),
        intermediate=width,
    )


def _phi3(c: Config) -> _Body:
    body = _mistral(c)
    if c.flag("attention_bias", False):
        c.refuse("attention_bias", "true is not known for this architecture")
    return body


def _qwen2(c: Config) -> _Body:
    attention = _attention(c, qkv_bias=True)
    return _qwen_dense(c, attention)


def _qwen3(c: Config) -> _Body:
    head_dim = c.size("head_dim", 128)
    bias = c.flag("attention_bias", False)
    attention = _attention(c, head_dim=head_dim, qkv_bias=bias, o_bias=bias, extra=2 * head_dim)
    return _qwen_dense(c, attention)


def _qwen_dense(c: Config, attention: _Attention) -> _Body:
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    window = c.optional_size("sliding_window") if c.flag("use_sliding_window", False) else None
    first = c.count("max_window_layers", layers)
    windows = _windows(c, layers, [window is not None and index >= first for index in range(layers)], window)
    return _Body(
        layers=tuple(attention.layer(mlp=3 * hidden * width, other=2 * hidden, window=w) for w in windows),
        attention=attention,
        tied=c.flag("tie_word_embeddings", False),
        intermediate=width,
    )


def _olmo2(c: Config) -> _Body:
    bias = c.flag("attention_bias", False)
    plain = _attention(c, qkv_bias=bias, o_bias=bias)
    # OLMo 2 normalises the whole q and k vectors, not each head.
    extra = (plain.heads + plain.kv_heads) * plain.head_dim
    attention = _attention(c, qkv_bias=bias, o_bias=bias, extra=extra)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    layer = attention.layer(mlp=3 * hidden * width, other=2 * hidden)
    tied = c.flag("tie_word_embeddings", False)
    return _Body(layers=(layer,) * layers, attention=attention, tied=tied, intermediate=width)


def _gemma(c: Config, *, norms: int, extra: int, pattern: int | None) -> _Body:
    """Gemma 1 to 3: tied, ``norms`` norms per layer, every ``pattern``-th layer with full attention."""
    bias = c.flag("attention_bias", False)
    attention = _attention(c, head_dim=256, qkv_bias=bias, o_bias=bias, extra=extra)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    window = c.optional_size("sliding_window") if pattern else None
    if pattern and window is None:
        c.missing("sliding_window")
    default = [pattern is not None and (index + 1) % pattern != 0 for index in range(layers)]
    windows = _windows(c, layers, default, window)
    return _Body(
        layers=tuple(attention.layer(mlp=3 * hidden * width, other=norms * hidden, window=w) for w in windows),
        attention=attention,
        tied=c.flag("tie_word_embeddings", True),
        intermediate=width,
    )


def _gemma1(c: Config) -> _Body:
    return _gemma(c, norms=2, extra=0, pattern=None)


def _gemma2(c: Config) -> _Body:
    return _gemma(c, norms=4, extra=0, pattern=2)


def _gemma3(c: Config) -> _Body:
    head_dim = c.size("head_dim", 256)
    return _gemma(c, norms=4, extra=2 * head_dim, pattern=c.size("sliding_window_pattern", 6))


def _mixtral(c: Config) -> _Body:
    attention = _attention(c)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    experts, visits = _experts(c, "num_local_experts")
    layer = attention.layer(
        mlp=0,
        other=2 * hidden + experts * hidden,
        window=c.optional_size("sliding_window"),
        expert_linear=3 * hidden * width * experts,
        experts=experts,
        experts_per_token=visits,
    )
    tied = c.flag("tie_word_embeddings", False)
    return _Body(layers=(layer,) * layers, attention=attention, tied=tied, intermediate=width)


def _experts(c: Config, key: str) -> tuple[int, int]:
    experts, visits = c.size(key), c.size("num_experts_per_tok")
    if visits > experts:
        c.refuse("num_experts_per_tok", f"{visits} is more than {key} {experts}")
    return experts, visits


def _qwen3_moe(c: Config) -> _Body:
    head_dim = c.optional_size("head_dim") or c.size("hidden_size") // c.size("num_attention_heads")
    bias = c.flag("attention_bias", False)
    attention = _attention(c, head_dim=head_dim, qkv_bias=bias, o_bias=bias, extra=2 * head_dim)
    return _qwen_moe(c, attention, shared=None)


def _qwen2_moe(c: Config) -> _Body:
    return _qwen_moe(c, _attention(c, qkv_bias=True), shared=c.size("shared_expert_intermediate_size"))


def _qwen_moe(c: Config, attention: _Attention, *, shared: int | None) -> _Body:
    layers, dense, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    width, step = c.size("moe_intermediate_size"), c.size("decoder_sparse_step", 1)
    experts, visits = _experts(c, "num_experts")
    only_dense = c.indices("mlp_only_layers")
    if c.flag("use_sliding_window", False):
        c.refuse("use_sliding_window", "true is not known for this architecture")

    def layer(index: int) -> LayerFacts:
        if index in only_dense or (index + 1) % step:
            return attention.layer(mlp=3 * hidden * dense, other=2 * hidden)
        return attention.layer(
            mlp=3 * hidden * (shared or 0),
            # The router, and Qwen2's gate in front of its shared expert.
            other=2 * hidden + experts * hidden + (hidden if shared else 0),
            expert_linear=3 * hidden * width * experts,
            experts=experts,
            experts_per_token=visits,
        )

    return _Body(
        layers=tuple(layer(index) for index in range(layers)),
        attention=attention,
        tied=c.flag("tie_word_embeddings", False),
        intermediate=width,
        widths=tuple(w for w in (shared, dense if only_dense or step > 1 else None) if w),
    )


def _gpt_oss(c: Config) -> _Body:
    heads = c.size("num_attention_heads")
    bias = c.flag("attention_bias", True)
    attention = _attention(c, head_dim=64, qkv_bias=bias, o_bias=bias, extra=heads)
    layers, width, hidden = c.size("num_hidden_layers"), c.size("intermediate_size"), c.size("hidden_size")
    experts, visits = _experts(c, "num_local_experts")
    windows = _windows(c, layers, [index % 2 == 0 for index in range(layers)], c.size("sliding_window", 128))
    return _Body(
        layers=tuple(
            attention.layer(
                mlp=0,
                # Norms, router with bias, biases of every expert.
                other=2 * hidden + experts * (hidden + 1) + experts * (2 * width + hidden),
                window=window,
                expert_linear=3 * hidden * width * experts,
                experts=experts,
                experts_per_token=visits,
            )
            for window in windows
        ),
        attention=attention,
        tied=c.flag("tie_word_embeddings", False),
        intermediate=width,
    )


def _deepseek(c: Config) -> _Body:
    """DeepSeek V2 and V3: latent attention (the cache keeps one compressed vector), shared and routed experts."""
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
    width, (experts, visits) = c.size("moe_intermediate_size"), _experts(c, "n_routed_experts")
    shared = c.count("n_shared_experts", 0)
    first, every = c.count("first_k_dense_replace", 0), c.size("moe_layer_freq", 1)

    def layer(index: int) -> LayerFacts:
        moe = index >= first and index % every == 0
        return LayerFacts(
            split_linear=split + 3 * hidden * (width * shared if moe else dense),
            expert_linear=3 * hidden * width * experts if moe else 0,
            kv_linear=0,
            replicated_linear=replicated,
            other=2 * hidden + latent + (q_rank or 0) + (experts * hidden if moe else 0),
            experts=experts if moe else 0,
            experts_per_token=visits if moe else 0,
            kv_values_per_token=latent + rope,
            kv_heads=1,
            score_width=heads * (nope + rope + value),
        )

    attention = _Attention(hidden=hidden, heads=heads, kv_heads=1, head_dim=nope + rope)
    widths = ((width * shared,) if shared else ()) + ((dense,) if first or every > 1 else ())
    return _Body(
        layers=tuple(layer(index) for index in range(layers)),
        attention=attention,
        tied=c.flag("tie_word_embeddings", False),
        intermediate=width,
        widths=widths,
    )


# Names of `architectures` that mean the same computation as Llama under another name are listed, not guessed.
_FAMILIES: dict[str, Callable[[Config], _Body]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "MinistralForCausalLM": _mistral,
    "Phi3ForCausalLM": _phi3,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "SmolLM3ForCausalLM": _smollm3,
    "GraniteForCausalLM": _llama,
    "Olmo2ForCausalLM": _olmo2,
    "GemmaForCausalLM": _gemma1,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "MixtralForCausalLM": _mixtral,
    "Qwen2MoeForCausalLM": _qwen2_moe,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "DeepseekV2ForCausalLM": _deepseek,
    "DeepseekV3ForCausalLM": _deepseek,
    "GptOssForCausalLM": _gpt_oss,
}

SUPPORTED = tuple(_FAMILIES)

# Keys under which a config describes a tower beside the text model.
_TOWERS = ("vision_config", "audio_config", "text_config", "speech_config", "vision_tower", "thinker_config")


def model_facts(config: Any, *, name: str = "model") -> ModelFacts:
    """Facts of the model that ``config`` (a parsed config.json) describes.

    Raises:
        ModelError: The architecture is unknown, has towers that would be ignored, or the config lacks or contradicts
        a size.
    """
    if not isinstance(config, dict):
        raise ModelError(
            f"config.json is a {type(config).__name__}, not a mapping",
            where=name,
            remedy="give the config.json of a model in Hugging Face form",
        )
    c = Config(config, name)
    architecture = c.architecture()
    towers = [key for key in _TOWERS if config.get(key) is not None]
    if towers or (architecture not in _FAMILIES and architecture.endswith("ForConditionalGeneration")):
        raise ModelError(
            f"{architecture} is multi-modal ({', '.join(towers) or 'by its name'}); its towers would not be counted",
            where=name,
            remedy="give the config.json of its text model alone, or of one of: " + ", ".join(SUPPORTED),
        )
    family = _FAMILIES.get(architecture)
    if family is None:
        raise ModelError(
            f"unknown architecture {architecture!r}; its parameters and KV cache would be a guess",
            where=name,
            remedy="supported are " + ", ".join(SUPPORTED),
        )
    body = family(c)
    vocab, hidden = c.size("vocab_size"), body.attention.hidden
    return ModelFacts(
        name=name,
        architecture=architecture,
        layer_facts=body.layers,
        hidden_size=hidden,
        heads=body.attention.heads,
        kv_heads=body.attention.kv_heads,
        head_dim=body.attention.head_dim,
        intermediate_size=body.intermediate,
        shared_widths=body.widths,
        vocab_size=vocab,
        tied_embeddings=body.tied,
        embedding_params=vocab * hidden,
        head_params=0 if body.tied else vocab * hidden,
        final_params=hidden,
        max_position=c.context_length(),
        weight_format=checkpoint_format(c),
    )
