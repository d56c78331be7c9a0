# SPDX-License-Identifier: Apache-2.0
"""Trains the arms: one dense start, then every arm from it over the same rows for as many steps.

start   dense attention in every layer; rows of 512, 1024, 2048 tokens
joint   dense attention in full layers, a window in shared ones, with the index's lesson
sparse  attention over selections and the joint step in turn
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from corpus import Corpus
from evidence_rows import EvidenceMix, EvidenceRows
from evidence_shape import DENSE_TWIN, shape_of
from graphs import WARM_UP, GraphedStep
from model import Lesson, Model, token_losses
from muon import Optimizer
from rows import ANSWER, TEXT
from shape import Shape

TOKENS_PER_STEP = 32768
RAMP_STEPS = 20
START_SHARE, EVERY_SHARE = 0.27, 0.105  # of a seed's minutes: the start, the arm with all indexers
JOINT_SHARE = 0.6  # of an arm's time


@dataclass
class Stage:
    name: str
    turns: list[tuple[EvidenceMix, str | None]]  # rows and plan (see Model) of the steps, in turn
    rates: tuple[float, float]
    seconds: float = 1e9
    steps: int = 10**9
    lesson: bool = False


class Rows(IterableDataset):
    """Endless batches; every worker draws from its own seed."""

    def __init__(self, data: Path, mix: EvidenceMix, seed: int):
        self.data, self.mix, self.seed = data, mix, seed

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        worker = info.id if info else 0
        maker = EvidenceRows(Corpus(self.data, "train"), self.seed * 1000 + worker)
        while True:
            batch = maker.batch(self.mix)
            yield {name: torch.from_numpy(array) for name, array in batch.items()}


def mixes(smoke: bool) -> dict[int, EvidenceMix]:
    if smoke:
        rows = EvidenceMix(length=256, num_rows=2, lists=0.5, lesson_rows=16, max_position=4096)
        return {256: rows}
    first = EvidenceMix(
        length=512, num_rows=TOKENS_PER_STEP // 512, lists=0.7, hops=(0.4, 0.4, 0.2),
        copies=0.1, bigrams=0.05,
        max_position=16384,
    )  # fmt: skip
    second = replace(
        first, length=1024, num_rows=TOKENS_PER_STEP // 1024, lists=0.5, copies=0.03, bigrams=0.02
    )
    third = EvidenceMix(
        length=2048, num_rows=TOKENS_PER_STEP // 2048, lists=0.4, lesson_rows=128,
        max_position=16384,
    )  # fmt: skip
    return {512: first, 1024: second, 2048: third}


def start_stages(seconds: float, smoke: bool) -> list[Stage]:
    by_length = mixes(smoke)
    if smoke:
        return [Stage("start256", [(by_length[256], None)], (1.0, 1.0), steps=4)]
    shares = {512: (0.4, (1.0, 1.0)), 1024: (0.2, (1.0, 1.0)), 2048: (0.4, (1.0, 0.7))}
    return [
        Stage(f"start{length}", [(by_length[length], None)], rates, seconds=seconds * share)
        for length, (share, rates) in shares.items()
    ]


def arm_stages(arm: str, base: Shape, seconds: float, steps: dict | None, smoke: bool):
    """The first arm runs for a time; its steps are then every arm's."""
    mix = list(mixes(smoke).values())[-1]
    plan = None if arm == DENSE_TWIN else shape_of(arm, base).plan
    lesson = arm != DENSE_TWIN
    joint = Stage("joint", [(mix, None)], (1.0, 0.5), lesson=lesson)
    sparse = Stage("sparse", [(mix, plan), (mix, None)], (0.3, 0.02), lesson=lesson)
    if arm == DENSE_TWIN:
        sparse.turns = [(mix, None)]
    if steps:
        return [replace(s, steps=steps[s.name]) for s in (joint, sparse)]
    if smoke:
        return [replace(joint, steps=3), replace(sparse, steps=4)]
    return [
        replace(joint, seconds=seconds * JOINT_SHARE),
        replace(sparse, seconds=seconds * (1 - JOINT_SHARE)),
    ]


class Learner:
    """One model object for all arms, so that nothing compiles twice: weights and plan change."""

    log: Callable[..., None]

    def __init__(self, base: Shape, data: Path, workers: int):
        self.base, self.data, self.workers = base, data, workers
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Model(base).to(device)
        self.device, self.token_losses = device, token_losses
        if device.type == "cuda":
            self.model.compile_parts()
            self.token_losses = torch.compile(token_losses, dynamic=False)
        self.optimizer = Optimizer(self.model)

    def weights(self) -> dict[str, torch.Tensor]:
        state = self.model.state_dict()
        return {
            name.replace("_orig_mod.", ""): x.detach().cpu().clone() for name, x in state.items()
        }

    def take(self, arm: str, weights: dict[str, torch.Tensor]) -> None:
        """Weights and plan of an arm, with fresh optimiser state."""
        names = {name.replace("_orig_mod.", ""): name for name in self.model.state_dict()}
        self.model.load_state_dict({names[name]: x for name, x in weights.items()})
        self.model.shape = shape_of(arm, self.base)
        self.model.loads = {}
        self.model.zero_grad(set_to_none=True)
        self.optimizer = Optimizer(self.model)

    def step(self, batch: dict, factor: torch.Tensor, stage: Stage, plan: str | None) -> dict:
        model, lesson = self.model, None
        if stage.lesson:
            rows, weight, start, end = batch["lesson"].unbind(0)
            lesson = Lesson(rows, weight.float(), start, end)
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:].flatten()
        sentence_from = model.shape.plan.rindex("F")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            out = model(inputs, batch["positions"], plan, lesson, sentence_from=sentence_from)
            losses = self.token_losses(out.hidden, model.head, targets)
        kinds = batch["kinds"].flatten()
        text = (losses * (kinds == TEXT)).sum() / (kinds == TEXT).sum().clamp(min=1)
        answer = (losses * (kinds == ANSWER)).sum() / (kinds == ANSWER).sum().clamp(min=1)
        total = text + answer + 0.5 * out.source_loss + 0.25 * out.own_loss
        total.backward()
        self.optimizer.step(factor)
        model.balance_experts(1e-3 * factor)
        result = {"text": text, "answer": answer, "source": out.source_loss}
        return {name: torch.as_tensor(value).detach() for name, value in result.items()}

    def loader(self, mix: EvidenceMix, seed: int):
        return iter(
            DataLoader(
                Rows(self.data, mix, seed),
                batch_size=None,
                num_workers=self.workers,
                pin_memory=self.device.type == "cuda",
                prefetch_factor=4 if self.workers else None,
            )
        )

    def run(self, arm: str, stage: Stage, seed: int, ramp: bool) -> dict:
        """Trains; -> what the stage took. Compiling counts as no time."""
        loader = self.loader(stage.turns[0][0], seed)
        graphs = [
            GraphedStep(partial(self.step, stage=stage, plan=plan), self.device)
            for _, plan in stage.turns
        ]
        began = start = time.time()
        done = 0
        for step, graph in zip(itertools.count(), itertools.cycle(graphs)):
            progress = max((time.time() - start) / stage.seconds, step / stage.steps)
            if progress >= 1:
                break
            factor = stage.rates[0] + (stage.rates[1] - stage.rates[0]) * progress
            if ramp:
                factor *= min(1.0, (step + 1) / RAMP_STEPS)
            losses = graph(next(loader), factor)
            done += 1
            if step % 50 == 0:
                numbers = {name: round(value.item(), 3) for name, value in losses.items()}
                self.log(arm=arm, stage=stage.name, step=step, **numbers)
            if step < (WARM_UP + 1) * len(graphs):
                start = time.time()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds, waited = time.time() - start, start - began
        del loader, graphs
        mix = stage.turns[0][0]
        return {
            "steps": done,
            "tokens": done * mix.length * mix.num_rows,
            "seconds": round(seconds, 1),
            "compiling": round(waited, 1),
        }
