# SPDX-License-Identifier: Apache-2.0
"""Recall of planted facts by length and plan, on held-out texts, words and digits.

    python evaluate.py --data DATA --weights WEIGHTS.pt [--lengths 2048,8192] [--questions 48]

Each text holds six facts at random depths and is read once; each fact is then asked as the first
question after the text. An answer counts when every token of the value and the end of the turn
are the model's first choice (so greedy decoding gives exactly the value).
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import load_weights
from long_context import LAST, RANDOM, LongContext
from model import Model
from rows import Corpus, RowMaker, RowMix

FACTS_PER_TEXT = 6
QUESTION_ROOM = 64  # tokens kept free behind the text for the question and the answer


def make_case(corpus: Corpus, length: int, seed: int):
    """A text of `length` - QUESTION_ROOM tokens with six facts, and (question, answer) tokens."""
    maker = RowMaker(corpus, seed, held_out=True)
    maker.rng = random.Random(seed)
    maker.facts.rng = maker.rng
    facts = maker.facts.make(FACTS_PER_TEXT)
    own_line = maker.rng.random() < 0.5
    planted = [maker.planted(fact, own_line) for fact in facts]
    tokens, _ = maker.plant(planted, length - QUESTION_ROOM, own_line)
    ids = corpus.ids
    asked = [
        (
            corpus.encode("\n\n" + fact.question) + [ids["<|assistant|>"]],
            maker.value_tokens(fact),
        )
        for fact in facts
    ]
    return tokens, asked, facts


@torch.no_grad()
def answers_right(model: Model, runner: LongContext, case, ends: set[int]) -> list[bool]:
    tokens, asked, _ = case
    device = model.embed.device
    _, cache = runner.extend(runner.empty(), torch.tensor(tokens, device=device))
    right = []
    for question, answer in asked:
        suffix = torch.tensor(question + answer, device=device)
        hidden, _ = runner.extend(cache, suffix)
        best = F.linear(hidden[len(question) - 1 :], model.head.to(hidden.dtype)).argmax(-1).tolist()
        right.append(best[:-1] == answer and best[-1] in ends)
    return right


def recall(model: Model, corpus: Corpus, plan: str, length: int, questions: int, seed: int = 7000):
    """-> (right, asked, right with numbers as values, asked with numbers as values)."""
    runner = LongContext(model, plan)
    ends = {corpus.ids["<|endoftext|>"], corpus.ids["<|user|>"]}
    counts = [0, 0, 0, 0]
    for number in range(-(-questions // FACTS_PER_TEXT)):
        case = make_case(corpus, length, seed + number)
        for fact, right in zip(case[2], answers_right(model, runner, case, ends), strict=True):
            counts[0] += right
            counts[1] += 1
            if fact.value.isdigit():
                counts[2] += right
                counts[3] += 1
    return counts


def plans(model: Model) -> dict[str, str]:
    return {
        "shared": model.shape.plan,
        "every_layer": "F" * model.shape.num_layers,
        "last_k": LAST,
        "random_k": RANDOM,
    }


def table(model: Model, corpus: Corpus, lengths: list[int], questions: int, names: list[str]) -> list:
    rows = []
    for length in lengths:
        for name in names:
            began = time.time()
            right, asked, digits_right, digits = recall(
                model, corpus, plans(model)[name], length, questions
            )
            row = {"length": length, "plan": name, "right": right, "asked": asked}
            row |= {"numbers_right": digits_right, "numbers": digits}
            row["seconds"] = round(time.time() - began, 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--lengths", default="2048,8192,32768,65536")
    parser.add_argument("--plans", default="shared,every_layer,last_k,random_k")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_weights(options.weights).to(device)
    corpus = Corpus(options.data, "val")
    lengths = [int(length) for length in options.lengths.split(",")]
    rows = table(model, corpus, lengths, options.questions, options.plans.split(","))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
