# SPDX-License-Identifier: Apache-2.0
"""A third opinion: the forward pass in plain numpy, from the papers' mathematics, every key scored, no cache.

Written from the mathematics, not from another implementation. f64 by default.
"""

import math
from dataclasses import dataclass

import numpy as np
import tools_path  # noqa: F401
from checkpoint.share_plan import apply_overrides, indexer_types, mlp_types

LATENT_EPS = (
    1e-6  # of q_a_layernorm, kv_a_layernorm and the index key norm, whatever rms_norm_eps says
)


@dataclass
class Forward:
    logits: np.ndarray  # [n, vocab]
    selections: np.ndarray  # [num_full_layers, n, index_topk] int32, ascending, -1 padded
    hidden: np.ndarray  # [n, hidden] after the final norm


def rms_norm(x, weight, eps):
    """x [..., size]."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, weight, bias):
    """x [..., size]."""
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + LATENT_EPS) * weight + bias
    )


def silu(x):
    return x / (1.0 + np.exp(-x))


def rope_parameters(config):
    """The rope section in its new form, or put together from rope_theta and rope_scaling."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope.setdefault("rope_type", rope.get("type", "default"))
    return rope


def yarn_mscale(factor, mscale):
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_table(config, n, dtype):
    """cos, sin [n, rope / 2], angles taken in f64."""
    rope, dim = rope_parameters(config), config["qk_rope_head_dim"]
    theta = rope["rope_theta"]
    j = np.arange(dim // 2)
    frequency = theta ** (-2.0 * j / dim)
    scale = 1.0
    if rope["rope_type"] == "yarn":
        original = rope.get("original_max_position_embeddings", config["max_position_embeddings"])

        def turning_dim(beta):
            return dim * math.log(original / (2 * math.pi * beta)) / (2 * math.log(theta))

        low, high = turning_dim(rope.get("beta_fast", 32)), turning_dim(rope.get("beta_slow", 1))
        if rope.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        high = high + 0.001 if high == low else high
        kept = 1.0 - np.clip((j - low) / (high - low), 0, 1)
        frequency = frequency * kept + frequency / rope["factor"] * (1 - kept)
        scale = yarn_attention_factor(rope)
    angle = np.arange(n)[:, None] * frequency
    return (np.cos(angle) * scale).astype(dtype), (np.sin(angle) * scale).astype(dtype)


def yarn_attention_factor(rope):
    """What multiplies cos and sin: 1 where mscale == mscale_all_dim, as in DeepSeek's releases."""
    if rope.get("attention_factor") is not None:
        return rope["attention_factor"]
    factor, mscale, all_dim = rope["factor"], rope.get("mscale"), rope.get("mscale_all_dim")
    if mscale and all_dim:
        return yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim)
    return yarn_mscale(factor, 1.0)


def rotate(x, table, interleaved):
    """x [n, heads, rope] -> rotated, pairs left where they were."""
    cos, sin = (part[:, None, :] for part in table)
    half = x.shape[-1] // 2
    first = np.s_[..., 0::2] if interleaved else np.s_[..., :half]
    second = np.s_[..., 1::2] if interleaved else np.s_[..., half:]
    result = np.empty_like(x)
    result[first] = x[first] * cos - x[second] * sin
    result[second] = x[first] * sin + x[second] * cos
    return result


class NumpyModel:
    def __init__(self, checkpoint, overrides=None, dtype=np.float64):
        self.config = apply_overrides(checkpoint.config, overrides)
        self._checkpoint, self._dtype = checkpoint, dtype

    def _weight(self, name):
        return self._checkpoint[name].astype(self._dtype)

    def _linear(self, x, name):
        """x [..., in] -> [..., out]."""
        y = x @ self._weight(name + ".weight").T
        return y + self._weight(name + ".bias") if name + ".bias" in self._checkpoint else y

    def forward(self, tokens, forced=None):
        """tokens [n]; forced: selections to attend with instead of the model's own."""
        config, n = self.config, len(tokens)
        embedding = self._weight("model.embed_tokens.weight")
        x = embedding[tokens]
        table = rope_table(config, n, self._dtype)
        kinds, mlps = indexer_types(config), mlp_types(config)
        selections = []
        for i, kind in enumerate(kinds):
            prefix = f"model.layers.{i}."
            a, r = self._attention_input(prefix, x)
            if kind == "full":
                if forced is None:
                    chosen = self._select(prefix + "self_attn.indexer.", a, r, table)
                else:
                    chosen = forced[len(selections)]
                selections.append(chosen)
                visible = selection_mask(chosen, n)
            memory = self._memory(prefix + "self_attn.", a, table)
            x = x + self._attend(prefix + "self_attn.", r, table, memory, visible)
            x = x + self._feed_forward(prefix, x, mlps[i])
        hidden = rms_norm(x, self._weight("model.norm.weight"), config["rms_norm_eps"])
        return Forward(self._head(hidden), np.stack(selections), hidden)

    def _head(self, hidden):
        """[..., hidden] -> [..., vocab]. A head in the file counts even where the configuration ties it, as in
        transformers."""
        separate = "lm_head.weight" in self._checkpoint
        head = self._weight("lm_head.weight" if separate else "model.embed_tokens.weight")
        return hidden @ head.T

    def _attention_input(self, prefix, x):
        """-> a [n, hidden], r [n, q_lora]."""
        a = rms_norm(
            x, self._weight(prefix + "input_layernorm.weight"), self.config["rms_norm_eps"]
        )
        r = self._linear(a, prefix + "self_attn.q_a_proj")
        return a, rms_norm(r, self._weight(prefix + "self_attn.q_a_layernorm.weight"), LATENT_EPS)

    def _feed_forward(self, prefix, x, kind):
        eps = self.config["rms_norm_eps"]
        b = rms_norm(x, self._weight(prefix + "post_attention_layernorm.weight"), eps)
        return (self._experts if kind == "sparse" else self._mlp)(prefix + "mlp.", b)

    def _select(self, prefix, a, r, table):
        """a [n, hidden], r [n, q_lora] -> [n, topk] int32."""
        keys = self._index_keys(prefix, a, table)
        return self._choose(prefix, a, r, table, keys)

    def _index_keys(self, prefix, a, table):
        """-> [n, index_head_dim]."""
        rope = self.config["qk_rope_head_dim"]
        k = a @ self._weight(prefix + "wk.weight").T
        k = layer_norm(
            k, self._weight(prefix + "k_norm.weight"), self._weight(prefix + "k_norm.bias")
        )
        k[:, :rope] = rotate(k[:, None, :rope], table, self._index_interleaved())[:, 0]
        return k

    def _choose(self, prefix, a, r, table, keys):
        """Row t of a, r and table chooses among keys 0 to t -> [n, topk] int32."""
        config, n = self.config, len(a)
        heads, dim, rope = (
            config[k] for k in ("index_n_heads", "index_head_dim", "qk_rope_head_dim")
        )
        q = self._linear(r, prefix + "wq_b").reshape(n, heads, dim)
        q[..., :rope] = rotate(q[..., :rope], table, self._index_interleaved())
        gates = self._linear(a, prefix + "weights_proj") * heads**-0.5
        scores = np.zeros((n, n), self._dtype)
        for h in range(heads):
            scores += gates[:, h, None] * np.maximum(q[:, h] @ keys.T * dim**-0.5, 0)
        return top_positions(scores, config["index_topk"])

    def _index_interleaved(self):
        glm = self.config["model_type"] == "glm_moe_dsa"
        return self.config.get("indexer_rope_interleave", glm)

    def _memory(self, prefix, a, table):
        """What queries meet: kv [n, heads, nope + v] and the rotated part of the keys [n, rope]."""
        config, kv_lora = self.config, self.config["kv_lora_rank"]
        latent = self._linear(a, prefix + "kv_a_proj_with_mqa")
        k_rope = rotate(latent[:, None, kv_lora:], table, True)[:, 0]
        c = rms_norm(
            latent[:, :kv_lora], self._weight(prefix + "kv_a_layernorm.weight"), LATENT_EPS
        )
        kv = self._linear(c, prefix + "kv_b_proj")
        return kv.reshape(len(a), config["num_attention_heads"], -1), k_rope

    def _attend(self, prefix, r, table, memory, visible):
        """Queries of r [m, q_lora] at the table's positions -> [m, hidden]. visible [m, n] bool."""
        config, n = self.config, len(r)
        heads = config["num_attention_heads"]
        nope, rope, value = (config[k + "_head_dim"] for k in ("qk_nope", "qk_rope", "v"))
        q = self._linear(r, prefix + "q_b_proj").reshape(n, heads, nope + rope)
        q_rope = rotate(q[..., nope:], table, True)
        kv, k_rope = memory
        scale = (nope + rope) ** -0.5
        yarn = rope_parameters(config)
        if yarn["rope_type"] == "yarn" and yarn.get("mscale_all_dim"):
            scale *= yarn_mscale(yarn["factor"], yarn["mscale_all_dim"]) ** 2
        out = np.empty((n, heads, value), self._dtype)
        for h in range(heads):
            logit = (q[:, h, :nope] @ kv[:, h, :nope].T + q_rope[:, h] @ k_rope.T) * scale
            logit = np.where(visible, logit, -np.inf)
            weight = np.exp(logit - logit.max(-1, keepdims=True))
            out[:, h] = weight / weight.sum(-1, keepdims=True) @ kv[:, h, nope:]
        return self._linear(out.reshape(n, heads * value), prefix + "o_proj")

    def _mlp(self, prefix, b):
        gate = silu(self._linear(b, prefix + "gate_proj"))
        return self._linear(gate * self._linear(b, prefix + "up_proj"), prefix + "down_proj")

    def _experts(self, prefix, b):
        """Every token through its experts, and through the shared one."""
        config, n = self.config, len(b)
        sigma = 1.0 / (1.0 + np.exp(-self._linear(b, prefix + "gate")))
        choice = sigma + self._weight(prefix + "gate.e_score_correction_bias")
        groups, kept = config.get("n_group", 1), config.get("topk_group", 1)
        if groups > 1:
            by_group = choice.reshape(n, groups, -1)
            score = np.sort(by_group, -1)[..., -2:].sum(-1)
            best = np.argsort(-score, -1, kind="stable")[:, :kept]
            allowed = np.zeros((n, groups), bool)
            np.put_along_axis(allowed, best, True, -1)
            choice = np.where(allowed[..., None], by_group, -np.inf).reshape(n, -1)
        best = np.argsort(-choice, -1, kind="stable")[:, : config["num_experts_per_tok"]]
        weight = np.take_along_axis(sigma, best, -1)
        if config.get("norm_topk_prob", True):
            weight = weight / (weight.sum(-1, keepdims=True) + 1e-20)
        weight = weight * config.get("routed_scaling_factor", 1.0)
        y = self._mlp(prefix + "shared_experts.", b)
        for expert in range(config["n_routed_experts"]):
            row, place = np.nonzero(best == expert)
            if len(row):
                part = self._mlp(f"{prefix}experts.{expert}.", b[row])
                y[row] += weight[row, place, None] * part
        return y


def top_positions(scores, topk):
    """scores [n, n] -> [n, topk] int32: score descending, position ascending; emitted ascending."""
    n = len(scores)
    result = np.full((n, topk), -1, np.int32)
    for t in range(n):
        best = np.argsort(-scores[t, : t + 1], kind="stable")[:topk]
        result[t, : len(best)] = np.sort(best)
    return result


def selection_mask(selection, n):
    """[n, topk] positions, -1 padded -> [n, n] bool."""
    mask = np.zeros((len(selection), n + 1), bool)
    np.put_along_axis(mask, np.where(selection < 0, n, selection), True, -1)
    return mask[:, :n]
