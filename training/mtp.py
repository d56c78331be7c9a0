# SPDX-License-Identifier: Apache-2.0
"""The layer for multi-token prediction, and how a round of draft steps runs through it.

Row t of the layer joins the target's final hidden of token t with the embedding of token t + 1, at
position t, and predicts token t + 2:

    x_t = eh_proj [ enorm(embed[token_{t+1}]) ; hnorm(h_t) ]      (embedding zero at position 0)
    y_t = shared_head.norm( decoder layer (x_t) )                 logits = lm_head y_t

The first draft step computes keys, values and the selection of every row with the layer's own
indexer. Later steps of the round put y in place of h and the drafted token in place of t + 1, move
one position on, and read the first step's rows through the selection of the row that the round
started from: they run no indexer and leave no keys behind.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention
from layers import Layer, matrix, rms_norm, rotary_angles
from selection import select_mask
from shape import Shape


@dataclass
class History:
    """What the first step leaves to the later ones; [batch, length, ...]."""

    q: Tensor
    k: Tensor
    v: Tensor
    index: list[Tensor]  # queries, keys and gates of the indexer
    mask: Tensor | None  # the rows' selections [batch, length, length]; None: all earlier rows


class Mtp(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.hidden_norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.eh_proj = matrix(shape.hidden_size, 2 * shape.hidden_size)
        self.layer = Layer(shape, shape.num_layers)
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.load: Tensor | None = None  # share of tokens per expert in the last pass

    def join(self, embedded: Tensor, hidden: Tensor, positions: Tensor) -> Tensor:
        """Flat [tokens, hidden] each; positions flat too."""
        eps = self.shape.norm_eps
        embedded = embedded * (positions != 0)[:, None]
        parts = rms_norm(embedded, self.embed_norm, eps), rms_norm(hidden, self.hidden_norm, eps)
        return F.linear(torch.cat(parts, -1), self.eh_proj).float()

    def first(
        self, embedded: Tensor, hidden: Tensor, positions: Tensor, select: bool
    ) -> tuple[Tensor, History]:
        """embedded, hidden [batch * length, hidden] (tokens t + 1, target's rows t); positions
        [batch, length] -> y and the history."""
        shape, (batch, length) = self.shape, positions.shape
        cos, sin = rotary_angles(positions, shape)
        x = self.join(embedded, hidden, positions.flatten())
        normed, latent_q, q, k, v = self.layer.project(x, cos, sin)
        q, k, v = (z.view(batch, length, shape.num_heads, -1) for z in (q, k, v))
        index = self.layer.attention.indexer(normed, latent_q, cos, sin)
        index = [z.unflatten(0, (batch, length)) for z in index]
        mask = select_mask(*(z.detach() for z in index), shape.index_topk) if select else None
        history = History(q, k, v, index, mask)
        return self.finish(x, q, history), history

    def later(
        self,
        embedded: Tensor,
        hidden: Tensor,
        positions: Tensor,
        history: History,
        own_selection: bool = False,
    ) -> Tensor:
        """A draft step after the first, for the rounds that start at every row at once; positions
        are those of this step. `own_selection` (for comparison) runs the indexer again."""
        shape, (batch, length) = self.shape, positions.shape
        cos, sin = rotary_angles(positions, shape)
        x = self.join(embedded, hidden, positions.flatten())
        normed, latent_q, q, _, _ = self.layer.project(x, cos, sin)
        q = q.view(batch, length, shape.num_heads, -1)
        if own_selection:
            index_q, _, gate = self.layer.attention.indexer(normed, latent_q, cos, sin)
            index_q, gate = (z.unflatten(0, (batch, length)) for z in (index_q, gate))
            mask = select_mask(index_q, history.index[1], gate, shape.index_topk)
            history = History(q, history.k, history.v, history.index, mask)
        return self.finish(x, q, history)

    def finish(self, x: Tensor, q: Tensor, history: History) -> Tensor:
        if history.mask is None:
            attended = attention.dense(q, history.k, history.v)
        else:
            attended = attention.selected(q, history.k, history.v, history.mask)
        x, load = self.layer.finish(x, attended.reshape(len(x), -1))
        self.load = load.detach()
        return rms_norm(x, self.norm, self.shape.norm_eps)
