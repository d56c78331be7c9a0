# SPDX-License-Identifier: Apache-2.0
"""Greedy answers to natural_facts.txt, eight facts a text, from the validation books.

python natural.py --data DATA --weights WEIGHTS.pt [--lengths 2048,8192] [--plans shared]
"""

import argparse
import json
import random
from pathlib import Path

import torch

from checkpoint import load_weights
from corpus import Corpus
from evaluate import LongTexts, plans
from facts import Item
from long_context import LongContext

FACTS = Path(__file__).with_name("natural_facts.txt")
LIMIT = 16  # tokens of an answer
FACTS_PER_TEXT = 8


def read_facts(path: Path = FACTS) -> list[Item]:
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [Item((statement,), question, value) for statement, question, value in parts]


@torch.no_grad()
def answer(model, runner: LongContext, cache, question: list[int], ends: set[int]) -> list[int]:
    device = model.embed.device
    hidden, cache = runner.extend(cache, torch.tensor(question, device=device))
    tokens: list[int] = []
    while len(tokens) < LIMIT:
        best = int((hidden[-1] @ model.head.to(hidden.dtype).T).argmax())
        if best in ends:
            break
        tokens.append(best)
        hidden, cache = runner.extend(cache, torch.tensor([best], device=device))
    return tokens


@torch.no_grad()
def ask_all(model, corpus: Corpus, facts: Path, plan: str, length: int, seed: int) -> list[dict]:
    runner, rng = LongContext(model, plan), random.Random(seed)
    items = read_facts(facts)
    rng.shuffle(items)
    ends = {corpus.ids["<|endoftext|>"], corpus.ids["<|user|>"]}
    rows = []
    for first in range(0, len(items), FACTS_PER_TEXT):
        group = items[first : first + FACTS_PER_TEXT]
        maker = LongTexts(corpus, seed + first, held_out=True)
        tokens, _, _ = maker.plant(group, length, own_line=rng.random() < 0.5)
        tokens = torch.tensor(tokens, device=model.embed.device)
        _, cache = runner.extend(runner.empty(), tokens)
        for item in group:
            question = corpus.encode("\n\n" + item.question) + [corpus.ids["<|assistant|>"]]
            said = corpus.tokenizer.decode(answer(model, runner, cache, question, ends)).strip()
            row = {"question": item.question, "wanted": item.value, "said": said}
            row["contained"] = item.value.lower() in said.lower()
            rows.append(row | {"right": said == item.value})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--facts", type=Path, default=FACTS)
    parser.add_argument("--lengths", default="2048,8192")
    parser.add_argument("--plans", default="shared")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_weights(options.weights).to(device)
    corpus = Corpus(options.data, "val")
    for length in map(int, options.lengths.split(",")):
        for name in options.plans.split(","):
            rows = ask_all(model, corpus, options.facts, plans(model)[name], length, options.seed)
            for row in rows:
                if not row["right"]:
                    print(json.dumps(row, ensure_ascii=False))
            right, contained = (sum(row[key] for row in rows) for key in ("right", "contained"))
            result = {"length": length, "plan": name, "right": right, "contained": contained}
            print(json.dumps(result | {"asked": len(rows)}), flush=True)


if __name__ == "__main__":
    main()
