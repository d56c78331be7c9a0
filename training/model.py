# SPDX-License-Identifier: Apache-2.0
"""The training forward: dense attention or attention over a selection, with the index's lesson."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention
from layers import Layer, rms_norm, rotary_angles
from mtp import Mtp
from selection import add_known_sentence, attention_at_rows, index_loss, select_mask
from shape import Shape

WINDOW = 128  # what shared layers see before they are given a selection
FAR_WINDOW = 2048  # what full layers see of a row in which only some queries see everything
DENSE = "dense"


@dataclass
class Lesson:
    """Query rows on which the indexers are taught; all [batch, num_rows]."""

    rows: Tensor
    weight: Tensor
    sentence_start: Tensor  # -1 where no sentence is known
    sentence_end: Tensor


@dataclass
class Outcome:
    hidden: Tensor  # [batch * length, hidden], after the final norm
    source_loss: Tensor | float = 0.0  # indexers of full layers, taught for their whole group
    own_loss: Tensor | float = 0.0  # indexers of shared layers, taught for their own layer
    masks: dict[int, Tensor] | None = None  # selection of each layer that ran its indexer


class Model(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.05)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.num_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.mtp = Mtp(shape)
        self.head = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.005)
        self.loads: dict[int, Tensor] = {}
        self.targets, self.index_loss = attention_at_rows, index_loss
        self.window, self.selected = attention.window, attention.selected
        self.select_mask = select_mask

    def compile_parts(self) -> None:
        for layer in [*self.layers, self.mtp.layer]:
            layer.project = torch.compile(layer.project, dynamic=False)
            layer.finish = torch.compile(layer.finish, dynamic=False)
            layer.attention.indexer.compile(dynamic=False)
        self.targets = torch.compile(attention_at_rows, dynamic=False)
        self.index_loss = torch.compile(index_loss, dynamic=False)

    def use_fast_kernels(self) -> None:
        """On a CUDA GPU, for rows of whole blocks; the MTP layer keeps the plain ones."""
        import fast

        self.window, self.selected, self.select_mask = fast.window, fast.selected, fast.select_mask

    def forward(
        self,
        tokens: Tensor,  # [batch, length]
        positions: Tensor,  # [batch, length]
        plan: str | None = None,  # None: dense attention in full layers, a window in shared ones;
        # DENSE: dense everywhere
        lesson: Lesson | None = None,
        keep_masks: bool = False,
        sentence_from: int = 0,  # first layer whose index is told the answering sentence
        far: Tensor
        | None = None,  # [batch, n]: without a plan, the only queries that see everything
    ) -> Outcome:
        shape, (batch, length) = self.shape, tokens.shape
        cos, sin = rotary_angles(positions, shape)
        x = F.embedding(tokens.flatten(), self.embed).float()
        out = Outcome(hidden=x, masks={} if keep_masks else None)
        mask = None
        pending = []  # lessons of the current group's source, waiting for the group's last layer
        for i, layer in enumerate(self.layers):
            normed, latent_q, q, k, v = layer.project(x, cos, sin)
            q, k, v = (y.view(batch, length, shape.num_heads, -1) for y in (q, k, v))
            is_source = shape.is_full(i)
            selects = plan not in (None, DENSE) and plan[i] == "F"
            if selects or lesson is not None:
                if not is_source:  # taught for its own layer, without moving the backbone
                    normed, latent_q = normed.detach(), latent_q.detach()
                index = layer.attention.indexer(normed, latent_q, cos, sin)
                index = [y.unflatten(0, (batch, length)) for y in index]
            if selects:
                mask = self.select_mask(*(y.detach() for y in index), shape.index_topk)
                if keep_masks:
                    out.masks[i] = mask
            if lesson is not None:
                width = None if is_source else WINDOW
                target = self.targets(q.detach(), k.detach(), lesson.rows, width)
                if is_source:
                    pending = [index, i, []]
                else:
                    own = self.index_loss(*index, lesson.rows, target, lesson.weight)
                    out.own_loss = out.own_loss + own
                pending[2].append(target)
                if i + 1 == shape.num_layers or shape.is_full(i + 1):
                    index, source, targets = pending
                    target = group_target(source, targets, lesson, sentence_from)
                    loss = self.index_loss(*index, lesson.rows, target, lesson.weight)
                    out.source_loss = out.source_loss + loss
            if mask is not None:
                attended = self.selected(q, k, v, mask)
            elif is_source and far is not None:
                windowed = self.window(q, k, v, FAR_WINDOW)
                attended = attention.dense_at_rows(q, k, v, far, windowed)
            elif is_source or plan == DENSE:
                attended = attention.dense(q, k, v)
            else:
                attended = self.window(q, k, v, WINDOW)
            x, load = layer.finish(x, attended.reshape(batch * length, -1))
            if load is not None:
                self.loads[i] = load.detach()
        out.hidden = rms_norm(x, self.norm, shape.norm_eps)
        return out

    def freeze_backbone(self) -> None:
        """Only the MTP layer learns from here on."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("mtp."))

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head)

    @torch.no_grad()
    def balance_experts(self, rate: Tensor, mtp: bool = False) -> None:
        """Moves the router biases toward equal load (the noaux rule)."""
        pairs = [(self.layers[i].ffn, load) for i, load in self.loads.items()]
        for ffn, load in [(self.mtp.layer.ffn, self.mtp.load)] if mtp else pairs:
            ffn.router_bias += rate * torch.sign(load.mean() - load)


def group_target(source: int, targets: list, lesson: Lesson, sentence_from: int) -> Tensor:
    target = targets[0]
    if len(targets) > 1:  # the source counts as much as all the layers that share its selection
        target = 0.5 * target + 0.5 * torch.stack(targets[1:]).mean(0)
    if source >= sentence_from:
        target = add_known_sentence(target, lesson.sentence_start, lesson.sentence_end)
    return target


def token_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, head).float(), targets, reduction="none")
