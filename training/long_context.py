# SPDX-License-Identifier: Apache-2.0
"""Inference over long texts: latents are cached, each query gathers only its selected keys.

This is the model as an engine runs it (absorbed MLA, one selection per full layer, reused by the
shared ones), in chunks of queries so that scores never fill the memory.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import Layer, rms_norm, rotary_angles
from model import Model
from selection import index_scores

LAST, RANDOM = "last", "random"


@dataclass
class Cache:
    """Rows of all positions so far, one entry a layer; index keys for every layer."""

    latents: list[Tensor]  # [num_tokens, kv_lora]
    rope_keys: list[Tensor]  # [num_tokens, rope]
    index_keys: list[Tensor]  # [num_tokens, index_dim]
    length: int = 0


class LongContext:
    """`plan` is a string of F and S, or LAST / RANDOM (controls: a set that asks no index)."""

    def __init__(self, model: Model, plan: str, topk: int | None = None, chunk: int = 2048):
        self.model, self.shape, self.plan, self.chunk = model, model.shape, plan, chunk
        self.topk = topk or model.shape.index_topk
        device = model.embed.device
        self.choices: dict[int, Tensor] = {}  # selection of each full layer in the last extend()
        self.generator = torch.Generator(device=device).manual_seed(1)
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def empty(self) -> Cache:
        shape, device = self.shape, self.model.embed.device
        widths = (shape.kv_lora_rank, shape.rope_dim, shape.index_dim)
        lists = [
            [torch.zeros(0, width, device=device, dtype=self.dtype)] * shape.num_layers
            for width in widths
        ]
        return Cache(*lists)

    @torch.no_grad()
    def extend(self, cache: Cache, tokens: Tensor) -> tuple[Tensor, Cache]:
        """Final hidden rows of `tokens` [n] placed after `cache`; the given cache stays as it is."""
        enabled = self.dtype == torch.bfloat16
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=enabled):
            return self._extend(cache, tokens)

    def _extend(self, cache: Cache, tokens: Tensor) -> tuple[Tensor, Cache]:
        model, shape = self.model, self.shape
        start, end = cache.length, cache.length + len(tokens)
        cos, sin = rotary_angles(torch.arange(start, end, device=tokens.device), shape)
        x = F.embedding(tokens, model.embed).float()
        grown = Cache([], [], [], end)
        chosen = None
        for i, layer in enumerate(model.layers):
            normed = rms_norm(x, layer.attention_norm, shape.norm_eps)
            latent_q, q, latent_kv, rope_key = layer.attention.latents(normed, cos, sin)
            index_q, index_k, gate = layer.attention.indexer.forward(normed, latent_q, cos, sin)
            latents = torch.cat((cache.latents[i], latent_kv.to(self.dtype)))
            rope_keys = torch.cat((cache.rope_keys[i], rope_key.to(self.dtype)))
            index_keys = torch.cat((cache.index_keys[i], index_k.to(self.dtype)))
            grown.latents.append(latents)
            grown.rope_keys.append(rope_keys)
            grown.index_keys.append(index_keys)
            if self.plan in (LAST, RANDOM):
                chosen = self.blind_choice(start, end, i, chosen, tokens.device)
            elif self.plan[i] == "F":
                chosen = self.choices[i] = self.choose(index_q, index_keys, gate, start)
            attended = self.attend(layer, q, latents, rope_keys, chosen, start)
            x, _ = Layer.finish(layer, x, attended)  # never the compiled one: any length
        return rms_norm(x, model.norm, shape.norm_eps), grown

    def choose(self, q: Tensor, keys: Tensor, gate: Tensor, start: int) -> Tensor:
        """Positions of the best visible keys, [n, k]; places beyond the visible keys hold any."""
        parts = []
        for a in range(0, len(q), self.chunk):
            b = min(a + self.chunk, len(q))
            visible = start + b
            scores = index_scores(q[None, a:b], keys[None, :visible], gate[None, a:b])[0]
            query = torch.arange(start + a, start + b, device=q.device)
            future = torch.arange(visible, device=q.device) > query[:, None]
            scores = scores.masked_fill_(future, float("-inf"))
            width = min(self.topk, visible)
            best = scores.topk(width, -1, sorted=False).indices
            parts.append(F.pad(best, (0, self.topk - width), value=2**31))
        return torch.cat(parts)

    def blind_choice(self, start: int, end: int, i: int, chosen: Tensor | None, device) -> Tensor:
        if chosen is not None and not self.shape.is_full(i):
            return chosen
        query = torch.arange(start, end, device=device)[:, None]
        if self.plan == LAST:
            return query - torch.arange(self.topk, device=device)
        draw = torch.rand(end - start, self.topk, device=device, generator=self.generator)
        return (draw * (query + 1)).long()

    def attend(
        self,
        layer: Layer,
        q: Tensor,
        latents: Tensor,
        rope_keys: Tensor,
        chosen: Tensor,
        start: int,
    ) -> Tensor:
        """Absorbed MLA over gathered rows -> [n, heads * value_dim]."""
        shape = self.shape
        up = layer.attention.kv_b_proj.to(self.dtype).unflatten(0, (shape.num_heads, -1))
        up_key, up_value = up.split((shape.nope_dim, shape.value_dim), 1)
        rows = torch.cat((latents, rope_keys), -1)
        parts = []
        for a in range(0, len(q), self.chunk):
            piece, wanted = q[a : a + self.chunk].to(self.dtype), chosen[a : a + self.chunk]
            query_position = torch.arange(start + a, start + a + len(piece), device=q.device)
            invalid = (wanted > query_position[:, None]) | (wanted < 0)
            gathered = rows[wanted.masked_fill(invalid, 0)]  # [m, k, kv_lora + rope]
            nope, rope = piece.split((shape.nope_dim, shape.rope_dim), -1)
            absorbed = torch.einsum("mhd,hdc->mhc", nope, up_key)
            logits = torch.matmul(torch.cat((absorbed, rope), -1), gathered.mT).float()
            logits = (logits * shape.key_dim**-0.5).masked_fill_(invalid[:, None], float("-inf"))
            mixed = torch.matmul(logits.softmax(-1).to(self.dtype), gathered)
            mixed = mixed[..., : shape.kv_lora_rank]
            parts.append(torch.einsum("mhc,hvc->mhv", mixed, up_value).flatten(1))
        return torch.cat(parts)
