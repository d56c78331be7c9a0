# SPDX-License-Identifier: Apache-2.0
"""What is measured of one model under one plan: answers with recall@k, loss on books, time."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from corpus import Corpus
from evidence_forward import Clock, Forward, Probe
from evidence_rows import EvidenceMix, EvidenceRows, Question
from evidence_shape import index_flops, indexers, other_flops
from rows import ANSWER, TEXT

TASKS = (
    ("needle", 0), ("list", 0), ("chain", 1), ("chain", 2), ("chain", 3), ("back", 1), ("back", 2),
)  # fmt: skip
NUM_DEPTHS = 5
EVALUATION_TOKENS = 32768  # of each task at each length


@dataclass
class Case:
    task: str
    hops: int
    length: int
    tokens: Tensor  # [rows, length + 1]
    questions: list[Question]
    ends: set[int]  # tokens that end a turn: another question may follow or not
    probes: list[Probe]  # of the sentence with the value, and of the sentence asked for


def probe(questions: list[Question], spans: list[tuple[int, int]], device) -> Probe:
    columns = (
        [q.row for q in questions],
        [q.first for q in questions],
        [start for start, _ in spans],
        [end for _, end in spans],
    )
    return Probe(*(torch.tensor(column, device=device) for column in columns))


def make_cases(corpus: Corpus, seed: int, lengths: list[int], tokens: int, device) -> list[Case]:
    """At every length as many questions: one for each 128 of `tokens` tokens."""
    cases, ends = [], {corpus.ids["<|user|>"], corpus.ids["<|endoftext|>"]}
    for number, (task, hops) in enumerate(TASKS):
        for length in lengths:
            maker = EvidenceRows(corpus, seed * 100_000 + number * 1000 + length % 997)
            rows, _, questions = maker.case(task, hops, length, max(1, tokens // length))
            probes = [
                probe(questions, [q.value_span for q in questions], device),
                probe(questions, [q.asked_span for q in questions], device),
            ]
            cases.append(
                Case(task, hops, length, torch.from_numpy(rows).to(device), questions, ends, probes)
            )
    return cases


def answers(forward: Forward, plan: str, case: Case) -> list[dict]:
    """One row of the table for each depth (fifths of the text)."""
    forward.probes = case.probes
    hidden, _ = forward.run(case.tokens[:, :-1], plan)
    forward.probes = []
    targets = case.tokens[:, 1:]
    losses, choices = forward.losses(hidden, targets)
    choices = choices.view(targets.shape)
    right, choices = (choices == targets).cpu(), choices.cpu()
    losses = losses.view(len(case.tokens), -1).cpu()
    value_recall, asked_recall = ({i: r.cpu() for i, r in p.items()} for p in forward.recalls)
    rows = []
    for depth in range(NUM_DEPTHS):
        chosen = [
            n
            for n, q in enumerate(case.questions)
            if min(int(q.depth * 5), NUM_DEPTHS - 1) == depth
        ]
        if not chosen:
            continue
        correct, loss = 0, 0.0
        for n in chosen:
            q = case.questions[n]
            end = q.first + q.size - 1
            said = bool(right[q.row, q.first : end].all())
            correct += said and choices[q.row, end].item() in case.ends
            loss += losses[q.row, q.first].item()
        row = {
            "task": case.task,
            "hops": case.hops,
            "length": case.length,
            "depth": depth,
            "asked": len(chosen),
            "right": correct,
            "first_token_loss": round(loss / len(chosen), 4),
        }
        for name, recall in (("value", value_recall), ("asked", asked_recall)):
            if recall:
                by_layer = {i: r[chosen].mean().item() for i, r in recall.items()}
                row[f"recall_{name}"] = round(max(by_layer.values()), 4)
                row[f"recall_{name}_by_layer"] = " ".join(
                    f"{i}:{r:.3f}" for i, r in by_layer.items()
                )
        rows.append(row)
    return rows


def book_rows(corpus: Corpus, length: int, tokens: int, device) -> Tensor:
    """Pieces of the validation books at equal distances: the same for every arm and seed."""
    num_rows = max(1, tokens // length)
    opening = [corpus.ids[t] for t in ("[gMASK]", "<sop>", "<|user|>")]
    room = len(corpus.books) - length
    rows = []
    for r in range(num_rows):
        start = room * r // num_rows
        piece = corpus.books[start : start + length + 1 - len(opening)]
        rows.append(opening + piece.astype("int64").tolist())
    return torch.tensor(rows, device=device)


def book_loss(forward: Forward, plan: str, rows: Tensor) -> dict:
    hidden, _ = forward.run(rows[:, :-1], plan)
    losses, _ = forward.losses(hidden, rows[:, 1:])
    return {
        "length": rows.shape[1] - 1,
        "tokens": losses.numel(),
        "loss": round(losses.mean().item(), 4),
    }


def cost(forward: Forward, plan: str, rows: Tensor, repeats: int = 2) -> dict:
    """Counted operations of one prompt and measured milliseconds of the batch's prefill."""
    shape, length = forward.shape, rows.shape[1] - 1
    inputs = rows[:, :-1]
    forward.run(inputs, plan)
    best = None
    for _ in range(repeats):
        clock = forward.clock = Clock(inputs.device)
        began = clock.now()
        forward.run(inputs, plan)
        total = clock.now() - began
        if best is None or total < best[0]:
            best = total, clock.selecting
    forward.clock = None
    return {
        "length": length,
        "batch": len(rows),
        "indexers": indexers(plan),
        "index_gflop": round(indexers(plan) * index_flops(shape, length) / 1e9, 4),
        "other_gflop": round(other_flops(shape, length) / 1e9, 4),
        "selecting_ms": round(best[1] * 1e3, 2),
        "total_ms": round(best[0] * 1e3, 2),
    }


class PlanSearch:
    """The paper's greedy search: again and again the layer is made shared whose loss rises least.
    What the layers before it compute is kept."""

    def __init__(self, forward: Forward, tokens: Tensor, kinds: Tensor):
        """tokens [rows, length + 1], kinds [rows, length]"""
        self.forward, self.tokens, self.kinds = forward, tokens, kinds.flatten()

    def loss(self, plan: str, kind: int, state) -> float:
        hidden, _ = self.forward.run(self.tokens[:, :-1], plan, state)
        losses, _ = self.forward.losses(hidden, self.tokens[:, 1:])
        return losses[self.kinds == kind].mean().item()

    def search(self, kind: int, fewest: int) -> list[dict]:
        """Each step's plan and loss, from an indexer in every layer to `fewest`."""
        plan = "F" * self.forward.shape.num_layers
        rows = [{"plan": plan, "loss": self.loss(plan, kind, None)}]
        while plan.count("F") > fewest:
            _, states = self.forward.run(self.tokens[:, :-1], plan, keep=True)
            tried = []
            for i in range(1, len(plan)):
                if plan[i] == "F":
                    flipped = plan[:i] + "S" + plan[i + 1 :]
                    tried.append((self.loss(flipped, kind, states[i]), flipped))
            loss, plan = min(tried)
            rows.append({"plan": plan, "loss": round(loss, 5)})
        return rows


def calibration(corpus: Corpus, seed: int, num_rows: int, length: int, device):
    """Rows of all tasks in text of the training books -> tokens and kinds."""
    maker = EvidenceRows(corpus, seed * 100_000 + 99)
    batch = maker.batch(EvidenceMix(length=length, num_rows=num_rows, jumps=0.0, mixed=1.0))
    tokens = torch.from_numpy(batch["tokens"]).to(device)
    return tokens, torch.from_numpy(batch["kinds"].astype("int64")).to(device)


CRITERIA = {"text": TEXT, "answers": ANSWER}


def timed(function, *arguments):
    began = time.time()
    return function(*arguments), round(time.time() - began, 1)
