# SPDX-License-Identifier: Apache-2.0
"""Recall of planted facts by length and plan, on held-out texts, words and digits.

    python evaluate.py --data DATA --weights WEIGHTS.pt [--lengths 2048,8192] [--questions 48]

Each text holds six facts at random depths and is read once; each fact is then asked as the first
question after the text. An answer counts when every token of the value and the end of the turn
are the model's first choice (so greedy decoding gives exactly the value).
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from checkpoint import load_weights
from long_context import LAST, RANDOM, LongContext
from model import Model
from rows import Corpus, RowMaker

FACTS_PER_TEXT = 6
FIRST_SEED = 7000
QUESTION_ROOM = 64  # tokens kept free behind the text for the question and the answer


def make_case(corpus: Corpus, length: int, seed: int, own_wording: bool = False):
    """A text of `length` - QUESTION_ROOM tokens with six facts -> tokens, (question, answer) tokens,
    spans of the sentences, facts."""
    maker = RowMaker(corpus, seed, held_out=True)
    if own_wording:
        maker.facts.other_wording = 0.0
    facts = maker.facts.make(FACTS_PER_TEXT)
    own_line = maker.rng.random() < 0.5
    planted = [maker.planted(fact, own_line) for fact in facts]
    tokens, spans = maker.plant(planted, length - QUESTION_ROOM, own_line)
    ids = corpus.ids
    asked = [
        (
            corpus.encode("\n\n" + fact.question) + [ids["<|assistant|>"]],
            maker.value_tokens(fact),
        )
        for fact in facts
    ]
    return tokens, asked, spans, facts


@torch.no_grad()
def ask(model: Model, runner: LongContext, case, ends: set[int]) -> list[tuple[bool, float]]:
    """For each fact: answered right, and the share of its sentence in the last source's selection
    when the answer's first token is predicted."""
    tokens, asked, spans, _ = case
    device = model.embed.device
    _, cache = runner.extend(runner.empty(), torch.tensor(tokens, device=device))
    results = []
    for (question, answer), (start, end) in zip(asked, spans, strict=True):
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


def recall(
    model: Model, corpus: Corpus, plan: str, length: int, questions: int, own_wording: bool = False
) -> dict:
    """Counts over `questions` facts (rounded up to whole texts)."""
    runner = LongContext(model, plan)
    ends = {corpus.ids["<|endoftext|>"], corpus.ids["<|user|>"]}
    row = {"right": 0, "asked": 0, "numbers_right": 0, "numbers": 0, "recall_at_k": 0.0}
    for number in range(-(-questions // FACTS_PER_TEXT)):
        case = make_case(corpus, length, FIRST_SEED + number, own_wording)
        for fact, (right, found) in zip(case[-1], ask(model, runner, case, ends), strict=True):
            is_number = fact.value.isdigit()
            row["right"] += right
            row["asked"] += 1
            row["numbers_right"] += right and is_number
            row["numbers"] += is_number
            row["recall_at_k"] += found
    row["recall_at_k"] = round(row["recall_at_k"] / row["asked"], 3)
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
    lengths: list[int],
    questions: int,
    names: list[str],
    own_wording: bool = False,
) -> list[dict]:
    rows = []
    for length in lengths:
        for name in names:
            began = time.time()
            plan = plans(model).get(name, name)
            row = {"length": length, "plan": name}
            row |= recall(model, corpus, plan, length, questions, own_wording)
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
    parser.add_argument("--own-wording", action="store_true", help="ask in the fact's own words")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_weights(options.weights).to(device)
    corpus = Corpus(options.data, "val")
    lengths = [int(length) for length in options.lengths.split(",")]
    names = options.plans.split(",")
    rows = table(model, corpus, lengths, options.questions, names, options.own_wording)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
