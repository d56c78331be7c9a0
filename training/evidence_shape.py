# SPDX-License-Identifier: Apache-2.0
"""The shape that all research arms share, and the arms: which layers keep their indexer."""

from dataclasses import replace

from shape import SMOKE_SHAPE, Shape

EVIDENCE_SHAPE = replace(
    Shape(),
    hidden_size=192,
    num_heads=4,
    dense_width=384,
    num_dense_layers=3,
    num_experts=8,
    expert_width=24,
    index_topk=64,
    share_freq=1,
    share_offset=1,
    num_layers=16,
)
SMOKE_EVIDENCE_SHAPE = replace(
    SMOKE_SHAPE, hidden_size=32, share_freq=1, share_offset=1, num_layers=8
)

FREQUENCIES = {"every": 1, "half": 2, "quarter": 4, "eighth": 8}
DENSE_TWIN = "dense"  # trained on with as many steps and the same rows, but without an index


def shape_of(arm: str, base: Shape) -> Shape:
    return replace(base, share_freq=FREQUENCIES.get(arm, 1))


def indexers(plan: str) -> int:
    return plan.count("F")


def index_flops(shape: Shape, length: int) -> int:
    """Floating-point operations of one indexer over a prompt of `length` tokens, two for each
    multiply-accumulate; scores of visible keys only."""
    heads, dim = shape.index_heads, shape.index_dim
    projections = shape.q_lora_rank * heads * dim + shape.hidden_size * (dim + heads)
    pairs = length * (length + 1) // 2
    return 2 * (length * projections + pairs * heads * dim)


def other_flops(shape: Shape, length: int) -> int:
    """All else over the same prompt: projections, attention over k keys, FFNs, head once."""
    heads, hidden = shape.num_heads, shape.hidden_size
    attention = hidden * shape.q_lora_rank + shape.q_lora_rank * heads * shape.key_dim
    attention += hidden * (shape.kv_lora_rank + shape.rope_dim)
    attention += shape.kv_lora_rank * heads * (shape.nope_dim + shape.value_dim)
    attention += heads * shape.value_dim * hidden
    active = shape.experts_per_token + 1
    moe = 3 * hidden * shape.expert_width * active + hidden * shape.num_experts
    dense = 3 * hidden * shape.dense_width
    num_moe = shape.num_layers - shape.num_dense_layers
    linear = shape.num_layers * attention + num_moe * moe + shape.num_dense_layers * dense
    k = min(shape.index_topk, length)
    pairs = k * (k + 1) // 2 + (length - k) * k
    core = shape.num_layers * heads * pairs * (shape.key_dim + shape.value_dim)
    return 2 * (length * linear + core + shape.vocab_size * hidden)
