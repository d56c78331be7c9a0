# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled model: dense, then dense with the index's lesson, then over selections; at the
end two branches, whose weights are averaged.

    python train.py --data DATA --out OUT [--scale 1.0] [--resume WEIGHTS.pt --from-phase NAME]
    python train.py --smoke --out OUT

Every phase writes OUT/<phase>.pt, every 30 s and at its end, from which the next one can be resumed.
"""

import argparse
import itertools
import json
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from checkpoint import load_weights, mean_weights, save_weights
from corpus import Corpus
from drafting import acceptance, divergence, draft_loss
from evaluate import TASKS, table
from graphs import WARM_UP, GraphedStep
from model import FAR_WINDOW, Lesson, Model, token_losses
from muon import Optimizer
from prepare_data import prepare
from rows import ANSWER, TEXT, RowMaker, RowMix
from shape import SMOKE_SHAPE, Shape
from wordings import TRAINED, UNSEEN

SEED = 20261121
CHECK_EVERY_SECONDS = 30
TOKENS_PER_STEP = 65536
WARM_UP_STEPS = 20


@dataclass
class Phase:
    name: str
    seconds: float
    rates: tuple[float, float]  # share of the peak rates at start and end
    turns: list[tuple[RowMix, str | None]]  # rows and plan of each step, taken in turn; see Model
    lesson: bool = False
    source_weight: float = 0.5  # of the loss of full layers' indexers
    draft: bool = False  # train the MTP layer alone
    draft_selects: bool = False  # through its own selection
    max_steps: int = 10**9
    start_from: str = ""  # begins with the weights of this phase, not of the one before
    mean_of: tuple[str, ...] = ()  # trains nothing: takes the mean of these phases' weights


def rows_of(length: int, **options) -> RowMix:
    return RowMix(length=length, num_rows=max(1, TOKENS_PER_STEP // length), **options)


def phases(shape: Shape, scale: float) -> list[Phase]:
    shared, every = shape.plan, "F" * shape.num_layers
    told = {"clozes": 0.35, "clauses": 0.35, "no_opening": 0.25}
    first = {"clozes": 0.15, "clauses": 0.3, "no_opening": 0.15, "max_hops": 1}
    start = rows_of(512, lists=0.45, copies=0.08, bigrams=0.04, **first)
    longer = rows_of(1024, lists=0.4, copies=0.03, bigrams=0.02, max_facts=12, **first)
    taught = {"lesson_rows": 128, "max_hops": 2} | told
    rows_2k = rows_of(2048, lists=0.5, entries=0.12, chains=0.08, max_facts=20, **taught)
    rows_8k = rows_of(8192, lists=0.1, max_facts=48, **taught)
    rows_16k = rows_of(16384, max_facts=96, **taught | {"lesson_rows": 256})
    rows_64k = rows_of(65536, max_facts=160, **taught | {"lesson_rows": 512})
    rows_256k = rows_of(262144, max_facts=400, far_rows=2048, **taught | {"lesson_rows": 512})
    sparse = [(rows_2k, shared), (rows_2k, every), (rows_2k, None)]
    mixed = [
        (rows_2k, shared),
        (rows_64k, None),
        (rows_2k, shared),
        (rows_2k, every),
        (rows_8k, shared),
    ]
    near = [(rows_2k, shared), (rows_64k, None), (rows_2k, every)]
    near += [(rows_8k, shared), (rows_2k, shared), (rows_8k, every)]
    far = [(rows_2k, shared), (rows_256k, None), (rows_2k, every)]
    far += [(rows_8k, shared), (rows_2k, shared)]
    drafts = [(rows_2k, shared), (rows_16k, None)]
    branch = {"lesson": True, "source_weight": 1.0, "start_from": "mixed"}
    plan = [
        Phase("dense512", 75, (1.0, 1.0), [(start, None)]),
        Phase("dense1024", 35, (1.0, 1.0), [(longer, None)]),
        Phase("joint2k", 285, (1.0, 0.8), [(rows_2k, None)], lesson=True),
        Phase("again2k", 160, (0.8, 0.6), [(rows_2k, None)], lesson=True),
        Phase("joint16k", 30, (0.5, 0.4), [(rows_16k, None)], lesson=True),
        Phase("joint64k", 35, (0.4, 0.3), [(rows_64k, None)], lesson=True),
        Phase("sparse2k", 35, (0.3, 0.3), sparse, lesson=True),
        Phase("mixed", 150, (0.4, 0.3), mixed, lesson=True, source_weight=1.0),
        Phase("near", 158, (0.3, 0.0), near, **branch),
        Phase("far", 156, (0.3, 0.0), far, **branch),
        Phase("mean", 0, (0.0, 0.0), [], mean_of=("near", "far")),
        Phase("mtp", 60, (1.0, 0.3), drafts, draft=True),
        Phase("mtp_sparse", 15, (0.3, 0.02), [(rows_2k, shared)], draft=True, draft_selects=True),
    ]
    return [replace(phase, seconds=phase.seconds * scale) for phase in plan]


def smoke_phases(shape: Shape) -> list[Phase]:
    shared, every = shape.plan, "F" * shape.num_layers
    told = {"clozes": 0.4, "clauses": 0.4, "no_opening": 0.3}
    short = RowMix(length=256, num_rows=4, max_facts=2, lesson_rows=16, **told)
    lists = replace(short, lists=0.4, copies=0.2, bigrams=0.2)
    turns = [(short, shared), (short, every), (short, None)]
    longer = replace(short, length=2 * FAR_WINDOW, num_rows=1, far_rows=64)
    far = [(short, shared), (longer, None)]
    draft = {"draft": True, "max_steps": 3}
    return [
        Phase("dense", 1e9, (1.0, 1.0), [(lists, None)], max_steps=4),
        Phase("joint", 1e9, (1.0, 0.5), [(short, None)], lesson=True, max_steps=4),
        Phase("sparse", 1e9, (0.1, 0.05), turns, lesson=True, max_steps=6),
        Phase("near", 1e9, (0.05, 0.0), turns, lesson=True, max_steps=3, start_from="sparse"),
        Phase("far", 1e9, (0.05, 0.0), far, lesson=True, max_steps=3, start_from="sparse"),
        Phase("mean", 0, (0.0, 0.0), [], mean_of=("near", "far")),
        Phase("mtp", 1e9, (1.0, 0.3), [(short, shared)], **draft),
        Phase("mtp_sparse", 1e9, (0.3, 0.1), [(short, shared)], draft_selects=True, **draft),
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
        self.losses, self.divergence = token_losses, divergence
        self.log_file = (out / "log.jsonl").open("a", encoding="utf-8")
        self.began = time.time()
        self.tokens_seen = 0
        self.sentence_from = model.shape.plan.rindex("F")
        if self.device.type == "cuda":
            model.compile_parts()
            model.use_fast_kernels()
            self.losses = torch.compile(token_losses, dynamic=False)
            self.divergence = torch.compile(divergence, dynamic=False)
        rows = RowMix(length=256, num_rows=2) if smoke else rows_of(2048, max_facts=16)
        rows = replace(rows, jumps=0.0, entries=0.0, chains=0.0, clozes=0.0, lesson_rows=128)
        lists = replace(rows, entries=0.7, chains=0.3)
        self.check_batches = {
            "seen": self.check_batch(rows, TRAINED),
            "unseen": self.check_batch(rows, UNSEEN),
            "lists": self.check_batch(lists, TRAINED),
        }

    def check_batch(self, rows: RowMix, wordings: Path) -> dict:
        """Rows of the fixed small evaluation: as many tokens as a step has, so nothing recompiles."""
        maker = RowMaker(Corpus(self.data, "val"), SEED, held_out=True, wordings=wordings)
        batch = {name: torch.from_numpy(array) for name, array in maker.batch(rows).items()}
        return to_device(batch, self.device)

    def log(self, **entry) -> None:
        entry["at"] = round(time.time() - self.began, 1)
        print(json.dumps(entry), flush=True)
        self.log_file.write(json.dumps(entry) + "\n")
        self.log_file.flush()

    def autocast(self):
        on_gpu = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu)

    def step(self, batch: dict, factor: torch.Tensor, phase: Phase, plan: str | None) -> dict:
        losses = self.draft_losses(batch, phase, plan) if phase.draft else None
        if losses is None:
            losses = self.token_losses(batch, phase, plan)
        losses["total"].backward()
        self.optimizer.step(factor)
        self.model.balance_experts(1e-3 * factor, mtp=phase.draft)
        return {name: torch.as_tensor(loss).detach() for name, loss in losses.items()}

    def token_losses(self, batch: dict, phase: Phase, plan: str | None) -> dict:
        model = self.model
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:].flatten()
        lesson = make_lesson(batch) if phase.lesson else None
        with self.autocast():
            told = {"sentence_from": self.sentence_from, "far": batch.get("far")}
            out = model(inputs, batch["positions"], plan, lesson, **told)
            losses = self.losses(out.hidden, model.head, targets)
        kinds = batch["kinds"].flatten()
        text = (losses * (kinds == TEXT)).sum() / (kinds == TEXT).sum().clamp(min=1)
        answer = (losses * (kinds == ANSWER)).sum() / (kinds == ANSWER).sum().clamp(min=1)
        total = text + answer + phase.source_weight * out.source_loss + 0.25 * out.own_loss
        return {
            "total": total,
            "text": text,
            "answer": answer,
            "source": out.source_loss,
            "own": out.own_loss,
        }

    def draft_losses(self, batch: dict, phase: Phase, plan: str | None) -> dict:
        model = self.model
        with self.autocast():
            with torch.no_grad():
                hidden = model(batch["tokens"][:, :-1], batch["positions"], plan).hidden
            lesson, select = make_lesson(batch), phase.draft_selects
            losses = draft_loss(model, batch, hidden, lesson, select, self.divergence)
        return {"total": losses["draft"] + losses["index"]} | losses

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

    def start_from(self, paths: list[Path]) -> None:
        """The mean of the weights in `paths`, with fresh optimiser state."""
        self.model.load_state_dict(mean_weights(paths))
        self.optimizer = Optimizer(self.model)

    def run(self, phase: Phase, seed: int) -> None:
        if phase.start_from:
            self.start_from([self.out / f"{phase.start_from}.pt"])
        if phase.mean_of:
            self.start_from([self.out / f"{name}.pt" for name in phase.mean_of])
            self.finish(phase)
            return
        if phase.draft:
            self.model.freeze_backbone()
        loaders = self.loaders([mix for mix, _ in phase.turns], seed)
        graphs = {
            (mix.length, plan): GraphedStep(partial(self.step, phase=phase, plan=plan), self.device)
            for mix, plan in phase.turns
        }
        start, next_check, losses, steps = time.time(), time.time(), {}, 0
        self.log(phase=phase.name, state="start")
        for (mix, plan), step in zip(itertools.cycle(phase.turns), itertools.count()):
            progress = max((time.time() - start) / phase.seconds, step / phase.max_steps)
            if progress >= 1:
                break
            factor = phase.rates[0] + (phase.rates[1] - phase.rates[0]) * progress
            if self.tokens_seen < WARM_UP_STEPS * TOKENS_PER_STEP:
                factor *= (self.tokens_seen / TOKENS_PER_STEP + 1) / WARM_UP_STEPS
            losses = graphs[mix.length, plan](next(loaders[mix.length]), factor)
            self.tokens_seen += mix.length * mix.num_rows
            steps += 1
            if step % 51 == 0:
                numbers = {name: round(value.item(), 3) for name, value in losses.items()}
                self.log(phase=phase.name, step=step, tokens=self.tokens_seen, **numbers)
            if step < (WARM_UP + 1) * len(phase.turns):  # these compile
                start = time.time()
            if time.time() > next_check + CHECK_EVERY_SECONDS:
                self.check(phase)
                save_weights(self.model, self.out / f"{phase.name}.pt")
                next_check = time.time()
        del loaders, graphs
        self.finish(phase, steps=steps, seconds=round(time.time() - start, 1))

    def finish(self, phase: Phase, **entry) -> None:
        self.check(phase)
        self.log(phase=phase.name, state="end", **entry)
        save_weights(self.model, self.out / f"{phase.name}.pt")

    @torch.no_grad()
    def check(self, phase: Phase) -> None:
        """The fixed small evaluation: answers and, at the sources, recall of the sentence."""
        began, plan = time.time(), self.model.shape.plan
        if phase.draft:
            for select in (False, True):
                self.log(phase=phase.name, check="draft", select=select, **self.check_draft(select))
            return
        plans = {"dense": None}
        if phase.lesson or phase.mean_of:
            plans |= {"shared": plan, "every": "F" * len(plan)}
        for rows in self.check_batches:
            for name, plan in plans.items():
                result = self.check_plan(rows, plan)
                self.log(phase=phase.name, check=f"{rows} {name}", **result)
        self.log(phase=phase.name, check_seconds=round(time.time() - began, 2))

    def check_draft(self, select: bool) -> dict:
        batch = self.check_batches["seen"]
        with self.autocast():
            plan = self.model.shape.plan
            hidden = self.model(batch["tokens"][:, :-1], batch["positions"], plan).hidden
            return acceptance(self.model, batch, hidden, select)

    def check_plan(self, rows: str, plan: str | None) -> dict:
        batch, model = self.check_batches[rows], self.model
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
        result = {"right": round(right / asked, 3), "asked": asked}
        result["text"] = round(losses[kinds.flatten() == TEXT].mean().item(), 3)
        recalls = [round(sentence_recall(m, make_lesson(batch)), 2) for m in out.masks.values()]
        return result | ({"recall@k": recalls} if recalls else {})


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
    parser.add_argument("--until-phase", help="last phase to run")
    parser.add_argument(
        "--smoke", action="store_true", help="under a minute on a CPU, own sources as text"
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
    names = [phase.name for phase in todo]
    first = names.index(options.from_phase) if options.from_phase else 0
    last = names.index(options.until_phase) if options.until_phase else len(names) - 1
    trainer = Trainer(model, options.data, options.out, options.workers, smoke=False)
    if options.resume:
        trainer.tokens_seen = WARM_UP_STEPS * TOKENS_PER_STEP
    trainer.log(**versions(device), seed=options.seed, parameters=count_parameters(model))
    for number in range(first, last + 1):
        trainer.run(todo[number], options.seed + number)


def run_smoke(options) -> None:
    """All phases, a save, a reload and an evaluation, with this repository's files as text."""
    torch.set_num_threads(1)
    repository = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as scratch:
        books, data = Path(scratch, "books"), Path(scratch, "data")
        books.mkdir()
        own = [path for path in Path(__file__).parent.glob("*.*") if path.suffix in (".py", ".txt")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(own))
        for name in ("training", "pride-and-prejudice"):
            (books / f"{name}.txt").write_text(text, encoding="utf-8")
        prepare(books, [repository / "training"], 300_000, SMOKE_SHAPE.vocab_size, data)
        trainer = Trainer(Model(SMOKE_SHAPE), data, options.out, workers=0, smoke=True)
        for number, phase in enumerate(smoke_phases(SMOKE_SHAPE)):
            trainer.run(phase, options.seed + number)
        reloaded = load_weights(options.out / "mtp_sparse.pt")
        corpus = Corpus(data, "val")
        for task in TASKS:
            table(reloaded, corpus, task, [512], 4, ["shared", "every_layer", "last_k"])


def versions(device: torch.device) -> dict:
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    return {"torch": torch.__version__, "python": platform.python_version(), "device": name}


def count_parameters(model: Model) -> int:
    return sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    main()
