# SPDX-License-Identifier: Apache-2.0
"""What sharing costs and saves: all research arms of one seed, trained and measured.

    python evidence.py --books BOOKS --seed 1 --out OUT       (or --data DATA of prepare_data.py)
    python evidence.py --smoke --out OUT

Writes OUT/*.csv (every seed adds its rows) and OUT/seed<N>/<arm>.pt. A run that was cut off goes on
where it stopped: what OUT/done.txt names is not done again.
"""

import argparse
import csv
import json
import platform
import tempfile
import time
from pathlib import Path

import torch

from checkpoint import load_weights, save_weights
from corpus import Corpus
from evidence_forward import Forward
from evidence_measure import (
    CRITERIA,
    EVALUATION_TOKENS,
    PlanSearch,
    answers,
    book_loss,
    book_rows,
    calibration,
    cost,
    make_cases,
    timed,
)
from evidence_shape import (
    DENSE_TWIN,
    EVIDENCE_SHAPE,
    FREQUENCIES,
    SMOKE_EVIDENCE_SHAPE,
    indexers,
    shape_of,
)
from evidence_training import (
    EVERY_SHARE,
    START_SHARE,
    Learner,
    arm_stages,
    start_stages,
)
from model import Model
from prepare_data import prepare

ARMS = ("every", DENSE_TWIN, "quarter", "eighth", "half")
FIELDS = {
    "training": "seed arm stage steps tokens seconds compiling",
    "answers": "seed arm plan_of plan indexers task hops length depth asked right first_token_loss "
    "recall_value recall_asked recall_value_by_layer recall_asked_by_layer",
    "books": "seed arm plan_of plan indexers length tokens loss",
    "search": "seed criterion step plan loss",
    "cost": "seed plan indexers length batch index_gflop other_gflop selecting_ms total_ms",
}


class Results:
    """CSV tables that grow, and the names of what is done."""

    def __init__(self, out: Path, seed: int):
        self.out, self.seed = out, seed
        self.done_file = out / "done.txt"
        done = self.done_file.read_text().split("\n") if self.done_file.exists() else []
        self.done = set(done)
        self.began = time.time()

    def log(self, **entry) -> None:
        line = json.dumps({"seed": self.seed, "at": round(time.time() - self.began, 1)} | entry)
        print(line, flush=True)
        with (self.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def is_done(self, what: str) -> bool:
        return f"{self.seed} {what}" in self.done

    def finish(self, what: str, tables: dict[str, list[dict]]) -> None:
        for table, rows in tables.items():
            path, names = self.out / f"{table}.csv", FIELDS[table].split()
            is_new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, names, lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerows({"seed": self.seed} | row for row in rows)
        self.done.add(f"{self.seed} {what}")
        with self.done_file.open("a") as file:
            file.write(f"{self.seed} {what}\n")
        self.log(finished=what)


class Seed:
    """All arms of one seed."""

    def __init__(self, options, data: Path, seed: int, learner: Learner):
        self.smoke, self.seed, self.learner = options.smoke, seed, learner
        self.results = Results(options.out, seed)
        learner.log = self.results.log
        self.folder = options.out / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = SMOKE_EVIDENCE_SHAPE if self.smoke else EVIDENCE_SHAPE
        self.seconds = options.minutes * 60
        self.lengths = [256] if self.smoke else [1024, 2048, 4096, 8192]
        self.few_lengths = [256] if self.smoke else [2048]
        self.corpus, self.train_corpus = Corpus(data, "val"), Corpus(data, "train")
        self.eval_tokens = 512 if self.smoke else EVALUATION_TOKENS
        device = self.learner.device
        self.cases = make_cases(self.corpus, self.seed, self.lengths, self.eval_tokens, device)
        self.books = {
            n: book_rows(self.corpus, n, self.eval_tokens * 2, device) for n in self.lengths
        }

    def run(self) -> None:
        self.results.log(**versions(self.learner.device), minutes=self.seconds / 60)
        self.start()
        for arm in ARMS:
            self.arm(arm)
        self.results.log(finished="all")

    # --- training --------------------------------------------------------------------------

    def start(self) -> None:
        if not self.results.is_done("start"):
            torch.manual_seed(self.seed)
            self.learner.take("every", Model(self.base).state_dict())
            rows = []
            for number, stage in enumerate(start_stages(self.seconds * START_SHARE, self.smoke)):
                took = self.learner.run("start", stage, self.seed * 10 + number, ramp=number == 0)
                rows.append({"arm": "start", "stage": stage.name} | took)
            save_weights(self.learner.model, self.folder / "start.pt")
            self.results.finish("start", {"training": rows})
        self.first = load_weights(self.folder / "start.pt").state_dict()

    def arm(self, arm: str) -> None:
        path = self.folder / f"{arm}.pt"
        if not self.results.is_done(arm):
            self.learner.take(arm, self.first)
            rows = []
            seconds = self.seconds * EVERY_SHARE
            stages = arm_stages(arm, self.base, seconds, self.steps(arm), self.smoke)
            for number, stage in enumerate(stages):
                took = self.learner.run(arm, stage, self.seed * 10 + 5 + number, ramp=number == 0)
                rows.append({"arm": arm, "stage": stage.name} | took)
            save_weights(self.learner.model, path)
            self.results.finish(arm, {"training": rows})
        self.learner.take(arm, load_weights(path).state_dict())
        self.measure(arm, Forward(self.learner.model))

    def steps(self, arm: str) -> dict[str, int] | None:
        """How many steps each stage of the first arm took."""
        if arm == ARMS[0]:
            return None
        with (self.results.out / "training.csv").open() as file:
            rows = list(csv.DictReader(file))
        mine = [r for r in rows if r["seed"] == str(self.seed) and r["arm"] == ARMS[0]]
        return {row["stage"]: int(row["steps"]) for row in mine}

    # --- measuring -------------------------------------------------------------------------

    def measure(self, arm: str, forward: Forward) -> None:
        own = shape_of(arm, self.base).plan
        dense = "D" * len(own)
        if arm == DENSE_TWIN:
            self.plan(forward, arm, "dense", dense, self.lengths)
            return
        self.plan(forward, arm, "own", own, self.lengths)
        if arm == "every":
            self.plan(forward, arm, "dense", dense, self.few_lengths)
            self.costs(forward)
            for name in ("half", "quarter", "eighth"):
                self.plan(forward, arm, name, shape_of(name, self.base).plan, self.few_lengths)
            for criterion in CRITERIA:
                for indexers_left, plan in self.searched(forward, criterion).items():
                    name = f"searched by {criterion}, {indexers_left}"
                    self.plan(forward, arm, name, plan, self.few_lengths)
        self.wrong(forward, arm)

    def wrong(self, forward: Forward, arm: str) -> None:
        """Controls: shared layers are given a set that is not their source's."""
        if arm in ("every", "quarter"):
            plan = shape_of("quarter", self.base).plan
            untrained, previous = plan.replace("S", "R"), plan.replace("S", "P")
            self.plan(forward, arm, "untrained indexer", untrained, self.few_lengths)
            self.plan(forward, arm, "previous source", previous, self.few_lengths)

    def plan(self, forward: Forward, arm: str, name: str, plan: str, lengths: list[int]) -> None:
        what = f"{arm} under {name}"
        if self.results.is_done(what):
            return
        same = {"arm": arm, "plan_of": name, "plan": plan, "indexers": indexers(plan)}
        began = time.time()
        asked = [
            same | row
            for case in self.cases
            if case.length in lengths
            for row in answers(forward, plan, case)
        ]
        books = [same | book_loss(forward, plan, self.books[n]) for n in lengths]
        scores: dict[str, list[int]] = {}
        for row in asked:
            score = scores.setdefault(f"{row['task']}{row['hops']} {row['length']}", [0, 0])
            score[0] += row["right"]
            score[1] += row["asked"]
        shown = {name: round(right / total, 3) for name, (right, total) in scores.items()}
        loss = {str(row["length"]): row["loss"] for row in books}
        seconds = round(time.time() - began, 1)
        self.results.log(arm=arm, plan_of=name, plan=plan, right=shown, loss=loss, seconds=seconds)
        self.results.finish(what, {"answers": asked, "books": books})

    def searched(self, forward: Forward, criterion: str) -> dict[int, str]:
        """Number of indexers -> plan found by greedy search on text of the training books."""
        what = f"search by {criterion}"
        counts = [indexers(shape_of(arm, self.base).plan) for arm in ("half", "quarter", "eighth")]
        if not self.results.is_done(what):
            length, num_rows = (256, 2) if self.smoke else (2048, 4)
            tokens, kinds = calibration(
                self.train_corpus, self.seed, num_rows, length, self.learner.device
            )
            search = PlanSearch(forward, tokens, kinds)
            rows, seconds = timed(search.search, CRITERIA[criterion], min(counts))
            rows = [{"criterion": criterion, "step": n} | row for n, row in enumerate(rows)]
            self.results.log(search=criterion, seconds=seconds)
            self.results.finish(what, {"search": rows})
        with (self.results.out / "search.csv").open() as file:
            rows = [r for r in csv.DictReader(file) if r["seed"] == str(self.seed)]
        plans = [r["plan"] for r in rows if r["criterion"] == criterion]
        return {plan.count("F"): plan for plan in plans if plan.count("F") in counts}

    def costs(self, forward: Forward) -> None:
        if self.results.is_done("costs"):
            return
        rows = []
        lengths = [256] if self.smoke else [2048, 8192, 32768]
        for length in lengths:
            books = book_rows(self.corpus, length, self.eval_tokens, self.learner.device)
            for arm in FREQUENCIES:
                plan = shape_of(arm, self.base).plan
                rows.append({"plan": plan} | cost(forward, plan, books))
        self.results.finish("costs", {"cost": rows})


def versions(device: torch.device) -> dict:
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "python": platform.python_version(), "device": name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, help="folder of books; data are made of them")
    parser.add_argument("--data", type=Path, help="folder written by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", default="1", help="one, or several with commas between")
    parser.add_argument("--minutes", type=float, default=11.0, help="of a GPU, for a whole seed")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument(
        "--smoke", action="store_true", help="seconds on a CPU, own sources as text"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 128
    if options.smoke:
        smoke(options)
        return
    data = options.data or options.out / "data"
    if options.books and not (data / "sources.json").exists():
        prepare(options.books, [], 0, EVIDENCE_SHAPE.vocab_size, data)
    run(options, data)


def run(options, data: Path) -> None:
    base = SMOKE_EVIDENCE_SHAPE if options.smoke else EVIDENCE_SHAPE
    learner = Learner(base, data, 0 if options.smoke else options.workers)
    for seed in map(int, options.seed.split(",")):
        Seed(options, data, seed, learner).run()


def smoke(options) -> None:
    """Every code path with tiny arms, this folder's files as text; run twice to prove resuming."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        books, data = Path(scratch, "books"), Path(scratch, "data")
        books.mkdir()
        folder = Path(__file__).parent
        own = [path for path in sorted(folder.glob("*.*")) if path.suffix in (".py", ".txt")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in own)
        for name in ("training", "pride-and-prejudice"):
            (books / f"{name}.txt").write_text(text, encoding="utf-8")
        prepare(books, [], 0, SMOKE_EVIDENCE_SHAPE.vocab_size, data)
        for _ in range(2):
            run(options, data)


if __name__ == "__main__":
    main()
