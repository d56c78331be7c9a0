#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The oracle: transformers on the CPU in f32, eager attention, with a stable top-k.

    tools/oracle.py MODEL_DIR --tokens t.npy --output logits.npy [--selections s.npy] [--gaps g.npy]
                    [--force-selections s.npy] [--hf-overrides JSON]

torch.topk may return any of several equal scores. While the oracle runs, every top-k (indexer and
expert routing) is a stable descending sort instead: score descending, position ascending. Nothing
in the installed packages is changed. Needs the versions of tools/requirements-oracle.txt.
"""

import argparse
import json
import os
import tempfile
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from checkpoint.safetensors_file import Checkpoint, CheckpointWriter
from checkpoint.share_plan import apply_overrides

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TORCH_VERSION, TRANSFORMERS_VERSION = "2.13.0", "5.17.0"

_Topk = namedtuple("_Topk", "values indices")


@dataclass
class OracleResult:
    logits: np.ndarray  # [n, vocab] f32
    selections: np.ndarray  # [num_full_layers, n, width] int32, ascending positions, -1 padded
    gaps: (
        np.ndarray
    )  # [num_full_layers, n] f32: (k-th - (k+1)-th score) / largest |score|; inf where L <= k
    plateaus: np.ndarray  # [num_full_layers, n] bool: k-th and (k+1)-th score are both exactly zero
    routing_gaps: np.ndarray  # [n] f32: the least margin of an expert choice over all layers
    ignored: list  # tensors of the checkpoint that transformers did not use


class _StableTopk(torch.overrides.TorchFunctionMode):
    """Replaces topk; inside an indexer it also records the choice, or imposes a given one."""

    def __init__(self, num_tokens, topk, forced):
        super().__init__()
        self._num_tokens, self._topk = num_tokens, topk
        self._forced = forced
        self.in_indexer = False
        self.selections, self.gaps, self.plateaus = [], [], []
        self.routing_gaps = torch.full((num_tokens,), torch.inf)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function not in (torch.topk, torch.Tensor.topk):
            return function(*args, **(kwargs or {}))
        return self._stable(*args, **(kwargs or {}))

    def _stable(self, scores, k, dim=-1, largest=True, sorted=True):
        assert largest and dim in (-1, scores.dim() - 1)
        values, order = torch.sort(scores, dim=-1, descending=True, stable=True)
        if self.in_indexer:
            return _Topk(values[..., :k], self._select(values[0], order[0], k)[None])
        if k < scores.shape[-1] and scores.shape[0] == self._num_tokens and scores.dim() == 2:
            self.routing_gaps.clamp_(max=values[:, k - 1] - values[:, k])
        return _Topk(values[..., :k], order[..., :k])

    def _select(self, values, order, k):
        """values, order [n, n] of one layer's sorted scores -> positions [n, k]."""
        rows = torch.arange(self._num_tokens)
        tiny = torch.finfo(torch.float32).min / 2  # masked keys hold the lowest number, not -inf
        largest = torch.where(values > tiny, values.abs(), 0).amax(-1)
        kth = values[:, k - 1]
        next_one = values[:, k] if k < values.shape[1] else torch.full_like(kth, -torch.inf)
        sparse = rows >= k
        self.gaps.append(torch.where(sparse, (kth - next_one) / largest, torch.inf).numpy())
        self.plateaus.append((sparse & (kth == 0) & (next_one == 0)).numpy())
        if self._forced is not None:
            chosen = torch.from_numpy(self._forced[len(self.selections)].astype(np.int64))[:, :k]
        else:
            chosen = torch.where(order[:, :k] <= rows[:, None], order[:, :k], self._num_tokens)
            chosen = chosen.sort(-1).values
            chosen = torch.where(chosen == self._num_tokens, -1, chosen)
        kept = np.full((self._num_tokens, self._topk), -1, np.int32)
        kept[:, : chosen.shape[1]] = chosen.numpy()
        self.selections.append(kept)
        # A position listed twice is scattered twice into the same mask: harmless here.
        return torch.where(chosen < 0, chosen[:, :1], chosen)


def load_model(folder, overrides=None):
    """(model, unused tensor names). Loads from a temporary checkpoint in f32."""
    for package, wanted in ((torch, TORCH_VERSION), (transformers, TRANSFORMERS_VERSION)):
        if package.__version__.split("+")[0] != wanted:
            raise RuntimeError(
                f"{package.__name__} is {package.__version__}, the oracle is {wanted}"
            )
    checkpoint = Checkpoint(folder)
    config = apply_overrides(checkpoint.config, overrides)
    config.pop("quantization_config", None)
    with tempfile.TemporaryDirectory() as plain:
        _write_f32(checkpoint, config, plain)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            plain,
            dtype=torch.float32,
            attn_implementation="eager",
            experts_implementation="eager",
            output_loading_info=True,
        )
    absent = set(info["missing_keys"]) | set(info["mismatched_keys"])
    if absent:
        raise RuntimeError(f"{folder}: transformers misses {sorted(absent)}")
    known = {name.replace("gate_up_proj", "gate_proj") for name in model.state_dict()}
    unused = [name for name in checkpoint.names() if not _is_used(name, known)]
    return model.eval(), unused


def _is_used(name, known):
    """Whether a checkpoint name is part of the model, where experts are one tensor for a layer."""
    if name in known:
        return True
    head, experts, tail = name.partition(".experts.")
    if not experts:
        return False
    matrix = tail.split(".")[1].replace("up_proj", "gate_proj")
    return f"{head}.experts.{matrix}" in known


def _write_f32(checkpoint, config, folder):
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({**config, "dtype": "float32"}, file)
    names = checkpoint.names()
    shapes = {name: checkpoint.shape(name) for name in names}
    writer = CheckpointWriter(folder, [(name, shapes[name], "F32") for name in names])
    for name in names:
        values = checkpoint[name]
        if ".self_attn.indexer." in name and _needs_other_rope(config):
            values = _swap_rope_layout(values, name, config)
        writer.write(name, values)
    writer.close()


def _needs_other_rope(config):
    """transformers knows one indexer RoPE layout for each family and ignores the key."""
    native = config["model_type"] == "glm_moe_dsa"
    return config.get("indexer_rope_interleave", native) != native


def _swap_rope_layout(values, name, config):
    """Reorders the rotated rows so that the native layout pairs what the configured one would."""
    part = name.split(".indexer.")[1].split(".")[0]
    if part not in ("wq_b", "wk", "k_norm"):
        return values
    rope, dim = config["qk_rope_head_dim"], config["index_head_dim"]
    order = np.arange(rope).reshape(2, rope // 2).T.ravel()  # 0, r/2, 1, r/2 + 1, ...
    if config["model_type"] != "glm_moe_dsa":
        order = np.argsort(order)
    rows = np.concatenate([order, np.arange(rope, dim)])
    return values.reshape(-1, dim, *values.shape[1:])[:, rows].reshape(values.shape)


def run_oracle(folder, tokens, forced=None, overrides=None):
    """tokens int [n]; forced: selections [num_full_layers, n, width], or None. -> OracleResult."""
    model, unused = load_model(folder, overrides)
    stable = _StableTopk(len(tokens), model.config.index_topk, forced)

    def enter(*_):
        stable.in_indexer = True

    def leave(*_):
        stable.in_indexer = False

    for layer in model.model.layers:
        if layer.self_attn.indexer is not None:
            layer.self_attn.indexer.register_forward_pre_hook(enter)
            layer.self_attn.indexer.register_forward_hook(leave)
    ids = torch.from_numpy(np.asarray(tokens, np.int64))[None]
    with torch.no_grad(), stable:
        logits = model(ids, use_cache=False).logits[0]
    return OracleResult(
        logits.numpy(),
        np.stack(stable.selections),
        np.stack(stable.gaps),
        np.stack(stable.plateaus),
        stable.routing_gaps.numpy(),
        unused,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--tokens", required=True, help="npy, int [n]")
    parser.add_argument("--output", required=True, help="npy, f32 [n, vocab]")
    parser.add_argument("--selections", help="npy, int32 [full layers, n, index_topk]")
    parser.add_argument("--gaps", help="npy, f32 [full layers, n], relative to the largest score")
    parser.add_argument("--force-selections", help="npy as --selections writes it")
    parser.add_argument("--hf-overrides", type=json.loads, help="JSON object of config keys")
    arguments = parser.parse_args()
    forced = np.load(arguments.force_selections) if arguments.force_selections else None
    tokens = np.load(arguments.tokens)
    result = run_oracle(arguments.model_dir, tokens, forced, arguments.hf_overrides)
    np.save(arguments.output, result.logits)
    if arguments.selections:
        np.save(arguments.selections, result.selections)
    if arguments.gaps:
        np.save(arguments.gaps, result.gaps)
    near = int((result.gaps <= 1e-5).sum())
    print(f"{len(tokens)} tokens, {near} of {result.gaps.size} selections near a tie")
    if result.ignored:
        print(f"{len(result.ignored)} tensors unused, e.g. {result.ignored[0]}")


if __name__ == "__main__":
    main()
