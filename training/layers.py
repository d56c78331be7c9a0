# SPDX-License-Identifier: Apache-2.0
"""One glm_moe_dsa decoder layer, cut where attention stands: project -> attention -> finish.

All activations are flat, [num_tokens, width], so that one compiled graph serves every sequence
length. The experts are computed as one wide FFN whose hidden units are scaled by the routing
weight of the expert they belong to (zero when the expert is not chosen): exact, without sorting.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shape import Shape


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x.float(), (x.shape[-1],), weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Interleaved rotary embedding; x [..., rope_dim], cos and sin broadcast to [..., rope_dim/2]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)


def rotary_angles(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """positions [num_tokens] -> cos, sin [num_tokens, rope_dim/2], fp32."""
    exponent = torch.arange(0, shape.rope_dim, 2, device=positions.device, dtype=torch.float32)
    inverse = 1.0 / shape.rope_theta ** (exponent / shape.rope_dim)
    angles = positions.flatten().float()[:, None] * inverse
    return angles.cos(), angles.sin()


def ranks(x: Tensor) -> Tensor:
    """[..., n] -> [..., n]: each element's place in descending order, the first of equals first;
    for a few elements much faster than topk."""
    other, own = x[..., None, :], x[..., :, None]
    index = torch.arange(x.shape[-1], device=x.device)
    before = (other > own) | ((other == own) & (index[None, :] < index[:, None]))
    return before.sum(-1)


def matrix(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * (scale * columns**-0.5))


class Indexer(nn.Module):
    """Lightning indexer: q [T, heads, dim], k [T, dim], gate [T, heads] (scales included)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.wq_b = matrix(shape.index_heads * shape.index_dim, shape.q_lora_rank)
        self.wk = matrix(shape.index_dim, shape.hidden_size)
        self.k_norm_weight = nn.Parameter(torch.ones(shape.index_dim))
        self.k_norm_bias = nn.Parameter(torch.zeros(shape.index_dim))
        self.weights_proj = matrix(shape.index_heads, shape.hidden_size)

    def forward(self, normed: Tensor, latent_q: Tensor, cos: Tensor, sin: Tensor):
        shape, rope = self.shape, self.shape.rope_dim
        q = F.linear(latent_q, self.wq_b).view(-1, shape.index_heads, shape.index_dim)
        k = F.linear(normed, self.wk).float()
        k = F.layer_norm(
            k, (shape.index_dim,), self.k_norm_weight, self.k_norm_bias, shape.index_norm_eps
        )
        q = torch.cat((rotate(q[..., :rope], cos[:, None], sin[:, None]), q[..., rope:]), -1)
        k = torch.cat((rotate(k[..., :rope], cos, sin), k[..., rope:]), -1)
        gate = F.linear(normed, self.weights_proj).float() * shape.index_heads**-0.5
        return q, k, gate * shape.index_dim**-0.5


class Attention(nn.Module):
    """The projections of multi-head latent attention."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.q_a_proj = matrix(shape.q_lora_rank, shape.hidden_size)
        self.q_a_norm = nn.Parameter(torch.ones(shape.q_lora_rank))
        self.q_b_proj = matrix(shape.num_heads * shape.key_dim, shape.q_lora_rank)
        self.kv_a_proj = matrix(shape.kv_lora_rank + shape.rope_dim, shape.hidden_size)
        self.kv_a_norm = nn.Parameter(torch.ones(shape.kv_lora_rank))
        width = shape.num_heads * (shape.nope_dim + shape.value_dim)
        self.kv_b_proj = matrix(width, shape.kv_lora_rank)
        self.o_proj = matrix(shape.hidden_size, shape.num_heads * shape.value_dim, scale=0.0)
        self.indexer = Indexer(shape)

    def latents(self, normed: Tensor, cos: Tensor, sin: Tensor):
        """latent_q [T, q_lora], q [T, H, nope | rope], latent_kv [T, kv_lora], rope_key [T, rope]."""
        shape = self.shape
        eps = shape.latent_norm_eps
        latent_q = rms_norm(F.linear(normed, self.q_a_proj), self.q_a_norm, eps)
        q = F.linear(latent_q, self.q_b_proj).view(-1, shape.num_heads, shape.key_dim)
        rotated = rotate(q[..., shape.nope_dim :], cos[:, None], sin[:, None]).to(q.dtype)
        q = torch.cat((q[..., : shape.nope_dim], rotated), -1)
        latent_kv, rope_key = F.linear(normed, self.kv_a_proj).split(
            (shape.kv_lora_rank, shape.rope_dim), -1
        )
        latent_kv = rms_norm(latent_kv, self.kv_a_norm, eps)
        return latent_q, q, latent_kv, rotate(rope_key, cos, sin)

    def expand(self, latent_kv: Tensor, rope_key: Tensor) -> tuple[Tensor, Tensor]:
        """k [T, H, key_dim] and v [T, H, value_dim] from the latents."""
        shape = self.shape
        kv = F.linear(latent_kv, self.kv_b_proj).unflatten(-1, (shape.num_heads, -1))
        k_nope, v = kv.split((shape.nope_dim, shape.value_dim), -1)
        rope_key = rope_key.to(kv.dtype)[:, None].expand(-1, shape.num_heads, -1)
        return torch.cat((k_nope, rope_key), -1), v


class DenseFfn(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = matrix(shape.dense_width, shape.hidden_size)
        self.up_proj = matrix(shape.dense_width, shape.hidden_size)
        self.down_proj = matrix(shape.hidden_size, shape.dense_width, scale=0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return F.linear(
            F.silu(F.linear(x, self.gate_proj)) * F.linear(x, self.up_proj), self.down_proj
        ), None


class MoeFfn(nn.Module):
    """Rows [e * width, (e + 1) * width) belong to expert e; the last group is the shared expert."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        width = (shape.num_experts + 1) * shape.expert_width
        self.router = nn.Parameter(torch.randn(shape.num_experts, shape.hidden_size) * 0.02)
        self.register_buffer("router_bias", torch.zeros(shape.num_experts))
        self.gate_proj = matrix(width, shape.hidden_size)
        self.up_proj = matrix(width, shape.hidden_size)
        self.down_proj = nn.Parameter(torch.zeros(shape.hidden_size, width))

    def routing(self, x: Tensor) -> Tensor:
        """Weight of every expert, zero where not chosen: [T, num_experts], fp32."""
        with torch.autocast(x.device.type, enabled=False):
            score = torch.sigmoid(F.linear(x.float(), self.router.float()))
        kept = score * (ranks(score + self.router_bias) < self.shape.experts_per_token)
        return kept / (kept.sum(-1, keepdim=True) + 1e-20) * self.shape.routed_scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.routing(x)
        hidden = F.silu(F.linear(x, self.gate_proj)) * F.linear(x, self.up_proj)
        scale = F.pad(weight, (0, 1), value=1.0).to(hidden.dtype)
        hidden = (hidden.unflatten(-1, (-1, self.shape.expert_width)) * scale[..., None]).flatten(
            -2
        )
        return F.linear(hidden, self.down_proj), (weight > 0).float().mean(0)


class Layer(nn.Module):
    def __init__(self, shape: Shape, index: int):
        super().__init__()
        self.shape = shape
        self.attention_norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.ffn_norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.attention = Attention(shape)
        self.ffn = DenseFfn(shape) if index < shape.num_dense_layers else MoeFfn(shape)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor):
        """-> normed, latent_q (what the indexer reads), q, k, v."""
        normed = rms_norm(x, self.attention_norm, self.shape.norm_eps)
        latent_q, q, latent_kv, rope_key = self.attention.latents(normed, cos, sin)
        k, v = self.attention.expand(latent_kv, rope_key)
        return normed, latent_q, q, k, v

    def finish(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor | None]:
        """Output projection, FFN and both residual sums; second: share of tokens per expert."""
        x = x + F.linear(attended, self.attention.o_proj).float()
        out, load = self.ffn(rms_norm(x, self.ffn_norm, self.shape.norm_eps))
        return x + out.float(), load
