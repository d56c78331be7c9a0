# SPDX-License-Identifier: Apache-2.0
"""Recall by task, length and plan on held-out texts and words; perplexity; drafts accepted.

    python evaluate.py --data DATA --weights WEIGHTS.pt [--tasks needle,unseen] [--lengths 2048,8192]

Each text holds several items at random depths and is read once; each item is then asked as the
first question after the text. An answer counts when every token of the value and the end of the
turn are the model's first choice (so greedy decoding gives exactly the value).
"""

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from checkpoint import load_weights
from corpus import Corpus
from drafting import acceptance
from facts import Item
from long_context import LAST, RANDOM, LongContext
from model import DENSE, Model
from rows import TEXT, RowMaker
from wordings import TRAINED, UNSEEN

# wordings never trained on: "unseen"; lists of 64 entries: "recall"; one hop each: "hops1" ...
TASKS = ("needle", "unseen", "recall", "hops0", "hops1", "hops2")
FIRST_SEED = 7000
QUESTION_ROOM = 80  # tokens kept free behind the text for the question and the answer
NUM_ENTRIES = 64


@dataclass
class Case:
    tokens: list[int]
    asked: list[tuple[list[int], list[int]]]  # question, answer
    spans: list[tuple[int, int]]  # of the sentences that state the answers
    items: list[Item]


class LongTexts(RowMaker):
    """Fills texts with pieces of the held-out books and code; a text longer than both repeats."""

    def filling(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        parts, left = [], length
        while left > 0:
            size = min(left, self.rng.randint(2000, 20000))
            parts.append(self.corpus.piece(self.rng, size, 0.85))
            left -= size
        return np.concatenate(parts)[:length], np.full(length, TEXT)


def draw_items(maker: RowMaker, task: str, count: int) -> list[Item]:
    if task == "recall":
        return maker.facts.entries(NUM_ENTRIES)
    if task.startswith("hops"):
        hops = int(task[4:])
        found: list[Item] = []
        while len(found) < count:
            found += [i for i in maker.facts.chains(count, hops) if i.hops == hops]
        return found[:count]
    return maker.facts.make(count)


def make_case(
    corpus: Corpus, task: str, length: int, seed: int, count: int, unseen: Path = UNSEEN
) -> Case:
    """A text of `length` - QUESTION_ROOM tokens with the items, `count` of which are asked; the task
    "unseen" has the wordings of that file."""
    wordings = unseen if task == "unseen" else TRAINED
    maker = LongTexts(corpus, seed, held_out=True, wordings=wordings)
    items = draw_items(maker, task, count)
    own_line = maker.rng.random() < (1.0 if task not in ("needle", "unseen") else 0.5)
    tokens, _, spans = maker.plant(items, length - QUESTION_ROOM, own_line)
    ids = corpus.ids
    chosen = range(len(items))
    if len(items) > count:
        chosen = maker.rng.sample(chosen, count)
    asked = [
        (
            corpus.encode("\n\n" + items[i].question) + [ids["<|assistant|>"]],
            maker.value_tokens(items[i]),
        )
        for i in chosen
    ]
    return Case(tokens, asked, [spans[i] for i in chosen], [items[i] for i in chosen])


@torch.no_grad()
def ask(model: Model, runner: LongContext, case: Case, ends: set[int]) -> list[tuple[bool, float]]:
    """For each item: answered right, and the share of its sentence in the last source's selection
    when the answer's first token is predicted."""
    device = model.embed.device
    _, cache = runner.extend(runner.empty(), torch.tensor(case.tokens, device=device))
    results = []
    for (question, answer), (start, end) in zip(case.asked, case.spans, strict=True):
        suffix = torch.tensor(question + answer, device=device)
        hidden, _ = runner.extend(cache, suffix)
        first = len(question) - 1
        best = F.linear(hidden[first:], model.head.to(hidden.dtype)).argmax(-1).tolist()
        chosen = runner.choices.get(model.shape.plan.rindex("F"))
        found = 0.0
        if chosen is not None:
            row = chosen[first]
            found = ((row >= start) & (row < end)).sum().item() / (end - start)
        results.append((best[:-1] == answer and best[-1] in ends, found))
    return results


def questions_per_text(length: int) -> int:
    """Longer texts are read for more questions each."""
    return 8 if length <= 65536 else 64


def recall(model: Model, corpus: Corpus, task: str, plan: str, length: int, questions: int) -> dict:
    """Counts over `questions` items (rounded up to whole texts); misses by relation."""
    runner = LongContext(model, plan)
    ends = {corpus.ids["<|endoftext|>"], corpus.ids["<|user|>"]}
    row = {"right": 0, "asked": 0, "recall_at_k": 0.0}
    missed: list[str] = []
    count = min(questions, questions_per_text(length))
    for number in range(-(-questions // count)):
        case = make_case(corpus, task, length, FIRST_SEED + number, count)
        for item, (right, found) in zip(case.items, ask(model, runner, case, ends), strict=True):
            row["right"] += right
            row["asked"] += 1
            row["recall_at_k"] += found
            if not right:
                missed.append(item.relation or item.kind)
    row["recall_at_k"] = round(row["recall_at_k"] / row["asked"], 3)
    if missed and len(missed) < row["asked"] / 2:
        row["missed"] = " ".join(sorted(missed))
    return row


def plans(model: Model) -> dict[str, str]:
    return {
        "shared": model.shape.plan,
        "every_layer": "F" * model.shape.num_layers,
        "last_k": LAST,
        "random_k": RANDOM,
    }


def table(
    model: Model,
    corpus: Corpus,
    task: str,
    lengths: list[int],
    questions: int,
    names: list[str],
) -> list[dict]:
    rows = []
    for length in lengths:
        for name in names:
            began = time.time()
            plan = plans(model).get(name, name)
            row = {"task": task, "length": length, "plan": name}
            row |= recall(model, corpus, task, plan, length, questions)
            row["seconds"] = round(time.time() - began, 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


@torch.no_grad()
def perplexity(
    model: Model, corpus: Corpus, length: int, num_rows: int, opening: bool = True
) -> dict:
    """Mean loss (nats a token) on the validation books under each plan, and the chance that a
    draft is accepted; `opening`: behind the tokens with which every row of the training begins."""
    rng, device = random.Random(FIRST_SEED), model.embed.device
    first = [corpus.ids[t] for t in ("[gMASK]", "<sop>", "<|user|>")] if opening else []
    pieces = [corpus.piece(rng, length + 1, 1.0) for _ in range(num_rows)]
    rows = [np.concatenate((np.array(first, dtype=np.int64), p))[: length + 1] for p in pieces]
    tokens = torch.from_numpy(np.stack(rows)).to(device)
    positions = torch.arange(length, device=device).expand(num_rows, -1)
    batch = {"tokens": tokens, "positions": positions}
    batch["kinds"] = torch.full_like(positions, TEXT)
    row: dict = {"task": "perplexity", "length": length, "opening": opening}
    chosen = {name: plans(model)[name] for name in ("shared", "every_layer")}
    for name, plan in (chosen | {"dense": DENSE, "dense_as_trained": None}).items():
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = model(tokens[:, :-1], positions, plan).hidden
            logits = model.logits(hidden).float()
            loss = F.cross_entropy(logits, tokens[:, 1:].flatten()).item()
            row[name] = round(loss, 4)
            if name == "shared":
                row["accepted, selection shared"] = acceptance(model, batch, hidden, True)["text"]
                row["accepted, own selections"] = acceptance(
                    model, batch, hidden, True, own_selection=True
                )["text"]
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--tasks", default="needle,unseen,recall,hops1,hops2")
    parser.add_argument("--lengths", default="2048,8192,32768")
    parser.add_argument("--plans", default="shared,every_layer")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--perplexity", action="store_true")
    parser.add_argument("--perplexity-tokens", type=int, default=65536)
    parser.add_argument("--out", type=Path, help="JSON lines are added to this file")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_weights(options.weights).to(device)
    corpus = Corpus(options.data, "val")
    lengths = [int(length) for length in options.lengths.split(",") if length]
    rows = []
    if options.perplexity:
        for opening in (True, False):
            for length in (2048, 8192):
                count = options.perplexity_tokens // length
                rows.append(perplexity(model, corpus, length, count, opening))
    for task in filter(None, options.tasks.split(",")):
        rows += table(model, corpus, task, lengths, options.questions, options.plans.split(","))
    if options.out:
        with options.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
