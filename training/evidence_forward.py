# SPDX-License-Identifier: Apache-2.0
"""The forward of the evaluation: any layer can run its indexer, reuse, or be given a wrong set.

One letter a layer:
    F  its own indexer            S  the selection before it
    R  an untrained indexer       P  the selection of the source before the last one
    D  dense attention
"""

import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

import attention
from layers import Indexer, Layer, rms_norm, rotary_angles
from model import Model
from selection import select_mask


@dataclass
class State:
    """What the layers before `layer` leave to it."""

    layer: int
    x: Tensor  # [batch * length, hidden]
    mask: Tensor | None = None  # the last selection [batch, length, length]
    before: Tensor | None = None  # the one before it


@dataclass
class Probe:
    """Queries [n] and the keys [start, end) of which the share held by a selection is wanted."""

    row: Tensor
    query: Tensor
    start: Tensor
    end: Tensor

    def held(self, mask: Tensor) -> Tensor:
        rows = mask[self.row, self.query]
        index = torch.arange(mask.shape[-1], device=mask.device)
        inside = (index >= self.start[:, None]) & (index < self.end[:, None])
        return (rows & inside).sum(-1) / (self.end - self.start)


@dataclass
class Clock:
    """Seconds in selections and in all; asks the device to finish, so only for measuring time."""

    device: torch.device
    selecting: float = 0.0
    began: float = field(default=0.0)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Forward:
    def __init__(self, model: Model):
        self.model, self.shape = model, model.shape
        device = model.embed.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.untrained = Indexer(self.shape)
        self.untrained.to(device)
        self.probes: list[Probe] = []
        self.recalls: list[dict[int, Tensor]] = []  # of each probe: layer -> [n]
        self.clock: Clock | None = None

    def autocast(self):
        device = self.model.embed.device.type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def begin(self, tokens: Tensor) -> State:
        """tokens [batch, length]"""
        return State(0, F.embedding(tokens.flatten(), self.model.embed).float())

    @torch.no_grad()
    def run(self, tokens: Tensor, plan: str, state: State | None = None, keep: bool = False):
        """-> final hidden [batch * length, hidden], and with `keep` the state before each layer."""
        batch, length = tokens.shape
        model, shape = self.model, self.shape
        positions = torch.arange(length, device=tokens.device).expand(batch, -1)
        cos, sin = rotary_angles(positions, shape)
        state = state or self.begin(tokens)
        x, mask, before = state.x, state.mask, state.before
        self.recalls = [{} for _ in self.probes]
        states = []
        with self.autocast():
            for i in range(state.layer, shape.num_layers):
                if keep:
                    states.append(State(i, x, mask, before))
                layer = model.layers[i]
                normed, latent_q, q, k, v = Layer.project(layer, x, cos, sin)
                q, k, v = (y.view(batch, length, shape.num_heads, -1) for y in (q, k, v))
                used = None
                if plan[i] in "FR":
                    began = self.clock.now() if self.clock else 0.0
                    indexer = layer.attention.indexer if plan[i] == "F" else self.untrained
                    index = Indexer.forward(indexer, normed, latent_q, cos, sin)
                    index = [y.unflatten(0, (batch, length)) for y in index]
                    used = select_mask(*index, shape.index_topk)
                    if self.clock:
                        self.clock.selecting += self.clock.now() - began
                    if plan[i] == "F":
                        before, mask = mask, used
                        for probe, recall in zip(self.probes, self.recalls, strict=True):
                            recall[i] = probe.held(used)
                elif plan[i] == "S":
                    used = mask
                elif plan[i] == "P":
                    used = mask if before is None else before
                if used is None:
                    attended = attention.dense(q, k, v)
                else:
                    attended = attention.selected(q, k, v, used)
                x, _ = Layer.finish(layer, x, attended.reshape(batch * length, -1))
        return rms_norm(x, model.norm, shape.norm_eps), states

    @torch.no_grad()
    def losses(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and the first choice for each token: [tokens] each."""
        parts = []
        with self.autocast():
            for piece, wanted in zip(
                hidden.split(8192), targets.flatten().split(8192), strict=True
            ):
                logits = self.model.logits(piece).float()
                loss = F.cross_entropy(logits, wanted, reduction="none")
                parts.append((loss, logits.argmax(-1)))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
