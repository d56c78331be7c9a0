# SPDX-License-Identifier: Apache-2.0
"""Muon for the matrices inside the layers, AdamW for everything else, behind one step()."""

import torch
from torch import Tensor

from layers import MoeFfn
from model import Model

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@torch.no_grad()
def orthogonalise(x: Tensor, steps: int = 5) -> Tensor:
    """x [count, rows, columns] -> nearest matrices with singular values about 1."""
    a, b, c = NEWTON_SCHULZ
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):  # x <- a x + (b G + c G G) x with G = x x^T
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Matrices of equal shape are orthogonalised together; experts count as separate matrices."""

    def __init__(self, model: Model, momentum: float = 0.95, weight_decay: float = 0.01):
        self.momentum, self.weight_decay = momentum, weight_decay
        self.groups: dict[tuple, list] = {}
        for layer in [*model.layers, model.mtp.layer]:
            for name, parameter in layer.named_parameters():
                if is_muon_matrix(name):
                    count = layer.ffn.shape.num_experts + 1 if is_expert(layer, name) else 1
                    axis = 1 if name.endswith("down_proj") else 0
                    shape = tuple(split(parameter.detach(), count, axis).shape[1:])
                    self.groups.setdefault(shape, []).append((parameter, count, axis))
        self.state = {p: torch.zeros_like(p) for g in self.groups.values() for p, _, _ in g}

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        parameters, updates = [], []
        for shape, members in self.groups.items():
            members = [member for member in members if member[0].grad is not None]
            if not members:
                continue
            gradients = [parameter.grad for parameter, _, _ in members]
            states = [self.state[parameter] for parameter, _, _ in members]
            torch._foreach_lerp_(states, gradients, 1 - self.momentum)
            ahead = torch._foreach_lerp(gradients, states, self.momentum)
            stacked = [split(u, n, axis) for u, (_, n, axis) in zip(ahead, members, strict=True)]
            step = orthogonalise(torch.cat(stacked)).float()
            step *= rate * max(1.0, shape[0] / shape[1]) ** 0.5
            parts = step.split([len(matrices) for matrices in stacked])
            for (parameter, _, axis), part in zip(members, parts, strict=True):
                parameters.append(parameter)
                updates.append(joined(part, axis))
        torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
        torch._foreach_sub_(parameters, updates)


def split(x: Tensor, count: int, axis: int) -> Tensor:
    """[rows, columns] -> [count, ...]: the experts' matrices, or the one matrix."""
    if axis == 0:
        return x.unflatten(0, (count, -1))
    return x.unflatten(1, (count, -1)).transpose(0, 1)


def joined(x: Tensor, axis: int) -> Tensor:
    """[count, ...] -> [rows, columns]: undoes `split`."""
    return x.flatten(0, 1) if axis == 0 else x.transpose(0, 1).flatten(1)


def is_muon_matrix(name: str) -> bool:
    return name.endswith(("_proj", "wq_b", "wk")) and not name.endswith("weights_proj")


def is_expert(layer, name: str) -> bool:
    return isinstance(layer.ffn, MoeFfn) and name.startswith("ffn.")


class Optimizer:
    def __init__(self, model: Model, muon_rate: float = 0.02, adam_rate: float = 3e-3):
        self.model, self.muon_rate, self.adam_rate = model, muon_rate, adam_rate
        self.muon = Muon(model)
        in_muon = set(self.muon.state)
        rest = [p for p in model.parameters() if p not in in_muon]
        on_gpu = next(model.parameters()).is_cuda
        self.adam = torch.optim.AdamW(
            rest,
            lr=torch.tensor(adam_rate, device=rest[0].device),
            betas=(0.9, 0.95),
            weight_decay=0.01,
            fused=on_gpu,
            capturable=on_gpu,
            foreach=False if not on_gpu else None,
        )

    def step(self, factor: Tensor) -> None:
        """One update at `factor` (a tensor, so that a graph can hold the step) of the peak rates."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(self.muon_rate * factor)
        for group in self.adam.param_groups:
            group["lr"].copy_(self.adam_rate * factor)
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
