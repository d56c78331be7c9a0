# SPDX-License-Identifier: Apache-2.0
"""Configurations nobody chose: every dimension, flag and encoding drawn at random.

compare.py --live --random N [--seed S] holds the program against transformers on N of them.
"""

import random

from checkpoint.presets import TINY_DEEPSEEK, TINY_GLM
from configurations import Configuration


def random_configurations(count, seed):
    return [_draw(random.Random(f"{seed}/{i}"), f"random_{seed}_{i}", i) for i in range(count)]


def _draw(rng, name, index):
    family = rng.choice(("glm_moe_dsa", "glm_moe_dsa", "deepseek_v32"))
    preset = TINY_GLM if family == "glm_moe_dsa" else TINY_DEEPSEEK
    config = {k: v for k, v in preset.items() if not k.startswith(("index_topk_", "index_skip"))}
    config.update(_sizes(rng))
    config.update(_experts(rng, config["num_hidden_layers"], grouped=family == "deepseek_v32"))
    config.update(_rope(rng, config))
    overrides = None
    if family == "glm_moe_dsa":
        plan, overrides = _plan(rng, config["num_hidden_layers"])
        config.update(plan)
        config["attention_bias"] = rng.random() < 0.15
    config["tie_word_embeddings"] = rng.random() < 0.3
    config["rms_norm_eps"] = rng.choice((1e-6, 1e-5, 1e-4))
    config["num_nextn_predict_layers"] = int(rng.random() < 0.2)
    topk = config["index_topk"]
    return Configuration(
        name,
        "drawn at random",
        config,
        num_tokens=topk * rng.randint(8, 16) + rng.randint(0, 9),
        dtype=rng.choice(("f32", "f32", "f32", "bf16", "f16", "fp8")),
        seed=1000 * index + 7,
        num_shards=rng.choice((1, 1, 3)),
        all_indexers=overrides is not None or rng.random() < 0.2,
        overrides=overrides,
        max_near_ties=0.02,  # no seed was chosen
    )


def _sizes(rng):
    heads = rng.randint(1, 6)
    rope = rng.choice((2, 4, 8, 12, 16))
    nope = rng.randint(1, 40)
    return dict(
        vocab_size=rng.randint(260, 500),
        hidden_size=rng.randint(17, 150),
        intermediate_size=rng.randint(9, 200),
        num_hidden_layers=rng.randint(1, 9),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        q_lora_rank=rng.randint(5, 140),
        kv_lora_rank=rng.randint(5, 140),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        qk_head_dim=nope + rope,
        v_head_dim=rng.randint(1, 40),
        index_n_heads=rng.randint(1, 9),
        index_head_dim=rope + rng.randint(0, 30),
        index_topk=rng.randint(1, 20),
    )


def _experts(rng, num_layers, grouped):
    num_groups = rng.choice((1, 2, 4)) if grouped else 1
    num_experts = num_groups * rng.randint(2, 5)
    kept = rng.randint(1, num_groups)
    result = dict(
        n_routed_experts=num_experts,
        n_shared_experts=rng.randint(1, 2),
        num_experts_per_tok=rng.randint(1, min(4, num_experts // num_groups * kept)),
        n_group=num_groups,
        topk_group=kept,
        moe_intermediate_size=rng.randint(5, 140),
        routed_scaling_factor=rng.choice((1.0, 1.5, 2.5)),
        norm_topk_prob=rng.random() < 0.8,
        first_k_dense_replace=rng.randint(0, num_layers),
    )
    if rng.random() < 0.3:
        result["mlp_layer_types"] = [rng.choice(("dense", "sparse")) for _ in range(num_layers)]
    return result


def _rope(rng, config):
    theta = rng.choice((10000, 1000000, 8000000))
    yarn = dict(
        factor=rng.choice((4, 40)),
        original_max_position_embeddings=rng.choice((32, 4096)),
        beta_fast=32,
        beta_slow=1,
    )
    mscale = rng.choice((0.7, 1.0))
    yarn.update(
        rng.choice(
            ({}, dict(mscale=mscale, mscale_all_dim=mscale), dict(mscale=1.0, mscale_all_dim=0.5))
        )
    )
    if rng.random() < 0.6:
        return dict(
            rope_parameters=dict(rope_theta=theta, rope_type="default"),
            rope_scaling=None,
            rope_theta=None,
        )
    return dict(
        rope_parameters=dict(rope_theta=theta, rope_type="yarn", **yarn),
        rope_scaling=None,
        rope_theta=None,
    )


def _plan(rng, num_layers):
    """The fields of config.json, and what --hf-overrides says."""
    letters = "F" + "".join(rng.choice("FSS") for _ in range(num_layers - 1))
    words = [{"F": "full", "S": "shared"}[letter] for letter in letters]
    way = rng.randrange(5)
    if way == 0:
        return {}, None
    if way == 1:
        return dict(indexer_types=words), None
    if way == 2:
        return dict(index_topk_pattern=letters), None
    if way == 3:
        return dict(
            index_topk_freq=rng.randint(1, 5), index_skip_topk_offset=rng.randint(1, 4)
        ), None
    return dict(indexer_types=["full"] * num_layers), dict(index_topk_pattern=letters)
