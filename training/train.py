# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled model: dense, then dense with the index's lesson, then over selections.

    python train.py --data DATA --out OUT [--scale 1.0] [--resume WEIGHTS.pt --from-phase NAME]
    python train.py --smoke --out OUT

Every phase ends by writing OUT/<phase>.pt, from which the next one can be resumed.
"""

import argparse
import itertools
import json
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from checkpoint import load_weights, save_weights
from evaluate import table
from model import Lesson, Model, token_losses
from muon import Optimizer
from prepare_data import prepare
from rows import ANSWER, TEXT, Corpus, RowMaker, RowMix
from shape import SMOKE_SHAPE, Shape

SEED = 20261121
CHECK_EVERY_SECONDS = 30
TOKENS_PER_STEP = 65536


@dataclass
class Phase:
    name: str
    seconds: float
    rates: tuple[float, float]  # share of the peak rates at start and end
    turns: list[tuple[RowMix, str | None]]  # rows and plan of each step, taken in turn; see Model
    lesson: bool = False
    source_weight: float = 0.5  # of the loss of full layers' indexers
    evaluate: bool = False  # measure recall at all lengths when it ends
    max_steps: int = 10**9


def rows_of(length: int, **options) -> RowMix:
    return RowMix(length=length, num_rows=TOKENS_PER_STEP // length, **options)


def phases(shape: Shape, scale: float) -> list[Phase]:
    shared, every = shape.plan, "F" * shape.num_layers
    short = rows_of(2048, max_facts=16, lesson_rows=128)
    long = rows_of(65536, max_facts=96, lesson_rows=512)
    plan = [
        Phase("dense512", 70, (1.0, 1.0), [(rows_of(512, lists=0.5, copies=0.15), None)]),
        Phase(
            "dense1024",
            35,
            (1.0, 1.0),
            [(rows_of(1024, lists=0.2, copies=0.05, max_facts=10), None)],
        ),
        Phase("joint2k", 150, (1.0, 0.6), [(replace(short, lists=0.1), None)], lesson=True),
        Phase(
            "joint16k",
            50,
            (0.6, 0.4),
            [(rows_of(16384, max_facts=48, lesson_rows=256), None)],
            lesson=True,
        ),
        Phase("joint64k", 60, (0.4, 0.15), [(long, None)], lesson=True),
        Phase(
            "sparse2k",
            100,
            (0.15, 0.02),
            [(short, shared), (short, every), (short, None)],
            lesson=True,
        ),
        Phase(
            "mixed",
            263,
            (0.3, 0.02),
            [
                (long, None),
                (short, shared),
                (long, None),
                (short, every),
                (rows_of(8192, max_facts=48, lesson_rows=128), shared),
            ],
            lesson=True,
            source_weight=1.0,
            evaluate=True,
        ),
    ]
    return [replace(phase, seconds=phase.seconds * scale) for phase in plan]


def smoke_phases(shape: Shape) -> list[Phase]:
    shared, every = shape.plan, "F" * shape.num_layers
    short = RowMix(length=256, num_rows=4, max_facts=2, lesson_rows=16)
    lists = replace(short, lists=0.5, copies=0.1)
    turns = [(short, shared), (short, every), (short, None)]
    return [
        Phase("dense", 1e9, (1.0, 1.0), [(lists, None)], max_steps=4),
        Phase("joint", 1e9, (1.0, 0.5), [(short, None)], lesson=True, max_steps=4),
        Phase("sparse", 1e9, (0.1, 0.05), turns, lesson=True, evaluate=True, max_steps=6),
    ]


class RowStream(IterableDataset):
    """Endless batches; every worker draws from its own seed."""

    def __init__(self, data: Path, mix: RowMix, seed: int):
        self.data, self.mix, self.seed = data, mix, seed

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        maker = RowMaker(Corpus(self.data, "train"), self.seed * 1000 + (info.id if info else 0))
        while True:
            batch = maker.batch(self.mix)
            yield {name: torch.from_numpy(array) for name, array in batch.items()}


def to_device(batch: dict, device: torch.device) -> dict:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def make_lesson(batch: dict) -> Lesson:
    rows, weight, start, end = batch["lesson"].unbind(0)
    return Lesson(rows, weight.float(), start, end)


class Trainer:
    def __init__(self, model: Model, data: Path, out: Path, workers: int, smoke: bool):
        self.model, self.data, self.out, self.workers = model, data, out, workers
        self.device = model.embed.device
        self.optimizer = Optimizer(model)
        self.losses = token_losses
        self.log_file = (out / "log.jsonl").open("a", encoding="utf-8")
        self.began = time.time()
        self.tokens_seen = 0
        self.sentence_from = model.shape.plan.rindex("F")
        if self.device.type == "cuda":
            model.compile_parts()
            self.losses = torch.compile(token_losses, dynamic=False)
        rows = RowMix(length=256, num_rows=2) if smoke else rows_of(2048, max_facts=16, jumps=0.0)
        maker = RowMaker(Corpus(data, "val"), SEED, held_out=True)
        batch = {name: torch.from_numpy(a) for name, a in maker.batch(rows).items()}
        self.check_batch = to_device(batch, self.device)

    def log(self, **entry) -> None:
        entry["at"] = round(time.time() - self.began, 1)
        print(json.dumps(entry), flush=True)
        self.log_file.write(json.dumps(entry) + "\n")
        self.log_file.flush()

    def autocast(self):
        on_gpu = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu)

    def step(self, batch: dict, phase: Phase, plan: str | None, factor: float) -> dict:
        model = self.model
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:].flatten()
        lesson = make_lesson(batch) if phase.lesson else None
        with self.autocast():
            out = model(inputs, batch["positions"], plan, lesson, sentence_from=self.sentence_from)
            losses = self.losses(out.hidden, model.head, targets)
        kinds = batch["kinds"].flatten()
        text = (losses * (kinds == TEXT)).sum() / (kinds == TEXT).sum().clamp(min=1)
        answer = (losses * (kinds == ANSWER)).sum() / (kinds == ANSWER).sum().clamp(min=1)
        loss = text + answer
        if lesson is not None:
            loss = loss + phase.source_weight * out.source_loss + 0.25 * out.own_loss
        loss.backward()
        self.optimizer.step(factor)
        model.balance_experts(1e-3 * factor)
        self.tokens_seen += inputs.numel()
        return {
            "text": text.detach(),
            "answer": answer.detach(),
            "source": torch.as_tensor(out.source_loss).detach(),
            "own": torch.as_tensor(out.own_loss).detach(),
        }

    def loaders(self, mixes: list[RowMix], seed: int) -> dict:
        """One endless loader for each row length, the workers shared out among them."""
        by_length = {mix.length: mix for mix in mixes}
        workers = self.workers // len(by_length)
        return {
            length: iter(
                DataLoader(
                    RowStream(self.data, mix, seed * 10 + number),
                    batch_size=None,
                    num_workers=workers,
                    pin_memory=self.device.type == "cuda",
                    prefetch_factor=4 if workers else None,
                )
            )
            for number, (length, mix) in enumerate(by_length.items())
        }

    def run(self, phase: Phase, seed: int) -> None:
        loaders = self.loaders([mix for mix, _ in phase.turns], seed)
        start, next_check, steps, sums = time.time(), time.time(), 0, {}
        self.log(phase=phase.name, state="start")
        for (mix, plan), step in zip(itertools.cycle(phase.turns), itertools.count()):
            progress = max((time.time() - start) / phase.seconds, step / phase.max_steps)
            if progress >= 1:
                break
            factor = phase.rates[0] + (phase.rates[1] - phase.rates[0]) * progress
            if self.tokens_seen < 20 * TOKENS_PER_STEP:
                factor *= (self.tokens_seen / TOKENS_PER_STEP + 1) / 20
            batch = to_device(next(loaders[mix.length]), self.device)
            sums = self.step(batch, phase, plan, factor)
            steps += 1
            if step % 51 == 0:
                numbers = {name: round(value.item(), 3) for name, value in sums.items()}
                self.log(phase=phase.name, step=step, tokens=self.tokens_seen, **numbers)
            if time.time() > next_check + CHECK_EVERY_SECONDS:
                self.check(phase)
                next_check = time.time()
        del loaders
        self.check(phase)
        seconds = round(time.time() - start, 1)
        self.log(phase=phase.name, state="end", steps=steps, seconds=seconds)
        save_weights(self.model, self.out / f"{phase.name}.pt")

    @torch.no_grad()
    def check(self, phase: Phase) -> None:
        """The fixed small evaluation: answers and, at the sources, recall of the sentence."""
        began = time.time()
        plans = {"dense": None}
        if phase.lesson:
            plans |= {"shared": self.model.shape.plan, "every": "F" * self.model.shape.num_layers}
        for name, plan in plans.items():
            self.log(phase=phase.name, check=name, **self.check_plan(plan))
        self.log(phase=phase.name, check_seconds=round(time.time() - began, 2))

    def check_plan(self, plan: str | None) -> dict:
        batch, model = self.check_batch, self.model
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        with self.autocast():
            out = model(inputs, batch["positions"], plan, keep_masks=True)
            logits = model.logits(out.hidden)
        wrong = (logits.argmax(-1).view_as(targets) != targets).cpu().numpy()
        losses = torch.nn.functional.cross_entropy(
            logits.float(), targets.flatten(), reduction="none"
        )
        kinds = batch["kinds"]
        right, asked = count_answers(wrong, kinds.cpu().numpy())
        result = {
            "right": right,
            "asked": asked,
            "text": round(losses[kinds.flatten() == TEXT].mean().item(), 3),
        }
        for layer, mask in out.masks.items():
            result[f"recall@k.{layer}"] = round(sentence_recall(mask, make_lesson(batch)), 3)
        return result


def count_answers(wrong: np.ndarray, kinds: np.ndarray) -> tuple[int, int]:
    """Answers (runs of ANSWER targets) without a wrong token."""
    right = asked = 0
    for row_wrong, row_kinds in zip(wrong, kinds, strict=True):
        runs = itertools.groupby(zip(row_kinds == ANSWER, row_wrong, strict=True), lambda t: t[0])
        for is_answer, run in runs:
            if is_answer:
                asked += 1
                right += not any(token_wrong for _, token_wrong in run)
    return right, asked


def sentence_recall(mask: torch.Tensor, lesson: Lesson) -> float:
    """Share of the answering sentence's tokens that the selection holds, over answer queries."""
    index = torch.arange(mask.shape[-1], device=mask.device)
    inside = (index >= lesson.sentence_start[..., None]) & (index < lesson.sentence_end[..., None])
    batch = torch.arange(mask.shape[0], device=mask.device)[:, None]
    held = (mask[batch, lesson.rows] & inside).sum()
    return (held / inside.sum().clamp(min=1)).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder written by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="stretches every phase")
    parser.add_argument("--resume", type=Path, help="weights to start from")
    parser.add_argument("--from-phase", help="first phase to run when resuming")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--final-lengths", default="2048,8192,32768,65536")
    parser.add_argument("--final-questions", type=int, default=48)
    parser.add_argument(
        "--smoke", action="store_true", help="a minute on a CPU, own sources as text"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.smoke:
        run_smoke(options)
        return
    torch._dynamo.config.recompile_limit = 64
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = (load_weights(options.resume) if options.resume else Model(Shape())).to(device)
    todo = phases(model.shape, options.scale)
    if options.from_phase:
        names = [phase.name for phase in todo]
        todo = todo[names.index(options.from_phase) :]
    trainer = Trainer(model, options.data, options.out, options.workers, smoke=False)
    if options.resume:
        trainer.tokens_seen = 20 * TOKENS_PER_STEP
    trainer.log(**versions(device), seed=options.seed, parameters=count_parameters(model))
    for number, phase in enumerate(todo):
        trainer.run(phase, options.seed + number)
        if phase.evaluate:
            evaluate_long(trainer, options, phase.name)


def run_smoke(options) -> None:
    """All phases, a save, a reload and an evaluation, with this repository's files as text."""
    torch.set_num_threads(1)
    repository = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as scratch:
        books, data = Path(scratch, "books"), Path(scratch, "data")
        books.mkdir()
        own = sorted(Path(__file__).parent.glob("*.py"))
        text = "\n".join(path.read_text(encoding="utf-8") for path in own)
        for name in ("training", "pride-and-prejudice"):
            (books / f"{name}.txt").write_text(text, encoding="utf-8")
        prepare(books, [repository / "training"], 300_000, SMOKE_SHAPE.vocab_size, data)
        model = Model(SMOKE_SHAPE)
        trainer = Trainer(model, data, options.out, workers=0, smoke=True)
        for number, phase in enumerate(smoke_phases(model.shape)):
            trainer.run(phase, options.seed + number)
        reloaded = load_weights(options.out / "sparse.pt")
        table(reloaded, Corpus(data, "val"), [512], 6, ["shared", "every_layer", "last_k"])


def evaluate_long(trainer: Trainer, options, name: str) -> None:
    """Recall of the weights as saved (bf16)."""
    model = load_weights(options.out / f"{name}.pt").to(trainer.device)
    corpus = Corpus(options.data, "val")
    lengths = [int(length) for length in options.final_lengths.split(",")]
    rows = table(model, corpus, lengths, options.final_questions, ["shared", "every_layer"])
    (options.out / f"recall_{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def versions(device: torch.device) -> dict:
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    return {"torch": torch.__version__, "python": platform.python_version(), "device": name}


def count_parameters(model: Model) -> int:
    return sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    main()
