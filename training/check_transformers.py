# SPDX-License-Identifier: Apache-2.0
"""Holds both training forwards against transformers' GlmMoeDsaForCausalLM, fp32, on the CPU.

    python check_transformers.py ../models/indexshare-tiny   (or: --random, without a checkpoint)

Both plans are compared on a row of 8 x index_topk tokens; the every_layer plan is transformers'
own, with indexer_types overridden. Exit status 1 when a row differs by more than TOLERANCE, unless
the first such row is a near tie: its k-th and next best scores differ by at most NEAR_TIE of its
largest, so that rounding decides which is chosen, and later rows may follow it.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import AutoConfig, GlmMoeDsaForCausalLM

from export import export
from import_checkpoint import import_checkpoint
from long_context import LongContext
from model import Model
from selection import BLOCKED, index_scores, select_mask
from shape import SMOKE_SHAPE
from tokenizer import train_tokenizer

TOLERANCE = 1e-4  # of the largest logit of the row
NEAR_TIE = 1e-6


def load_reference(folder: Path, plan: str) -> GlmMoeDsaForCausalLM:
    config = AutoConfig.from_pretrained(folder)
    config.indexer_types = ["full" if kind == "F" else "shared" for kind in plan]
    model, report = GlmMoeDsaForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    mtp = f"model.layers.{config.num_hidden_layers}."
    ignored = [name for name in report["unexpected_keys"] if ".indexer." in name or mtp in name]
    surplus = set(report["unexpected_keys"]) - set(ignored)
    missing = set(report["missing_keys"])
    if surplus or missing:
        raise SystemExit(f"transformers reports missing {missing}, unexpected {surplus}")
    print(f"plan {plan}: transformers ignores {len(ignored)} tensors of indexers and MTP")
    return model.eval()


def margins(q: Tensor, k: Tensor, gate: Tensor, topk: int) -> Tensor:
    """[length]: how far the k-th best score is above the next, as a share of the row's largest."""
    length = k.shape[1]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = index_scores(q, k, gate)[0]
    largest = scores.masked_fill(hidden, 0).abs().amax(-1)
    best = scores.masked_fill(hidden, BLOCKED).topk(topk + 1, -1).values
    return (best[:, topk - 1] - best[:, topk]) / largest


@torch.no_grad()
def compare(folder: Path) -> float:
    """Largest relative row error over plans and over both forwards."""
    model = import_checkpoint(folder).eval()
    shape = model.shape
    length = 8 * shape.index_topk
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, shape.vocab_size - 16, (length,), generator=generator)
    positions = torch.arange(length)[None]
    worst = 0.0
    for plan in (shape.plan, "F" * shape.num_layers):
        reference = load_reference(folder, plan)(tokens[None]).logits[0]
        layer_margins = []

        def select(q, k, gate, topk, layer_margins=layer_margins):
            layer_margins.append(margins(q, k, gate, topk))
            return select_mask(q, k, gate, topk)

        with patch.object(model, "select_mask", select):
            forward = model.logits(model(tokens[None], positions, plan).hidden)
        margin = torch.stack(layer_margins).amin(0)
        hidden, _ = LongContext(model, plan).extend(LongContext(model, plan).empty(), tokens)
        ours = {
            "training forward": forward,
            "long-context forward": model.logits(hidden),
        }
        for name, logits in ours.items():
            error = (logits - reference).abs().amax(-1) / reference.abs().amax(-1)
            over = (error > TOLERANCE).nonzero().flatten().tolist()
            print(
                f"  {name}: worst {error.max():.2e}, median {error.median():.2e}, {len(over)} rows over"
            )
            if over and margin[over[0]] <= NEAR_TIE:
                print(f"    from row {over[0]} on, a near tie: {margin[over[0]]:.1e}")
                error = error[: over[0]]
            worst = max(worst, error.max().item())
    return worst


def random_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    model = Model(replace(SMOKE_SHAPE, vocab_size=512))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    text = Path(__file__).read_text(encoding="utf-8")
    export(model, train_tokenizer([text], 512), folder, dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--random", action="store_true")
    options = parser.parse_args()
    if options.random:
        with tempfile.TemporaryDirectory() as scratch:
            random_checkpoint(Path(scratch))
            worst = compare(Path(scratch))
    else:
        worst = compare(options.folder)
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
