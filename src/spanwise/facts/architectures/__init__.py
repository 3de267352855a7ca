"""config.json -> ModelFacts, one small function per family. Pure: a dict in, facts out; what is not known is refused.

Every count is proved equal to the parameter count of the model that transformers builds from the same config on
torch's meta device (tests/unit/facts/test_architectures.py). A family is added by adding its function to
``_FAMILIES`` (or ``towers.TOWERS``) and a case there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from spanwise.errors import ModelError
from spanwise.facts.architectures import assumed, gemma, layernorm, llama, mixtures, qwen, shared_experts
from spanwise.facts.architectures.towers import TEXT_DEFAULTS, TOWERS
from spanwise.facts.config import Config
from spanwise.facts.model import ModelFacts
from spanwise.facts.quantization import checkpoint_format
from spanwise.facts.unconverted import effective_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanwise.facts.architectures.blocks import Body

# Names of `architectures` that mean the same computation as Llama under another name are listed, not guessed.
_FAMILIES: dict[str, Callable[[Config], Body]] = {
    "LlamaForCausalLM": llama.llama,
    "MistralForCausalLM": llama.mistral,
    "MinistralForCausalLM": llama.mistral,
    "Ministral3ForCausalLM": llama.ministral3,
    "Phi3ForCausalLM": llama.phi3,
    "Qwen2ForCausalLM": qwen.qwen2,
    "Qwen3ForCausalLM": qwen.qwen3,
    "SmolLM3ForCausalLM": llama.smollm3,
    "GraniteForCausalLM": llama.llama,
    "SeedOssForCausalLM": llama.seed_oss,
    "Ernie4_5ForCausalLM": llama.ernie,
    "Olmo2ForCausalLM": llama.olmo2,
    "Olmo3ForCausalLM": llama.olmo3,
    "Exaone4ForCausalLM": llama.exaone4,
    "GlmForCausalLM": llama.glm,
    "Glm4ForCausalLM": llama.glm4,
    "PhiForCausalLM": layernorm.phi,
    "FalconForCausalLM": layernorm.falcon,
    "Starcoder2ForCausalLM": layernorm.starcoder2,
    "NemotronForCausalLM": layernorm.nemotron,
    "CohereForCausalLM": layernorm.cohere,
    "Cohere2ForCausalLM": layernorm.cohere2,
    "StableLmForCausalLM": layernorm.stablelm,
    "GemmaForCausalLM": gemma.gemma1,
    "Gemma2ForCausalLM": gemma.gemma2,
    "Gemma3ForCausalLM": gemma.gemma3,
    "MixtralForCausalLM": mixtures.mixtral,
    "PhimoeForCausalLM": mixtures.phimoe,
    "PhiMoEForCausalLM": mixtures.phimoe,
    "OlmoeForCausalLM": mixtures.olmoe,
    "GraniteMoeForCausalLM": mixtures.granite_moe,
    "MiniMaxM2ForCausalLM": mixtures.minimax_m2,
    "GptOssForCausalLM": mixtures.gpt_oss,
    "Qwen2MoeForCausalLM": qwen.qwen2_moe,
    "Qwen3MoeForCausalLM": qwen.qwen3_moe,
    "DeepseekV2ForCausalLM": shared_experts.deepseek,
    "DeepseekV3ForCausalLM": shared_experts.deepseek,
    "Glm4MoeForCausalLM": shared_experts.glm4_moe,
    "Llama4ForCausalLM": shared_experts.llama4,
}

SUPPORTED = (*_FAMILIES, *TOWERS)

# Known, and known not to be countable or servable here: said instead of "unknown".
_REFUSED = {
    "MllamaForConditionalGeneration": "vLLM serves no cross-attention models of this kind since 0.10.2",
    "Qwen3NextForCausalLM": "its linear-attention layers keep a state per request, which the KV cache formulas do not know",
    "Gemma3nForCausalLM": "its per-layer embeddings and shared KV caches are not counted here",
    "Gemma3nForConditionalGeneration": "its per-layer embeddings and shared KV caches are not counted here",
    "DeepseekV32ForCausalLM": "its sparse attention keeps a second cache (the indexer's), which is not counted here",
}

# Keys under which a config describes a tower beside the text model.
_TOWER_KEYS = ("vision_config", "audio_config", "text_config", "speech_config", "vision_tower", "thinker_config")
TOWER_CAVEAT = (
    "the tower's weights are counted whole on a rank; its time and working memory are not predicted, and an image's tokens "
    "must be in workload.input_tokens"
)


def model_facts(config: Any, *, name: str = "model", assume: bool = False) -> ModelFacts:
    """Facts of the model that ``config`` (a parsed config.json) describes.

    Args:
        config: The parsed file.
        name: How the user called it.
        assume: Count an unknown architecture with exactly Llama's keys as Llama. Only for callers that show
            ``ModelFacts.caveats``.

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
    if architecture in _REFUSED:
        raise ModelError(
            f"{architecture} cannot be judged: {_REFUSED[architecture]}",
            where=name,
            remedy="supported are " + ", ".join(SUPPORTED),
        )
    if architecture in TOWERS:
        return _with_tower(c, architecture)
    towers = [key for key in _TOWER_KEYS if config.get(key) is not None]
    if towers or (architecture not in _FAMILIES and architecture.endswith("ForConditionalGeneration")):
        raise ModelError(
            f"{architecture} is multi-modal ({', '.join(towers) or 'by its name'}); its towers would not be counted",
            where=name,
            remedy="give the config.json of its text model alone, or of one of: " + ", ".join(SUPPORTED),
        )
    family = _FAMILIES.get(architecture)
    if family is not None:
        return _facts(c, c, architecture, family(c))
    if assumed.missing_keys(c) or assumed.strange_keys(c) or not assume:
        _unknown(c, architecture)
    return _facts(c, c, architecture, llama.llama(c), caveats=(assumed.caveat(architecture),), shape=assumed.ASSUMED)


def _unknown(c: Config, architecture: str) -> NoReturn:
    missing, strange = assumed.missing_keys(c), assumed.strange_keys(c)
    why = "its parameters and KV cache would be a guess"
    if strange:
        why += f" (it is not Llama under another name: {', '.join(strange[:5])})"
    elif missing:
        why += f" (it is not Llama under another name: no {', '.join(missing[:5])})"
    else:
        why += " (its keys are Llama's; if it is Llama under another name, write LlamaForCausalLM in a copy of its config.json)"
    raise ModelError(
        f"unknown architecture {architecture[:100]!r}; {why}",
        where=c.where,
        remedy="supported are " + ", ".join(SUPPORTED),
    )


def _with_tower(c: Config, architecture: str) -> ModelFacts:
    """A multi-modal model: text keys lie in ``text_config``, or beside ``vision_config`` in older files."""
    tower, texts = TOWERS[architecture]
    vision = c.part("vision_config")
    nested = c.raw("text_config") is not None
    text = c.part("text_config").with_defaults(TEXT_DEFAULTS.get(architecture, {})) if nested else c
    kind = text.raw("model_type") if nested else None
    family = texts.get(kind) if kind is None or isinstance(kind, str) else None
    if family is None:
        text.refuse("model_type", f"the text model {str(kind)[:40]!r} is not known inside {architecture}")
    others = [key for key in _TOWER_KEYS if key not in ("text_config", "vision_config") and c.raw(key) is not None]
    if others:
        c.refuse(others[0], f"{architecture} is known with a vision tower only")
    if nested and text.raw("tie_word_embeddings") is None:
        text = text.with_defaults({"tie_word_embeddings": c.raw("tie_word_embeddings")})
    body = family(text)
    count = tower(vision, c, body.attention.hidden)
    return _facts(c, text, architecture, body, tower=count, caveats=(TOWER_CAVEAT,))


def _facts(
    c: Config,
    text: Config,
    architecture: str,
    body: Body,
    *,
    tower: int = 0,
    caveats: tuple[str, ...] = (),
    shape: str | None = None,
) -> ModelFacts:
    vocab, hidden = text.size("vocab_size"), body.attention.hidden
    stored = checkpoint_format(c, text)
    weights, notes = effective_format(stored, body.layers)
    return ModelFacts(
        name=c.where,
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
        final_params=(hidden if body.final is None else body.final) + tower,
        tower_params=tower,
        max_position=text.context_length(),
        weight_format=weights,
        assumed=shape,
        caveats=(*caveats, *notes),
    )
