# SPDX-License-Identifier: Apache-2.0
"""Trains and measures the MTP layer over a frozen backbone.

Every row starts a round of NUM_STEPS draft steps; the tokens fed are those of the text (what a
round sees as long as its drafts are accepted). Each step learns the target's own distribution, for
a draft is accepted with probability sum(min(p, q)) (p the target's, q the draft's).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model import Lesson, Model
from rows import ANSWER, TEXT
from selection import add_known_sentence, attention_at_rows, index_loss

NUM_STEPS = 4


def divergence(drafted: Tensor, target: Tensor, head: Tensor) -> Tensor:
    """KL(target's distribution || draft's) of each row of final hiddens."""
    wanted = F.linear(target, head).float().log_softmax(-1)
    got = F.linear(drafted, head).float().log_softmax(-1)
    return (wanted.exp() * (wanted - got)).sum(-1)


def overlap(drafted: Tensor, target: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Chance that the draft is accepted, and whether both have the same first choice."""
    wanted = F.linear(target, head).float().softmax(-1)
    got = F.linear(drafted, head).float().softmax(-1)
    return torch.minimum(wanted, got).sum(-1), wanted.argmax(-1) == got.argmax(-1)


def ahead(x: Tensor, steps: int) -> Tensor:
    """Row t gets row t + steps of its own sequence; x [batch, length, ...], the end wraps."""
    return torch.roll(x, -steps, 1)


def rounds(model: Model, tokens: Tensor, positions: Tensor, hidden: Tensor, select: bool, **later):
    """Yields (step, y) of all rounds at once, then the history; tokens [batch, length]."""
    embedded = F.embedding(tokens, model.embed)
    y = hidden
    history = None
    for step in range(1, NUM_STEPS + 1):
        fed = ahead(embedded, step).flatten(0, 1).float()
        if history is None:
            y, history = model.mtp.first(fed, y, positions, select)
        else:
            y = model.mtp.later(fed, y, positions + step - 1, history, **later)
        yield step, y, history


def draft_loss(
    model: Model,
    batch: dict,
    hidden: Tensor,
    lesson: Lesson,
    select: bool,
    divergences=divergence,
) -> dict[str, Tensor]:
    """hidden [batch * length, hidden]: the frozen target's final rows."""
    tokens, positions = batch["tokens"][:, :-1], batch["positions"]
    kinds = batch["kinds"].long()
    shape = tokens.shape
    losses = {"draft": torch.zeros((), device=tokens.device)}
    first = None
    for step, y, history in rounds(model, tokens, positions, hidden, select):
        first = first or history
        target = ahead(hidden.unflatten(0, shape), step).flatten(0, 1)
        apart = divergences(y, target, model.head.detach()).view(shape)[:, :-step]
        kind = kinds[:, step:]
        for name, wanted in (("text", TEXT), ("answer", ANSWER)):
            chosen = kind == wanted
            part = (apart * chosen).sum() / chosen.sum().clamp(min=1)
            losses["draft"] = losses["draft"] + part / NUM_STEPS
            losses[f"{name}{step}"] = part.detach()
    # The row before a lesson row drafts the token that the lesson row predicts.
    rows = (lesson.rows - 1).clamp(min=0)
    goal = attention_at_rows(first.q.detach(), first.k.detach(), rows, None)
    goal = add_known_sentence(goal, lesson.sentence_start, lesson.sentence_end)
    losses["index"] = index_loss(*first.index, rows, goal, lesson.weight)
    return losses


@torch.no_grad()
def acceptance(
    model: Model, batch: dict, hidden: Tensor, select: bool, **later
) -> dict[str, list[float]]:
    """Per draft step: chance of acceptance on text, share of equal first choices on answers."""
    tokens, positions, kinds = batch["tokens"][:, :-1], batch["positions"], batch["kinds"].long()
    result: dict[str, list[float]] = {"text": [], "answers": []}
    for step, y, _ in rounds(model, tokens, positions, hidden, select, **later):
        target = ahead(hidden.unflatten(0, tokens.shape), step).flatten(0, 1)
        chance, same = (
            z.view(tokens.shape)[:, :-step].float() for z in overlap(y, target, model.head)
        )
        kind = kinds[:, step:]
        for name, wanted, values in (("text", TEXT, chance), ("answers", ANSWER, same)):
            chosen = kind == wanted
            mean = (values * chosen).sum() / chosen.sum().clamp(min=1)
            result[name].append(round(mean.item(), 3))
    return result
