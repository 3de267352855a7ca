"""Small configs of every family. Odd sizes on purpose: head_dim that is not hidden/heads, tied and untied, dense layers among MoE."""

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 704,
    "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "rms_norm_eps": 1e-5, "hidden_act": "silu",
}  # fmt: skip
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 96}
DEEPSEEK = {
    "kv_lora_rank": 64, "q_lora_rank": 48, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24,
    "n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 1, "num_key_value_heads": 8,
    "n_group": 2, "topk_group": 1, **MOE,
}  # fmt: skip


def case(architecture: str, model_type: str, *without: str, **changes):
    config = {**LLAMA, "architectures": [architecture], "model_type": model_type, **changes}
    return {key: value for key, value in config.items() if key not in without}


def vision(architecture: str, model_type: str, text: dict, tower: dict, **top):
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "text_config": text,
        "vision_config": tower,
        **top,
    }


TEXT = {key: value for key, value in LLAMA.items() if key not in ("architectures", "model_type")}
QWEN_TOWER = {"depth": 2, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2}
PIXTRAL = {
    "model_type": "pixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 64, "patch_size": 16,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 56, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
LLAMA4 = {
    **TEXT, "intermediate_size_mlp": 320, "num_local_experts": 4, "num_experts_per_tok": 1, "head_dim": 48,
    "num_hidden_layers": 6, "interleave_moe_layer_step": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA4_TOWER = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14, "vision_output_dim": 80, "projector_input_dim": 80, "projector_output_dim": 80,
}  # fmt: skip
FALCON = {
    "architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 8, "vocab_size": 1000,
}  # fmt: skip

CASES = {
    "llama": LLAMA,
    "llama-tied-bias": {**LLAMA, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    "llama-head-dim": {**LLAMA, "head_dim": 48},
    "mistral": case("MistralForCausalLM", "mistral", sliding_window=512, head_dim=48),
    "ministral": case(
        "MinistralForCausalLM", "ministral", sliding_window=512, head_dim=48,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    ),
    "ministral3": case("Ministral3ForCausalLM", "ministral3", "head_dim"),
    "phi3": case("Phi3ForCausalLM", "phi3", pad_token_id=0, sliding_window=None),
    "qwen2": case("Qwen2ForCausalLM", "qwen2"),
    "qwen3": case("Qwen3ForCausalLM", "qwen3", head_dim=64, tie_word_embeddings=True),
    "smollm3": case("SmolLM3ForCausalLM", "smollm3", tie_word_embeddings=True, pad_token_id=0),
    "granite": case("GraniteForCausalLM", "granite"),
    "seed-oss": case("SeedOssForCausalLM", "seed_oss", mlp_bias=True, attention_out_bias=True),
    "ernie": case("Ernie4_5ForCausalLM", "ernie4_5", "tie_word_embeddings", use_bias=True),
    "olmo2": case("Olmo2ForCausalLM", "olmo2"),
    "olmo3": case("Olmo3ForCausalLM", "olmo3", sliding_window=256, num_hidden_layers=8),
    "exaone4": case(
        "Exaone4ForCausalLM", "exaone4", sliding_window=256, sliding_window_pattern="LLLG",
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "exaone4-small": case(
        "Exaone4ForCausalLM", "exaone4", sliding_window=None, sliding_window_pattern=None,
        layer_types=["full_attention"] * 3,
    ),
    "glm": case("GlmForCausalLM", "glm", pad_token_id=0, head_dim=32),
    "glm4": case("Glm4ForCausalLM", "glm4", pad_token_id=0, attention_bias=False, head_dim=48),
    "phi": case("PhiForCausalLM", "phi"),
    "falcon": FALCON,
    "falcon-new": {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    "falcon-rw": {**FALCON, "multi_query": False, "parallel_attn": False, "tie_word_embeddings": False},
    "starcoder2": case("Starcoder2ForCausalLM", "starcoder2", "tie_word_embeddings", sliding_window=512),
    "nemotron": case("NemotronForCausalLM", "nemotron", attention_bias=True, mlp_bias=True, head_dim=48),
    "cohere": case("CohereForCausalLM", "cohere", "tie_word_embeddings", pad_token_id=0),
    "cohere-plus": case("CohereForCausalLM", "cohere", use_qk_norm=True, pad_token_id=0),
    "cohere2": case(
        "Cohere2ForCausalLM", "cohere2", "tie_word_embeddings", sliding_window=256, pad_token_id=0,
        num_hidden_layers=8,
    ),
    "stablelm": case("StableLmForCausalLM", "stablelm", use_qkv_bias=True),
    "stablelm-parallel": case("StableLmForCausalLM", "stablelm", use_parallel_residual=True),
    "gemma": case("GemmaForCausalLM", "gemma", tie_word_embeddings=True, head_dim=256),
    "gemma2": case("Gemma2ForCausalLM", "gemma2", tie_word_embeddings=True, head_dim=64, sliding_window=128),
    "gemma3": case("Gemma3ForCausalLM", "gemma3_text", tie_word_embeddings=True, head_dim=64, sliding_window=128),
    "mixtral": case("MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=2),
    "phimoe": case(
        "PhimoeForCausalLM", "phimoe", num_local_experts=4, attention_bias=True, lm_head_bias=True,
        num_experts_per_tok=2,
    ),
    "olmoe": case("OlmoeForCausalLM", "olmoe", num_experts=4, num_experts_per_tok=2),
    "granite-moe": case("GraniteMoeForCausalLM", "granitemoe", num_local_experts=4, num_experts_per_tok=2),
    "minimax-m2": case(
        "MiniMaxM2ForCausalLM", "minimax_m2", num_local_experts=4, num_experts_per_tok=2, head_dim=48
    ),
    "qwen2-moe": case(
        "Qwen2MoeForCausalLM", "qwen2_moe", num_experts=6, shared_expert_intermediate_size=160, **MOE
    ),
    "qwen3-moe": case("Qwen3MoeForCausalLM", "qwen3_moe", num_experts=6, head_dim=64, **MOE),
    "qwen3-moe-some-dense": case(
        "Qwen3MoeForCausalLM", "qwen3_moe", num_experts=6, head_dim=64, mlp_only_layers=[0],
        decoder_sparse_step=2, **MOE
    ),
    "deepseek-v2": case("DeepseekV2ForCausalLM", "deepseek_v2", **DEEPSEEK),
    "deepseek-v2-lite": case("DeepseekV2ForCausalLM", "deepseek_v2", **{**DEEPSEEK, "q_lora_rank": None}),
    "deepseek-v3": case("DeepseekV3ForCausalLM", "deepseek_v3", **DEEPSEEK),
    "glm4-moe": case(
        "Glm4MoeForCausalLM", "glm4_moe", n_routed_experts=6, n_shared_experts=2, first_k_dense_replace=1,
        use_qk_norm=True, attention_bias=True, **MOE,
    ),
    "gpt-oss": case("GptOssForCausalLM", "gpt_oss", num_local_experts=4, num_experts_per_tok=2, head_dim=64),
    "llama4": {"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", **LLAMA4},
    "llama4-listed": {
        "architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", **LLAMA4, "moe_layers": [0, 5],
        "attention_bias": True,
    },
    "llama4-vision": vision("Llama4ForConditionalGeneration", "llama4", {**LLAMA4, "model_type": "llama4_text"}, LLAMA4_TOWER),
    "mistral3": vision(
        "Mistral3ForConditionalGeneration", "mistral3", {**TEXT, "model_type": "mistral", "head_dim": 48}, PIXTRAL,
        tie_word_embeddings=False, multimodal_projector_bias=True,
    ),
    "mistral3-ministral3": vision(
        "Mistral3ForConditionalGeneration", "mistral3", {**TEXT, "model_type": "ministral3", "head_dim": 48}, PIXTRAL,
        tie_word_embeddings=False, spatial_merge_size=4,
    ),
    "llava-pixtral": vision(
        "LlavaForConditionalGeneration", "llava", {**TEXT, "model_type": "mistral"}, PIXTRAL, vision_feature_layer=-1
    ),
    "gemma3-vision": vision(
        "Gemma3ForConditionalGeneration", "gemma3",
        {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3, "model_type": "gemma3_text"}, SIGLIP,
    ),
    "gemma3-vision-head": vision(
        "Gemma3ForConditionalGeneration", "gemma3", {**TEXT, "model_type": "gemma3_text", "tie_word_embeddings": True,
        "sliding_window": 128}, {**SIGLIP, "vision_use_head": True},
    ),
    "qwen2-vl-flat": {
        **case("Qwen2VLForConditionalGeneration", "qwen2_vl"),
        "vision_config": {**QWEN_TOWER, "embed_dim": 64, "hidden_size": 256, "mlp_ratio": 3},
    },
    "qwen2.5-vl-flat": {
        **case("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", tie_word_embeddings=True),
        "vision_config": {**QWEN_TOWER, "hidden_size": 64, "out_hidden_size": 256, "intermediate_size": 100},
    },
    "qwen2.5-vl": vision(
        "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", {**TEXT, "model_type": "qwen2_5_vl_text"},
        {**QWEN_TOWER, "hidden_size": 64, "out_hidden_size": 256, "intermediate_size": 100},
    ),
    "qwen3-vl": vision(
        "Qwen3VLForConditionalGeneration", "qwen3_vl", {**TEXT, "model_type": "qwen3_vl_text", "head_dim": 48},
        {**QWEN_TOWER, "hidden_size": 64, "out_hidden_size": 256, "intermediate_size": 100,
         "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
    ),
    "qwen3-vl-moe": vision(
        "Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe",
        {**TEXT, "model_type": "qwen3_vl_moe_text", "head_dim": 48, "num_experts": 6, **MOE},
        {**QWEN_TOWER, "hidden_size": 64, "out_hidden_size": 256, "intermediate_size": 100,
         "deepstack_visual_indexes": [1], "num_position_embeddings": 16},
    ),
}  # fmt: skip
