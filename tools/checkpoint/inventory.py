# SPDX-License-Identifier: Apache-2.0
"""Every tensor of a checkpoint: name, shape, how it is stored, and the spread of its random values.

The spreads keep each activation near 1 in the root mean square, attention logits near 1.5, and
routing and index scores well apart; nothing is symmetric or all ones, so that a swapped or
forgotten tensor shows.
"""

import fnmatch
import math
from dataclasses import dataclass, replace

import numpy as np

from .share_plan import indexer_types, mlp_types


@dataclass
class RandomTensor:
    """values = mean + deviation * normal + along * direction + diagonal."""

    name: str
    shape: tuple
    deviation: object  # float, or f32 [rows]
    mean: float = 0.0
    along: float = 0.0  # share of the common direction of all embeddings, [columns]
    diagonal: float = 0.0  # added to element [i, i]
    quantised: bool = False  # FP8 in FP8 checkpoints
    always_f32: bool = False


@dataclass
class Recipe:
    """What makes one random model unlike another, beyond its configuration."""

    latent_scale: float = 0.05  # of q_a and kv_a outputs: small, so that their norms' eps shows
    gate_along: float = 1.5  # index gates mostly positive; 0 = any sign, so zeros tie at the top
    attention_scale: float = 1.5
    block_gain: float = (
        1.0  # of what blocks add to the stream: small, so that a token tells the next
    )
    draft_skill: float = (
        0.0  # how much of its input the MTP layer passes on: drafts then often come true
    )
    zero: tuple = ()  # names of tensors that are all zeros, with wildcards


def tensors(config, recipe, all_indexers=False):
    """List of RandomTensor for a config.json (a dict), MTP layer included where it has one."""
    result = [RandomTensor("model.embed_tokens.weight", _embedding(config), 0.9, along=0.45)]
    kinds, mlps = indexer_types(config), mlp_types(config)
    num_layers = config["num_hidden_layers"]
    for i in range(num_layers):
        has_indexer = all_indexers or kinds[i] == "full"
        result += _layer(config, recipe, f"model.layers.{i}.", has_indexer, mlps[i])
    if config.get("num_nextn_predict_layers", 0) > 0:
        result += _mtp_layer(config, recipe, f"model.layers.{num_layers}.", mlps[-1])
    result.append(_norm("model.norm.weight", config["hidden_size"]))
    if not config.get("tie_word_embeddings", False):
        deviation = 3.0 / math.sqrt(config["hidden_size"])
        result.append(RandomTensor("lm_head.weight", _embedding(config), deviation))
    return [_zeroed(tensor, recipe.zero) for tensor in result]


def _zeroed(tensor, patterns):
    if not any(fnmatch.fnmatchcase(tensor.name, pattern) for pattern in patterns):
        return tensor
    return replace(tensor, deviation=0.0, mean=0.0, along=0.0)


def _embedding(config):
    return (config["vocab_size"], config["hidden_size"])


def _norm(name, size):
    return RandomTensor(name, (size,), 0.15, mean=1.0)


def _matrix(name, rows, columns, gain=1.0):
    """A linear layer whose output is `gain` times as large as its input."""
    return RandomTensor(name, (rows, columns), gain / math.sqrt(columns), quantised=True)


def _layer(config, recipe, prefix, has_indexer, mlp):
    hidden = config["hidden_size"]
    result = [_norm(prefix + "input_layernorm.weight", hidden)]
    result += _attention(config, recipe, prefix + "self_attn.")
    if has_indexer:
        result += _indexer(config, recipe, prefix + "self_attn.indexer.")
    result.append(_norm(prefix + "post_attention_layernorm.weight", hidden))
    if mlp == "dense":
        width = config["intermediate_size"]
        return result + _mlp(prefix + "mlp.", hidden, width, recipe.block_gain)
    return result + _experts(config, prefix + "mlp.", recipe.block_gain)


def _attention(config, recipe, prefix):
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    q_lora, kv_lora = config["q_lora_rank"], config["kv_lora_rank"]
    nope, rope, value = (config[f"{k}_head_dim"] for k in ("qk_nope", "qk_rope", "v"))
    kv_a = _matrix(prefix + "kv_a_proj_with_mqa.weight", kv_lora + rope, hidden)
    # The latent rows meet a norm, the rope rows none: those must stay near 1.
    gains = np.array([recipe.latent_scale] * kv_lora + [1.0] * rope, np.float32)
    kv_a.deviation = gains * np.float32(1.0 / math.sqrt(hidden))
    result = [
        _matrix(prefix + "q_a_proj.weight", q_lora, hidden, recipe.latent_scale),
        _norm(prefix + "q_a_layernorm.weight", q_lora),
        _matrix(prefix + "q_b_proj.weight", heads * (nope + rope), q_lora, recipe.attention_scale),
        kv_a,
        _norm(prefix + "kv_a_layernorm.weight", kv_lora),
        _matrix(prefix + "kv_b_proj.weight", heads * (nope + value), kv_lora),
        _matrix(prefix + "o_proj.weight", hidden, heads * value, recipe.block_gain),
    ]
    if config.get("attention_bias", False):
        bias = 0.3 * recipe.latent_scale
        result.append(RandomTensor(prefix + "q_a_proj.bias", (q_lora,), bias))
        result.append(RandomTensor(prefix + "kv_a_proj_with_mqa.bias", (kv_lora + rope,), bias))
        result.append(RandomTensor(prefix + "o_proj.bias", (hidden,), 0.2))
    return result


def _indexer(config, recipe, prefix):
    hidden, heads, dim = (config[k] for k in ("hidden_size", "index_n_heads", "index_head_dim"))
    return [
        _matrix(prefix + "wq_b.weight", heads * dim, config["q_lora_rank"]),
        _matrix(prefix + "wk.weight", dim, hidden),
        _norm(prefix + "k_norm.weight", dim),
        RandomTensor(prefix + "k_norm.bias", (dim,), 0.3),
        RandomTensor(
            prefix + "weights_proj.weight",
            (heads, hidden),
            1.0 / math.sqrt(hidden),
            along=recipe.gate_along / (0.45 * hidden),
        ),
    ]


def _mlp(prefix, hidden, width, gain):
    return [
        _matrix(prefix + "gate_proj.weight", width, hidden),
        _matrix(prefix + "up_proj.weight", width, hidden),
        _matrix(prefix + "down_proj.weight", hidden, width, gain),
    ]


def _experts(config, prefix, gain):
    hidden, count = config["hidden_size"], config["n_routed_experts"]
    width = config["moe_intermediate_size"]
    result = [
        RandomTensor(prefix + "gate.weight", (count, hidden), 1.5 / math.sqrt(hidden)),
        RandomTensor(prefix + "gate.e_score_correction_bias", (count,), 0.1, always_f32=True),
    ]
    for i in range(count):
        result += _mlp(f"{prefix}experts.{i}.", hidden, width, gain)
    shared = width * config.get("n_shared_experts", 1)
    return result + _mlp(prefix + "shared_experts.", hidden, shared, gain)


def _mtp_layer(config, recipe, prefix, mlp):
    hidden = config["hidden_size"]
    skill = recipe.draft_skill
    join = RandomTensor(
        prefix + "eh_proj.weight", (hidden, 2 * hidden), 1.0 / math.sqrt(2 * hidden)
    )
    if skill > 0:
        join.deviation, join.diagonal = join.deviation * (1 - skill), 1.0
    result = [
        _norm(prefix + "enorm.weight", hidden),
        _norm(prefix + "hnorm.weight", hidden),
        join,
        _norm(prefix + "shared_head.norm.weight", hidden),
    ]
    if config["model_type"] == "deepseek_v32":
        # DeepSeek's releases repeat the embedding and the head here; a reader ignores them.
        embed = RandomTensor(prefix + "embed_tokens.weight", _embedding(config), 0.9)
        head = RandomTensor(prefix + "shared_head.head.weight", _embedding(config), 0.9)
        result += [embed, head]
    return result + _layer(config, recipe, prefix, True, mlp)
