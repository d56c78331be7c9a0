# SPDX-License-Identifier: Apache-2.0
"""The model's dimensions, and the config.json that states them in GLM-5.2's own words."""

from dataclasses import dataclass, replace

FULL, SHARED = "F", "S"


@dataclass(frozen=True)
class Shape:
    vocab_size: int = 4096
    hidden_size: int = 384
    num_heads: int = 6
    q_lora_rank: int = 128
    kv_lora_rank: int = 128
    nope_dim: int = 32
    rope_dim: int = 32
    value_dim: int = 64
    dense_width: int = 768
    num_dense_layers: int = 3
    num_experts: int = 8
    experts_per_token: int = 2
    expert_width: int = 80
    routed_scale: float = 1.5
    index_heads: int = 2
    index_dim: int = 64
    index_topk: int = 128
    share_freq: int = 4
    share_offset: int = 3
    num_layers: int = 8
    rope_theta: float = 8e6
    max_positions: int = 1048576
    norm_eps: float = 1e-5
    latent_norm_eps: float = 1e-6  # as transformers builds q_a_layernorm and kv_a_layernorm
    index_norm_eps: float = 1e-6

    @property
    def plan(self) -> str:
        """Which layers run their indexer (F) and which reuse the selection before them (S)."""
        return "".join(
            FULL if max(i - self.share_offset + 1, 0) % self.share_freq == 0 else SHARED
            for i in range(self.num_layers)
        )

    @property
    def key_dim(self) -> int:
        return self.nope_dim + self.rope_dim

    def is_full(self, layer: int) -> bool:
        return self.plan[layer] == FULL

    def source(self, layer: int) -> int:
        """The layer whose selection `layer` uses under the default plan."""
        return self.plan.rindex(FULL, 0, layer + 1)


SMOKE_SHAPE = replace(
    Shape(),
    vocab_size=768,
    hidden_size=64,
    num_heads=2,
    q_lora_rank=32,
    kv_lora_rank=32,
    nope_dim=16,
    rope_dim=16,
    value_dim=32,
    dense_width=96,
    num_dense_layers=1,
    num_experts=4,
    expert_width=16,
    index_dim=32,
    index_topk=16,
    share_freq=3,
    share_offset=2,
    num_layers=6,
)


def to_config_json(shape: Shape, special_ids: dict[str, int]) -> dict:
    """GLM-5.2's config.json with this shape's values."""
    num_sparse = shape.num_layers - shape.num_dense_layers
    return {
        "architectures": ["GlmMoeDsaForCausalLM"],
        "model_type": "glm_moe_dsa",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.dense_width,
        "moe_intermediate_size": shape.expert_width,
        "num_hidden_layers": shape.num_layers,
        "num_nextn_predict_layers": 1,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_heads,
        "q_lora_rank": shape.q_lora_rank,
        "kv_lora_rank": shape.kv_lora_rank,
        "qk_nope_head_dim": shape.nope_dim,
        "qk_rope_head_dim": shape.rope_dim,
        "qk_head_dim": shape.key_dim,
        "v_head_dim": shape.value_dim,
        "head_dim": shape.rope_dim,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "n_routed_experts": shape.num_experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": shape.experts_per_token,
        "first_k_dense_replace": shape.num_dense_layers,
        "moe_layer_freq": 1,
        "mlp_layer_types": ["dense"] * shape.num_dense_layers + ["sparse"] * num_sparse,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "norm_topk_prob": True,
        "routed_scaling_factor": shape.routed_scale,
        "n_group": 1,
        "topk_group": 1,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rope_parameters": {"rope_theta": int(shape.rope_theta), "rope_type": "default"},
        "rope_interleave": True,
        "max_position_embeddings": shape.max_positions,
        "tie_word_embeddings": False,
        "index_n_heads": shape.index_heads,
        "index_head_dim": shape.index_dim,
        "index_topk": shape.index_topk,
        "indexer_rope_interleave": True,
        "index_topk_freq": shape.share_freq,
        "index_skip_topk_offset": shape.share_offset,
        "index_topk_pattern": None,
        "indexer_types": [
            "full" if shape.is_full(layer) else "shared" for layer in range(shape.num_layers)
        ],
        "index_share_for_mtp_iteration": True,
        "bos_token_id": None,
        "eos_token_id": [
            special_ids[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>")
        ],
        "pad_token_id": special_ids["<|endoftext|>"],
        "use_cache": True,
        "ep_size": 1,
        "pretraining_tp": 1,
        "dtype": "bfloat16",
        "transformers_version": "5.17.0",
    }
