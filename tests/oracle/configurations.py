#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The small random models of the exactness tests; each names the branches that it covers.

tests/oracle/configurations.py                lists them
tests/oracle/configurations.py NAME OUT_DIR   writes one, with tokens.npy beside it
"""

import os
import sys
from dataclasses import dataclass, field

import numpy as np
import tools_path  # noqa: F401
from checkpoint.inventory import Recipe
from checkpoint.presets import TINY_DEEPSEEK, TINY_GLM
from checkpoint.random_values import random_tokens
from checkpoint.write import write_checkpoint
from scoring import MAX_NEAR_TIES


@dataclass
class Configuration:
    """Seeds are chosen so that at most one selection in a thousand is too close to call."""

    name: str
    covers: str
    config: dict
    num_tokens: int
    dtype: str = "f32"
    seed: int = 0
    num_shards: int = 1
    all_indexers: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    overrides: dict = None  # --hf-overrides
    max_near_ties: float = MAX_NEAR_TIES  # share of rows

    def write(self, folder):
        """The checkpoint, and tokens int32 [num_tokens], which are returned."""
        write_checkpoint(
            folder,
            self.config,
            self.dtype,
            self.seed,
            self.num_shards,
            self.all_indexers,
            self.recipe,
        )
        tokens = random_tokens(self.seed, self.config["vocab_size"], self.num_tokens)
        tokens = tokens.astype(np.int32)
        np.save(os.path.join(folder, "tokens.npy"), tokens)
        return tokens


def _glm(without=(), **changes):
    config = {k: v for k, v in TINY_GLM.items() if k not in without}
    return {**config, **changes}


def _deepseek(without=(), **changes):
    config = {k: v for k, v in TINY_DEEPSEEK.items() if k not in without}
    return {**config, **changes}


_FREQ = ("index_topk_freq", "index_skip_topk_offset")
_SMALL_TOKENS = {"eos_token_id": [2], "pad_token_id": 2}
_ODD = dict(
    vocab_size=131,
    hidden_size=72,
    intermediate_size=100,
    moe_intermediate_size=36,
    num_attention_heads=3,
    num_key_value_heads=3,
    q_lora_rank=44,
    kv_lora_rank=40,
    qk_nope_head_dim=20,
    qk_rope_head_dim=12,
    qk_head_dim=32,
    v_head_dim=28,
    n_routed_experts=7,
    num_experts_per_tok=3,
    index_n_heads=5,
    index_head_dim=24,
    index_topk=7,
    **_SMALL_TOKENS,
)
# More than one 128-block on every axis, the last one partial; heads that begin inside blocks.
_BLOCKS = dict(
    hidden_size=168,
    intermediate_size=200,
    moe_intermediate_size=136,
    q_lora_rank=136,
    kv_lora_rank=144,
    qk_nope_head_dim=48,
    qk_rope_head_dim=16,
    v_head_dim=40,
    index_n_heads=6,
    index_head_dim=40,
    n_routed_experts=4,
)

CONFIGURATIONS = [
    Configuration(
        "glm_freq_offset",
        "sharing by freq 4 and offset 3, MTP layer ignored, head_dim ignored, two shards",
        _glm(num_nextn_predict_layers=1, head_dim=24),
        160,
        num_shards=2,
    ),
    Configuration(
        "glm_indexer_types",
        "explicit irregular list that beats freq; expert layers mixed with dense ones",
        _glm(
            num_hidden_layers=6,
            indexer_types=["full", "shared", "full", "full", "shared", "shared"],
            index_topk_pattern="FSFFSS",
            mlp_layer_types=["sparse", "dense", "sparse", "sparse", "dense", "sparse"],
            n_shared_experts=2,
            num_experts_per_tok=3,
        ),
        160,
        seed=1,
    ),
    Configuration(
        "glm_pattern",
        "pattern string, tied heads, surplus indexers, weights of experts not normalised",
        _glm(
            without=_FREQ,
            num_hidden_layers=6,
            index_topk_pattern="FSSFSS",
            tie_word_embeddings=True,
            norm_topk_prob=False,
            routed_scaling_factor=1.0,
        ),
        160,
        all_indexers=True,
    ),
    Configuration(
        "glm_all_full",
        "no sharing keys at all (GLM-5), expert groups",
        _glm(
            without=_FREQ,
            num_hidden_layers=4,
            n_group=4,
            topk_group=2,
            n_routed_experts=16,
            num_experts_per_tok=4,
        ),
        160,
    ),
    Configuration(
        "glm_override",
        "a pattern imposed by --hf-overrides on a list in the configuration",
        _glm(
            without=_FREQ,
            num_hidden_layers=6,
            indexer_types=["full", "shared", "shared"] * 2,
        ),
        160,
        seed=1,
        all_indexers=True,
        overrides={"index_topk_pattern": "FFSSFS"},
    ),
    Configuration(
        "glm_half_split",
        "half-split RoPE in the indexer of a glm_moe_dsa model",
        _glm(num_hidden_layers=4, indexer_rope_interleave=False),
        160,
    ),
    Configuration(
        "glm_odd_sizes",
        "odd sizes: hidden 72, latent 40, vocabulary 131, 3 heads, index heads of 24",
        _glm(num_hidden_layers=5, **_ODD),
        160,
    ),
    Configuration(
        "glm_dense_only",
        "no experts, one index head, one key selected",
        _glm(num_hidden_layers=4, first_k_dense_replace=4, index_n_heads=1, index_topk=1),
        96,
    ),
    Configuration(
        "glm_plateaus",
        "two index heads with gates of any sign: exact zeros tie at the boundary",
        _glm(num_hidden_layers=4, index_n_heads=2),
        160,
        recipe=Recipe(gate_along=0.0),
    ),
    Configuration(
        "glm_biases",
        "attention_bias; an index head that is rotated as a whole",
        _glm(num_hidden_layers=4, attention_bias=True, index_head_dim=8),
        160,
    ),
    Configuration(
        "glm_short",
        "fewer tokens than index_topk: every key is selected",
        _glm(num_hidden_layers=4, index_topk=64),
        40,
    ),
    Configuration(
        "glm_long",
        "2048 tokens",
        _glm(num_hidden_layers=5, index_topk=6, vocab_size=1024, index_head_dim=32),
        2048,
        seed=2,
    ),
    Configuration(
        "deepseek_yarn_groups",
        "YaRN in its old spelling, expert groups, half-split index RoPE, MTP layer",
        _deepseek(num_nextn_predict_layers=1),
        160,
        seed=1,
    ),
    Configuration(
        "deepseek_yarn_mscale",
        "YaRN in its new spelling with mscale unlike mscale_all_dim, ramp inside the rotated part",
        _deepseek(
            without=("rope_theta", "rope_scaling"),
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000,
                "factor": 8,
                "original_max_position_embeddings": 32,
                "beta_fast": 4,
                "beta_slow": 1,
                "mscale": 0.707,
                "mscale_all_dim": 1.0,
            },
        ),
        160,
    ),
    Configuration(
        "deepseek_interleaved_tied",
        "interleaved index RoPE in a deepseek_v32 model, no YaRN, tied heads, bf16",
        _deepseek(
            without=("rope_scaling",), indexer_rope_interleave=True, tie_word_embeddings=True
        ),
        160,
        dtype="bf16",
    ),
    Configuration("glm_bf16", "bf16", _glm(), 160, dtype="bf16", seed=8),
    Configuration("glm_f16", "f16, odd sizes", _glm(num_hidden_layers=4, **_ODD), 160, dtype="f16"),
    Configuration(
        "glm_fp8",
        "FP8: partial blocks, heads that straddle blocks, three shards",
        _glm(num_hidden_layers=4, **_BLOCKS),
        160,
        seed=3,
        dtype="fp8",
        num_shards=3,
    ),
    Configuration(
        "glm_int8",
        "int8 weights in groups of 128 columns, the last group partial",
        _glm(num_hidden_layers=4, **_BLOCKS),
        160,
        seed=3,
        dtype="int8",
        num_shards=2,
    ),
    Configuration(
        "deepseek_int4",
        "int4 weights in groups of 64, scales of either sign, indexer and head in int8",
        _deepseek(**{**_BLOCKS, "n_routed_experts": 8, "num_hidden_layers": 3}),
        160,
        dtype="int4",
    ),
    Configuration(
        "deepseek_fp8",
        "FP8 with YaRN and expert groups",
        _deepseek(**{**_BLOCKS, "n_routed_experts": 8, "num_hidden_layers": 3}),
        160,
        dtype="fp8",
    ),
]


def find(names):
    """The configurations of these names, or all."""
    known = {c.name: c for c in CONFIGURATIONS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no configuration {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else CONFIGURATIONS


if __name__ == "__main__":
    if len(sys.argv) == 3:
        find([sys.argv[1]])[0].write(sys.argv[2])
    else:
        for configuration in CONFIGURATIONS:
            print(f"{configuration.name:26} {configuration.dtype:5} {configuration.covers}")
