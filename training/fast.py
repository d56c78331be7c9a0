# SPDX-License-Identifier: Apache-2.0
"""What training spends most of its time in, for a CUDA GPU: the selection in two Triton kernels,
windows and selections through flex_attention, which reads no block of keys in the future or
outside the window.

Same results as selection.py and attention.py up to the rounding of products; `check_fast.py`
compares them.
"""

from copy import copy
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128  # of queries and of keys in flex_attention
TILE = 64  # the same in index scores
SCORES_AT_ONCE = 2**30  # fp32
compiled_flex = torch.compile(flex_attention, dynamic=False)


@triton.jit
def score_tile(
    q_pointer,  # [batch, length, HEADS, DIM] fp32
    k_pointer,  # [batch, length, DIM] fp32
    gate_pointer,  # [batch, length, HEADS] fp32
    score_pointer,  # [batch, length, length] fp32; nothing is written above the diagonal's tiles
    length,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    first = tl.program_id(2).to(tl.int64) * length
    row0, key0 = tl.program_id(1) * ROWS, tl.program_id(0) * KEYS
    if key0 < row0 + ROWS:
        rows, keys, dims = row0 + tl.arange(0, ROWS), key0 + tl.arange(0, KEYS), tl.arange(0, DIM)
        k = tl.load(k_pointer + (first + keys)[:, None] * DIM + dims[None])
        total = tl.zeros([ROWS, KEYS], tl.float32)
        for head in tl.static_range(HEADS):
            at = (first + rows) * HEADS + head
            q = tl.load(q_pointer + at[:, None] * DIM + dims[None])
            product = tl.maximum(tl.dot(q, tl.trans(k)), 0.0)
            total += product * tl.load(gate_pointer + at)[:, None]
        tl.store(score_pointer + (first + rows)[:, None] * length + keys[None], total)


@triton.jit
def choose_row(score_pointer, mask_pointer, length, TOPK: tl.constexpr, WIDTH: tl.constexpr):
    """One query: the TOPK best of its visible keys, earlier keys first where scores are equal.

    Fixes the bits of the k-th best score one after the other, as integers that sort like the
    scores, until exactly TOPK keys are left or all bits are known."""
    row = tl.program_id(0).to(tl.int64)
    position = row % length
    keys = tl.arange(0, WIDTH)
    visible = keys <= position
    score = tl.load(score_pointer + row * length + keys, mask=visible, other=0.0)
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)  # no negative zero
    order = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    order = tl.where(visible, order, -2147483648)
    held = tl.sum((order >= 0).to(tl.int32), 0)
    least = tl.where(held >= TOPK, 0, -2147483648)
    held = tl.where(held >= TOPK, held, WIDTH)
    bit = tl.where(position < TOPK, 0, 1 << 30)  # fewer visible than TOPK: nothing to look for
    while (bit > 0) & (held != TOPK):
        higher = least + bit
        count = tl.sum((order >= higher).to(tl.int32), 0)
        least = tl.where(count >= TOPK, higher, least)
        held = tl.where(count >= TOPK, count, held)
        bit = bit >> 1
    above, equal = order > least, (order == least) & visible
    room = TOPK - tl.sum(above.to(tl.int32), 0)
    chosen = above | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= room))
    chosen = tl.where(position < TOPK, visible, chosen)
    tl.store(mask_pointer + row * length + keys, chosen.to(tl.int8), mask=keys < length)


def require_multiple(length: int, unit: int) -> None:
    if length % unit:
        raise ValueError(f"rows of {length} tokens: expected a multiple of {unit}")


@torch.no_grad()
def select_mask(q: Tensor, k: Tensor, gate: Tensor, topk: int) -> Tensor:
    """As selection.select_mask; lengths are multiples of TILE."""
    length = k.shape[1]
    require_multiple(length, TILE)
    q, k, gate = (x.float().contiguous() for x in (q, k, gate))
    mask = torch.empty(len(k), length, length, dtype=torch.bool, device=k.device)
    at_once = max(1, SCORES_AT_ONCE // length**2)
    for b in range(0, len(k), at_once):
        part = slice(b, b + at_once)
        choose(index_scores(q[part], k[part], gate[part]), topk, mask[part])
    return mask


def index_scores(q: Tensor, k: Tensor, gate: Tensor) -> Tensor:
    """As selection.index_scores of all rows; not written where a whole tile lies in the future."""
    batch, length, heads, dim = q.shape
    scores = torch.empty(batch, length, length, device=q.device)
    tiles = (length // TILE, length // TILE, batch)
    score_tile[tiles](q, k, gate, scores, length, HEADS=heads, DIM=dim, ROWS=TILE, KEYS=TILE)
    return scores


def choose(scores: Tensor, topk: int, mask: Tensor) -> None:
    """scores fp32 and mask bool [batch, length, length]; what lies in the future is not read."""
    batch, length, _ = scores.shape
    width = triton.next_power_of_2(length)
    warps = max(1, min(8, width // 2048))
    rows = (batch * length,)
    choose_row[rows](scores, mask.view(torch.int8), length, TOPK=topk, WIDTH=width, num_warps=warps)


@cache  # CUDA graphs keep what they were captured with
def causal_blocks(length: int, reach: int, device: torch.device) -> BlockMask:
    """The blocks of keys each block of queries has to look at: its own and `reach` before it."""
    require_multiple(length, BLOCK)
    index = torch.arange(length // BLOCK, device=device, dtype=torch.int32)
    count = (index + 1).clamp(max=reach + 1)
    blocks = (index - reach).clamp(min=0)[:, None] + index[None]
    blocks = blocks.clamp(max=len(index) - 1)  # only the first `count` of each row are read
    return BlockMask.from_kv_blocks(
        count[None, None].contiguous(),
        blocks[None, None].contiguous(),
        BLOCK_SIZE=BLOCK,
        seq_lengths=(length, length),
    )


def attend(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask, allowed) -> Tensor:
    """q, k, v [batch, length, heads, dim]; allowed(batch, head, query, key) decides inside the
    blocks."""
    blocks = copy(blocks)
    blocks.mask_mod = allowed
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return compiled_flex(q, k, v, block_mask=blocks).transpose(1, 2)


def window(q: Tensor, k: Tensor, v: Tensor, width: int) -> Tensor:
    """As attention.window."""

    def allowed(batch, head, query, key):
        return (key <= query) & (key > query - width)

    blocks = causal_blocks(q.shape[1], -(-(width - 1) // BLOCK), q.device)
    return attend(q, k, v, blocks, allowed)


def selected(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """As attention.selected."""

    def allowed(batch, head, query, key):
        return mask[batch, query, key]

    return attend(q, k, v, causal_blocks(q.shape[1], q.shape[1], q.device), allowed)
