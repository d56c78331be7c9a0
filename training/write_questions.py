# SPDX-License-Identifier: Apache-2.0
"""Texts with questions and answers as token ids, for the engine's answer_bench.

    python write_questions.py --data DATA --task needle --length 2048 --out needle_2048.jsonl
    python write_questions.py --data DATA --facts natural_facts_4.txt --length 2048 --out natural.jsonl

The same texts as those of evaluate.py; `--set 1` and so on are others.
"""

import argparse
import json
from pathlib import Path

from corpus import Corpus
from evaluate import FIRST_SEED, TASKS, Case, LongTexts, make_case, questions_per_text
from natural import FACTS_PER_TEXT, read_facts
from wordings import UNSEEN

SETS_APART = 100  # seeds; a seed a text


def natural_cases(corpus: Corpus, path: Path, length: int, seed: int) -> list[Case]:
    """A set of facts in its own order, a few a text or, in long texts, all."""
    facts, cases = read_facts(path), []
    per_text = FACTS_PER_TEXT if length <= 8192 else len(facts)
    for first in range(0, len(facts), per_text):
        group = facts[first : first + per_text]
        maker = LongTexts(corpus, seed + first, held_out=True)
        tokens, _, spans = maker.plant(group, length, own_line=(first // per_text) % 2 == 0)
        question_end = [corpus.ids["<|assistant|>"]]
        asked = [
            (corpus.encode("\n\n" + item.question) + question_end, maker.value_tokens(item))
            for item in group
        ]
        cases.append(Case(tokens, asked, spans, group))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=TASKS, default="needle")
    parser.add_argument("--facts", type=Path, help="natural facts from this file instead")
    parser.add_argument("--wordings", type=Path, default=UNSEEN, help="file of the task unseen")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--questions", type=int, default=192)
    parser.add_argument("--set", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not options.wordings.is_file():
        parser.error(f"--wordings: expected a file of wordings, found none at {options.wordings}")
    if options.wordings != UNSEEN and (options.facts or options.task != "unseen"):
        parser.error("--wordings: expected beside --task unseen, found beside another")
    corpus, seed = Corpus(options.data, "val"), FIRST_SEED + SETS_APART * options.set
    if options.facts:
        cases = natural_cases(corpus, options.facts, options.length, seed)
    else:
        count = min(options.questions, questions_per_text(options.length))
        cases = [
            make_case(corpus, options.task, options.length, seed + number, count, options.wordings)
            for number in range(-(-options.questions // count))
        ]
    with options.out.open("w", encoding="utf-8") as file:
        for case in cases:
            questions = [{"tokens": q, "answer": a} for q, a in case.asked]
            file.write(json.dumps({"text": list(case.tokens), "questions": questions}) + "\n")


if __name__ == "__main__":
    main()
