# SPDX-License-Identifier: Apache-2.0
"""Holds fast.py against selection.py and attention.py, on a CUDA GPU.

    python check_fast.py

Choosing must agree exactly, given the same scores, equal ones among them; the rest up to rounding.
Exit status 1 when something differs by more.
"""

import sys

import torch
from torch import Tensor

import attention
import fast
import selection

TOLERANCE = 1e-2  # of the norm: bf16 operands
SCORE_TOLERANCE = 1e-3  # of the norm: tf32 products
WIDTHS, TOPK = (128, 2048), 128


def stable_choice(scores: Tensor, topk: int) -> Tensor:
    """The first `topk` visible keys by (score descending, position ascending)."""
    visible = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device).tril()
    order = scores.masked_fill(~visible, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(-1, order[..., :topk], True) & visible


def check_choice(length: int) -> float:
    """Share of keys chosen otherwise: many equal scores, zeros of both signs, negative ones."""
    scores = (torch.randn(4, length, length, device="cuda") * 3).round() / 3
    scores[1] = scores[1].clamp(min=0) * -1
    scores[2] = torch.randn_like(scores[2])
    scores[3] *= torch.rand_like(scores[3]) < 0.01
    mask = torch.empty_like(scores, dtype=torch.bool)
    fast.choose(scores, TOPK, mask)
    return (mask != stable_choice(scores, TOPK)).float().mean().item()


def difference(ours: Tensor, reference: Tensor) -> float:
    return ((ours.float() - reference.float()).norm() / reference.float().norm()).item()


def check_scores(length: int) -> float:
    q = torch.randn(2, length, 2, 64, device="cuda")
    k, gate = torch.randn(2, length, 64, device="cuda"), torch.randn(2, length, 2, device="cuda")
    visible = torch.ones(length, length, dtype=torch.bool, device="cuda").tril()
    ours, reference = fast.index_scores(q, k, gate), selection.index_scores(q, k, gate)
    return difference(ours[:, visible], reference[:, visible])


def check_mask(length: int) -> float:
    """Share of keys that scores and choice together choose otherwise than one after the other."""
    q = torch.randn(3, length, 2, 64, device="cuda")
    k, gate = torch.randn(3, length, 64, device="cuda"), torch.randn(3, length, 2, device="cuda")
    expected = stable_choice(fast.index_scores(q, k, gate), TOPK)
    return (fast.select_mask(q, k, gate, TOPK) != expected).float().mean().item()


def check_attention(length: int, which: str, told: Tensor | int) -> float:
    """Worst of the output and the three gradients, against the plain one in fp32; `told`: the mask
    or the width."""
    inputs = [torch.randn(2, length, 6, 64, device="cuda", dtype=torch.bfloat16) for _ in range(4)]
    results = []
    for module, kind in ((fast, torch.bfloat16), (attention, torch.float32)):
        q, k, v, upstream = (x.to(kind, copy=True) for x in inputs)
        for x in (q, k, v):
            x.requires_grad_()
        out = getattr(module, which)(q, k, v, told)
        out.backward(upstream)
        results.append([out.detach(), q.grad, k.grad, v.grad])
    return max(difference(a, b) for a, b in zip(*results, strict=True))


def main() -> None:
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 64
    failed = False
    for length in (128, 512, 1536, 2048, 8192):
        mask = stable_choice(torch.randn(2, length, length, device="cuda"), TOPK)
        errors = {
            "choice": (check_choice(length), 0.0),
            "scores": (check_scores(length), SCORE_TOLERANCE),
            "mask": (check_mask(length), 0.0),
            "selected": (check_attention(length, "selected", mask), TOLERANCE),
        }
        for width in WIDTHS:
            errors[f"window of {width}"] = check_attention(length, "window", width), TOLERANCE
        for name, (error, allowed) in errors.items():
            good = error <= allowed
            failed |= not good
            print(f"{length:6d} {name:14s} {error:.1e} {'' if good else 'FAILED'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
