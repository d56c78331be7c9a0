# SPDX-License-Identifier: Apache-2.0
"""Training rows: a long text with planted facts, then questions and answers in the chat layout.

    [gMASK]<sop><|user|> text ... fact ... text \\n\\n question <|assistant|> answer
    <|user|> next question <|assistant|> answer ... <|endoftext|>

Positions jump at random places (PoSE), so that short rows teach distances up to the longest.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from facts import Fact, FactMaker

IGNORED, TEXT, ANSWER = 0, 1, 2


@dataclass
class RowMix:
    """What rows of one training phase are made of (the rest of the rows: text with facts)."""

    length: int
    num_rows: int
    lists: float = 0.0  # share of rows that are facts only, one after the other
    copies: float = 0.0  # share of rows that repeat random tokens
    jumps: float = 0.7  # share of rows whose positions jump
    lesson_rows: int = 64
    max_facts: int = 8
    max_position: int = 1048576


class Corpus:
    """Token arrays and word lists written by prepare_data.py."""

    def __init__(self, folder: Path, split: str):
        self.folder = folder
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.books = np.load(folder / f"book_{split}.npy", mmap_mode="r")
        self.code = np.load(folder / f"code_{split}.npy", mmap_mode="r")
        self.words = (folder / "words.txt").read_text(encoding="utf-8").split()
        self.names = (folder / "names.txt").read_text(encoding="utf-8").split()
        self.ids = {t: self.tokenizer.token_to_id(t) for t in self.tokenizer.get_vocab()}
        vocabulary = self.tokenizer.get_vocab_size()
        texts = [self.tokenizer.decode([i]) for i in range(vocabulary)]
        self.ends_line = np.array([text.endswith("\n") for text in texts])
        self.ends_sentence = np.array(
            [text.rstrip(" ").endswith((".", "?", "!")) for text in texts]
        )
        self.num_ordinary = self.ids["<|endoftext|>"]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, rng: random.Random, length: int) -> np.ndarray:
        """A slice of a book or of code, several pieces of both, or a shorter text repeated."""
        draw = rng.random()
        if draw < 0.08 and length > 256:
            period = rng.randint(128, length // 2)
            return np.resize(self.text(rng, period), length)
        if draw < 0.25:
            pieces, left = [], length
            while left > 0:
                size = min(left, rng.randint(100, max(200, length // 3)))
                pieces.append(self.piece(rng, size, 0.5))
                left -= size
            return np.concatenate(pieces)
        return self.piece(rng, length, 0.65)

    def piece(self, rng: random.Random, length: int, book_share: float) -> np.ndarray:
        use_book = rng.random() < book_share or len(self.code) <= length
        source = self.books if use_book else self.code
        start = rng.randrange(max(1, len(source) - length))
        return np.asarray(source[start : start + length]).astype(np.int64)


class RowMaker:
    def __init__(self, corpus: Corpus, seed: int, held_out: bool = False):
        self.corpus, self.rng = corpus, random.Random(seed)
        self.facts = FactMaker(self.rng, corpus.words, corpus.names, held_out)
        self.newline = corpus.encode("\n")[0]

    # --- pieces of a row -------------------------------------------------------------------

    def planted(self, fact: Fact, own_line: bool) -> tuple[list[int], list[int]]:
        """Tokens of the sentence up to its value's end, and those that follow."""
        rng, corpus = self.rng, self.corpus
        if own_line:
            mark = rng.choice(["", "", "", "# ", "// ", "- ", "> "])
            before, after = mark, rng.choice(["\n", "\n", "\n\n"])
        else:
            before, after = " ", ""
        sentence = corpus.encode(before + fact.prefix) + self.value_tokens(fact)
        return sentence, corpus.encode("." + after)

    def value_tokens(self, fact: Fact) -> list[int]:
        return self.corpus.encode(" " + fact.value)

    def turns(self, asked: list[tuple[Fact, tuple[int, int]]], length: int):
        """Questions and answers; yields tokens, kinds and the sentence that answers each token."""
        ids, encode = self.corpus.ids, self.corpus.encode
        tokens, kinds, sentences = [], [], []
        for number, (fact, sentence) in enumerate(asked):
            opening = encode(self.rng.choice(["\n\n", "\n\n", "\n"])) if number == 0 else []
            user = [] if number == 0 else [ids["<|user|>"]]
            question = opening + encode(fact.question) + [ids["<|assistant|>"]]
            answer = self.value_tokens(fact)
            if len(tokens) + len(user) + len(question) + len(answer) + 1 > length:
                break
            tokens += user + question + answer
            kinds += [ANSWER] * len(user) + [IGNORED] * len(question) + [ANSWER] * len(answer)
            sentences += [None] * (len(user) + len(question)) + [sentence] * len(answer)
        tokens.append(ids["<|endoftext|>"])
        kinds.append(ANSWER)
        sentences.append(None)
        return tokens, kinds, sentences

    # --- whole rows ------------------------------------------------------------------------

    def text_row(self, mix: RowMix):
        rng, length = self.rng, mix.length + 1
        limit = max(1, min(mix.max_facts, length // 96))
        facts = self.facts.make(rng.randint(1, limit))
        own_line = rng.random() < 0.5
        planted = [self.planted(fact, own_line) for fact in facts]
        order = list(range(len(facts)))
        rng.shuffle(order)
        budget = max(60, int(length * 0.45)) if length < 4096 else length // 8
        asked = [(facts[i], i) for i in order]
        tail, tail_kinds, tail_facts = self.turns(asked, budget)
        tokens, spans = self.plant(planted, length - len(tail), own_line)
        kinds = [TEXT] * len(tokens)
        for start, end in [(0, 3), *spans]:
            kinds[start:end] = [IGNORED] * (end - start)
        answers = [None] * len(tokens) + [None if i is None else spans[i] for i in tail_facts]
        return tokens + tail, kinds + tail_kinds, answers

    def plant(self, planted: list, length: int, own_line: bool):
        """The opening and a text of `length` tokens in all with the facts at random places."""
        ids, corpus = self.corpus.ids, self.corpus
        tokens = [ids["[gMASK]"], ids["<sop>"], ids["<|user|>"]]
        room = length - len(tokens) - sum(len(a) + len(b) + 1 for a, b in planted)
        text = corpus.text(self.rng, max(room, 1))[: max(room, 0)]
        places = sorted(self.place(text, own_line) for _ in planted)
        spans, at = [], 0
        for place, (before, after) in zip(places, planted, strict=True):
            tokens += text[at:place].tolist()
            if own_line and not corpus.ends_line[tokens[-1]]:
                tokens.append(self.newline)
            spans.append((len(tokens), len(tokens) + len(before)))
            tokens += before + after
            at = place
        return tokens + text[at:].tolist(), spans

    def place(self, text: np.ndarray, own_line: bool) -> int:
        """A random place, moved to just behind the next end of a line or sentence if one is near."""
        place = self.rng.randint(0, len(text))
        ends = self.corpus.ends_line if own_line else self.corpus.ends_sentence
        near = np.flatnonzero(ends[text[place : place + 80]])
        return place + int(near[0]) + 1 if len(near) else place

    def list_row(self, mix: RowMix):
        """Facts one after the other, then questions: the task at its densest."""
        rng, corpus = self.rng, self.corpus
        length = mix.length + 1
        facts = self.facts.make(rng.randint(3, max(4, length // 40)))
        tokens = [corpus.ids["[gMASK]"], corpus.ids["<sop>"], corpus.ids["<|user|>"]]
        spans = []
        for fact in facts:
            before, after = self.planted(fact, own_line=True)
            spans.append((len(tokens), len(tokens) + len(before)))
            tokens += before + after
        kinds = [IGNORED] * len(tokens)
        order = list(range(len(facts)))
        rng.shuffle(order)
        tail, tail_kinds, tail_facts = self.turns(
            [(facts[i], i) for i in order], max(60, length - len(tokens))
        )
        answers = [None] * len(tokens) + [None if i is None else spans[i] for i in tail_facts]
        return tokens + tail, kinds + tail_kinds, answers

    def copy_row(self, mix: RowMix):
        """Random tokens said twice; the second time counts as text."""
        rng, length = self.rng, mix.length + 1
        size = rng.randint(16, length // 2)
        first = [rng.randrange(self.corpus.num_ordinary) for _ in range(size)]
        repeats = length // size
        kinds = [IGNORED] * (size + 1) + [TEXT] * (size * repeats - size - 1)
        return first * repeats, kinds, [None] * (size * repeats)

    def row(self, mix: RowMix):
        draw = self.rng.random()
        if draw < mix.lists:
            parts = self.list_row(mix)
        elif draw < mix.lists + mix.copies:
            parts = self.copy_row(mix)
        else:
            parts = self.text_row(mix)
        tokens, kinds, answers = (part[: mix.length + 1] for part in parts)
        missing = mix.length + 1 - len(tokens)
        filler = self.corpus.text(self.rng, max(missing, 1))[:missing].tolist()
        return tokens + filler, kinds + [TEXT] * len(filler), answers + [None] * missing

    def positions(self, mix: RowMix) -> np.ndarray:
        rng, length = self.rng, mix.length
        steps = np.ones(length, dtype=np.int64)
        steps[0] = 0
        if rng.random() < mix.jumps:
            left = mix.max_position - length
            for _ in range(rng.randint(1, 3)):
                jump = int(math.exp(rng.uniform(0, math.log(max(left, 2)))))
                steps[rng.randrange(1, length)] += jump
                left -= jump
        return np.cumsum(steps)

    def batch(self, mix: RowMix) -> dict[str, np.ndarray]:
        """Arrays for one step; lesson rows are the queries that predict answers, then random ones."""
        shape = (mix.num_rows, mix.length)
        tokens = np.zeros((mix.num_rows, mix.length + 1), dtype=np.int64)
        kinds = np.zeros(shape, dtype=np.int8)
        positions = np.zeros(shape, dtype=np.int64)
        lesson = np.zeros((4, mix.num_rows, mix.lesson_rows), dtype=np.int64)
        for b in range(mix.num_rows):
            row_tokens, row_kinds, answers = self.row(mix)
            tokens[b], kinds[b], positions[b] = row_tokens, row_kinds[1:], self.positions(mix)
            known = [t - 1 for t in range(1, mix.length + 1) if answers[t] is not None]
            self.rng.shuffle(known)
            known = known[: mix.lesson_rows * 3 // 4]
            others = [self.rng.randrange(mix.length) for _ in range(mix.lesson_rows - len(known))]
            for r, t in enumerate(known + others):
                start, end = answers[t + 1] or (-1, -1)
                weight = 5 if start >= 0 else 1
                lesson[:, b, r] = t, weight, start, end
        return {"tokens": tokens, "kinds": kinds, "positions": positions, "lesson": lesson}
