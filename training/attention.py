# SPDX-License-Identifier: Apache-2.0
"""Attention over [batch, length, heads, dim]: dense, sliding window, both, and over a selection."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def window(q: Tensor, k: Tensor, v: Tensor, width: int) -> Tensor:
    """Each query sees itself and the width - 1 positions before it."""
    batch, length, heads, _ = q.shape
    if length <= width:
        return dense(q, k, v)
    num_chunks = length // width

    def with_previous(x: Tensor) -> Tensor:
        chunks = x.reshape(batch, num_chunks, width, heads, -1)
        previous = F.pad(chunks, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
        return torch.cat((previous, chunks), 2).flatten(0, 1).transpose(1, 2)

    allowed = window_mask(batch, num_chunks, width, q.device)
    chunked_q = q.reshape(batch * num_chunks, width, heads, -1).transpose(1, 2)
    out = F.scaled_dot_product_attention(
        chunked_q, with_previous(k), with_previous(v), attn_mask=allowed
    )
    return out.transpose(1, 2).reshape(batch, length, heads, -1)


@lru_cache(maxsize=8)
def window_mask(batch: int, num_chunks: int, width: int, device: torch.device) -> Tensor:
    """[batch * num_chunks, 1, width, 2 * width]: a chunk's queries over the chunk before and it."""
    query = torch.arange(width, device=device)[:, None] + width
    key = torch.arange(2 * width, device=device)[None]
    allowed = (key <= query) & (key > query - width)
    first = allowed & (key >= width)
    allowed = allowed.expand(num_chunks, -1, -1).clone()
    allowed[0] = first
    return allowed.repeat(batch, 1, 1)[:, None]


def dense_at_rows(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, windowed: Tensor) -> Tensor:
    """The queries `rows` [batch, num_rows], each given once, see everything before them; the others
    keep `windowed`, what `window` gave: what a very long row can afford."""
    batch = torch.arange(q.shape[0], device=q.device)[:, None]
    allowed = torch.arange(q.shape[1], device=q.device) <= rows[..., None]
    far = selected(q[batch, rows], k, v, allowed)
    return windowed.index_put((batch, rows), far)


def selected(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """mask [batch, queries, keys], true where the key is selected."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None]).transpose(1, 2)
