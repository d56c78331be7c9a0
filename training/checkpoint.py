# SPDX-License-Identifier: Apache-2.0
"""Training weights on disk: shape and bf16 tensors in one small file, enough to resume a phase."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from model import Model
from shape import Shape


def save_weights(model: Model, path: Path) -> None:
    tensors = {}
    for name, tensor in model.state_dict().items():
        keep = name.endswith("router_bias")
        tensors[name.replace("_orig_mod.", "")] = tensor.cpu() if keep else tensor.bfloat16().cpu()
    torch.save({"shape": asdict(model.shape), "tensors": tensors}, path)


def load_weights(path: Path) -> Model:
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model = Model(Shape(**stored["shape"]))
    model.load_state_dict({name: tensor.float() for name, tensor in stored["tensors"].items()})
    return model


def mean_weights(paths: list[Path]) -> dict[str, Tensor]:
    """What Model.load_state_dict takes, fp32: every tensor's mean over the files."""
    stored = [torch.load(path, map_location="cpu", weights_only=True)["tensors"] for path in paths]
    return {name: sum(t[name].float() for t in stored) / len(stored) for name in stored[0]}
