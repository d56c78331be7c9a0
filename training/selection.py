# SPDX-License-Identifier: Apache-2.0
"""What the indexer computes (scores, the chosen set) and how it is taught.

Score of key s for query t: I[t, s] = sum_h gate[t, h] * relu(q[t, h] . k[s]), -inf for s > t.
The lesson is the cross-entropy from a target distribution over ALL visible keys to softmax(I), on
a few query rows of each sequence: the mean attention of the layers served, and, where the data
knows which sentence answers the query, half of the target's mass on that sentence.
"""

import torch
from torch import Tensor

BLOCKED = -1e30
SCORES_AT_ONCE = 2**29  # fp32


def index_scores(q: Tensor, k: Tensor, gate: Tensor) -> Tensor:
    """q [B, R, heads, dim], k [B, L, dim], gate [B, R, heads] -> [B, R, L] fp32."""
    total = None
    with torch.autocast(q.device.type, enabled=False):  # bf16 scores would tie
        keys = k.float().transpose(1, 2)
        for head in range(q.shape[2]):
            product = torch.matmul(q[:, :, head].float(), keys).relu()
            product = product * gate[:, :, head, None].float()
            total = product if total is None else total + product
    return total


@torch.no_grad()
def select_mask(q: Tensor, k: Tensor, gate: Tensor, topk: int) -> Tensor:
    """Boolean [B, L, L]: the topk best visible keys of every query."""
    length = k.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=k.device).tril()
    if length <= topk:
        return causal.expand(k.shape[0], -1, -1)
    masks = []
    at_once = max(1, SCORES_AT_ONCE // length**2)
    for b in range(0, k.shape[0], at_once):
        scores = index_scores(*(x[b : b + at_once] for x in (q, k, gate)))
        best = scores.masked_fill_(~causal, BLOCKED).topk(topk, -1, sorted=False).indices
        chosen = torch.zeros(scores.shape, dtype=torch.bool, device=k.device)
        masks.append(chosen.scatter_(-1, best, True) & causal)
    return torch.cat(masks)


def at_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x [B, L, ...], rows [B, R] -> [B, R, ...]"""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], rows]


@torch.no_grad()
def attention_at_rows(q: Tensor, k: Tensor, rows: Tensor, width: int | None) -> Tensor:
    """Head-mean attention of the given query rows over all (or the last `width`) keys: [B, R, L]."""
    scale = q.shape[-1] ** -0.5
    query = at_rows(q, rows)
    key_index = torch.arange(k.shape[1], device=k.device)
    blocked = key_index > rows[..., None]
    if width is not None:
        blocked = blocked | (key_index <= rows[..., None] - width)
    total = None
    for head in range(q.shape[2]):
        logits = torch.matmul(query[:, :, head], k[:, :, head].transpose(1, 2)).float() * scale
        share = logits.masked_fill_(blocked, BLOCKED).softmax(-1)
        total = share if total is None else total + share
    return total / q.shape[2]


def add_known_sentence(target: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Half of the mass goes to keys [start, end) where start >= 0; start, end [B, R]."""
    key_index = torch.arange(target.shape[-1], device=target.device)
    inside = (key_index >= start[..., None]) & (key_index < end[..., None])
    spread = inside.float() / inside.sum(-1, keepdim=True).clamp(min=1)
    known = (start >= 0)[..., None]
    return torch.where(known, 0.5 * target + 0.5 * spread, target)


def index_loss(
    q: Tensor, k: Tensor, gate: Tensor, rows: Tensor, target: Tensor, row_weight: Tensor
) -> Tensor:
    """KL(target || softmax of scores), averaged over rows; gradients reach q, k and gate."""
    scores = index_scores(at_rows(q, rows), k, at_rows(gate, rows))
    blocked = torch.arange(k.shape[1], device=k.device) > rows[..., None]
    log_share = scores.masked_fill(blocked, BLOCKED).log_softmax(-1)
    entropy = torch.special.entr(target).sum(-1)
    divergence = -(target * log_share.masked_fill(blocked, 0.0)).sum(-1) - entropy
    return (divergence * row_weight).sum() / row_weight.sum()
