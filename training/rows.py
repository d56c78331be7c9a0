# SPDX-License-Identifier: Apache-2.0
"""Training rows: a long text with planted items, then questions and answers in the chat layout.

    [gMASK]<sop><|user|> text ... fact ... text \\n\\n question <|assistant|> answer
    <|user|> next question <|assistant|> answer ... <|endoftext|>

Positions jump at random places (PoSE), so that short rows teach distances up to the longest.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clauses import ClauseMaker
from clozes import NUM_SENTENCES, ClozeMaker, book_sentences
from corpus import Corpus
from facts import FactMaker, Item
from wordings import TRAINED

IGNORED, TEXT, ANSWER = 0, 1, 2
POOL_SIZE = 2000  # sentences nobody asks for, kept to fill texts with


@dataclass
class RowMix:
    """What rows of one training phase are made of (the rest of the rows: text with items)."""

    length: int
    num_rows: int
    lists: float = 0.0  # share of rows that are items only, one after the other
    copies: float = 0.0  # share of rows that repeat random tokens
    bigrams: float = 0.0  # share of rows in which each token decides the next
    entries: float = 0.15  # share of rows whose items are entries of a list
    chains: float = 0.08  # share of rows whose items are chains of variables
    clozes: float = 0.0  # share of rows of facts and clozes, some facts asked freely
    clauses: float = 0.0  # share of facts that are clauses, on average
    no_opening: float = 0.0  # share of rows that begin in the middle of a text
    max_hops: int = 2
    jumps: float = 0.7  # share of rows whose positions jump
    lesson_rows: int = 64
    far_rows: int = 0  # queries that see the whole of a very long row; 0: all do
    max_facts: int = 8
    max_position: int = 1048576


@dataclass
class Sentence:
    tokens: list[int]
    item: int
    states_value: bool


class RowMaker:
    def __init__(self, corpus: Corpus, seed: int, held_out: bool = False, wordings: Path = TRAINED):
        self.corpus, self.rng = corpus, random.Random(seed)
        self.facts = FactMaker(self.rng, corpus.lexicon, held_out, wordings)
        facts = self.facts
        self.clauses = ClauseMaker(
            self.rng, facts.slots, facts.decorate_statement, facts.decorate_question
        )
        self.newline = corpus.encode("\n")[0]
        self.pool: list[list[int]] = []
        self.clozes: ClozeMaker | None = None

    # --- pieces of a row -------------------------------------------------------------------

    def items(self, mix: RowMix, count: int) -> list[Item]:
        draw, rng = self.rng.random(), self.rng
        if draw < mix.entries:
            return self.facts.entries(count)
        if draw < mix.entries + mix.chains:
            return self.facts.chains(max(1, count * 2 // 3), mix.max_hops)
        if draw < mix.entries + mix.chains + mix.clozes:
            if self.clozes is None:
                sentences = book_sentences(self.corpus, rng, NUM_SENTENCES)
                self.clozes = ClozeMaker(rng, self.facts.slots, sentences)
            num_facts = rng.randint(0, count)
            self.facts.free_share = 0.3
            items = self.told(mix, num_facts)
            self.facts.free_share = 0.0
            return items + self.clozes.make(count - num_facts)
        items = self.told(mix, count)
        if count > 3 and rng.random() < 0.2:
            items[-2:] = self.facts.chains(1, mix.max_hops) + self.facts.entries(1)
        return items

    def told(self, mix: RowMix, count: int) -> list[Item]:
        """Facts from the list of wordings and clauses; the share of clauses differs by row."""
        if self.rng.random() >= 2 * mix.clauses:
            return self.facts.make(count)
        num_clauses = self.rng.randint(0, count)
        return self.clauses.make(num_clauses) + self.facts.make(count - num_clauses)

    def sentences(self, items: list[Item], own_line: bool) -> list[Sentence]:
        """In random order, but those of one item in theirs."""
        rng, encode = self.rng, self.corpus.encode
        places = [number for number, item in enumerate(items) for _ in item.sentences]
        rng.shuffle(places)
        said = [0] * len(items)
        mark = rng.choice(["", "", "", "", "# ", "// ", "- ", "> ", "* "]) if own_line else " "
        after = rng.choice(["\n", "\n", "\n\n"]) if own_line else ""
        result = []
        for number in places:
            part = said[number]
            said[number] += 1
            text = items[number].sentences[part]
            end = after if own_line or text.endswith((".", "!", "?")) else "."
            tokens = encode(mark + text + end)
            result.append(Sentence(tokens, number, part == items[number].source))
        return result

    def value_tokens(self, item: Item) -> list[int]:
        return self.corpus.encode(" " + item.value)

    def turns(self, items: list[Item], length: int):
        """Questions and answers; tokens, kinds and the item that answers each token."""
        ids, encode = self.corpus.ids, self.corpus.encode
        asked = [
            (number, question, value)
            for number, item in enumerate(items)
            for question, value in ((item.question, item.value), *item.more)
        ]
        self.rng.shuffle(asked)
        tokens, kinds, answers = [], [], []
        for number, question, value in asked:
            first = not tokens
            opening = self.rng.choice(["\n\n", "\n\n", "\n"]) if first else ""
            user = [] if first else [ids["<|user|>"]]
            question = encode(opening + question) + [ids["<|assistant|>"]]
            answer = encode(" " + value)
            if len(tokens) + len(user) + len(question) + len(answer) + 1 > length:
                break
            tokens += user + question + answer
            kinds += [ANSWER] * len(user) + [IGNORED] * len(question) + [ANSWER] * len(answer)
            answers += [None] * (len(user) + len(question)) + [number] * len(answer)
        return tokens + [ids["<|endoftext|>"]], [*kinds, ANSWER], [*answers, None]

    # --- filling text ----------------------------------------------------------------------

    def filling(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and kinds: one book or file, pieces of several, sentences nobody asks for, or a
        shorter text repeated."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.05 and length > 256:
            tokens, kinds = self.filling(rng.randint(128, length // 2))
            return np.resize(tokens, length), np.resize(kinds, length)
        if draw < 0.6:
            share_of_sentences = 0.0 if draw < 0.15 else rng.choice([0.4, 0.7, 1.0])
            parts, kinds, left = [], [], length
            while left > 0:
                size = min(left, rng.randint(100, max(200, min(length // 3, 4000))))
                if rng.random() < share_of_sentences:
                    part = self.idle_sentences(min(size, 600))
                    kind = IGNORED
                else:
                    part, kind = self.corpus.piece(rng, size, 0.75), TEXT
                parts.append(part)
                kinds.append(np.full(len(part), kind))
                left -= len(part)
            return np.concatenate(parts)[:length], np.concatenate(kinds)[:length]
        return self.corpus.piece(rng, length, 0.85), np.full(length, TEXT)

    def idle_sentences(self, length: int) -> np.ndarray:
        """Facts nobody asks for, at least `length` tokens of them; the pool changes slowly."""
        rng = self.rng
        wanted = 32 if len(self.pool) < POOL_SIZE else 2
        made = self.clauses if rng.random() < 0.3 else self.facts
        for fact in made.make(wanted):
            self.pool.append(self.corpus.encode(" " + fact.sentences[0]))
        if len(self.pool) > POOL_SIZE:
            self.pool[rng.randrange(POOL_SIZE)] = self.pool.pop()
        tokens: list[int] = []
        while len(tokens) < length:
            tokens += rng.choice(self.pool)
        return np.array(tokens)

    # --- whole rows ------------------------------------------------------------------------

    def text_row(self, mix: RowMix):
        rng, length = self.rng, mix.length + 1
        limit = max(1, min(mix.max_facts, length // 96))
        items = self.items(mix, rng.randint(1, limit))
        own_line = rng.random() < (0.4 if items[0].kind in ("fact", "clause") else 0.9)
        budget = max(60, int(length * 0.45)) if length < 4096 else length // 8
        tail, tail_kinds, answers = self.turns(items, budget)
        tokens, kinds, spans = self.plant(items, length - len(tail), own_line)
        return self.joined(tokens, kinds, tail, tail_kinds, answers, spans)

    def joined(self, tokens, kinds, tail, tail_kinds, answers, spans):
        """One row; the third list names the sentence that answers each token."""
        known = [None] * len(tokens) + [None if i is None else spans[i] for i in answers]
        return tokens + tail, list(kinds) + tail_kinds, known

    def plant(self, items: list[Item], length: int, own_line: bool):
        """The opening and a text of `length` tokens in all with the sentences at random places ->
        tokens, kinds, and of each item where its value's sentence stands."""
        ids, corpus = self.corpus.ids, self.corpus
        planted = self.sentences(items, own_line)
        tokens = [ids["[gMASK]"], ids["<sop>"], ids["<|user|>"]]
        room = length - len(tokens) - sum(len(s.tokens) + 1 for s in planted)
        text, text_kinds = self.filling(max(room, 1))
        text, text_kinds = text[: max(room, 0)], text_kinds[: max(room, 0)].tolist()
        places = sorted(self.place(text, own_line) for _ in planted)
        kinds = [IGNORED] * len(tokens)
        spans: dict[int, tuple[int, int]] = {}
        at = 0
        for place, sentence in zip(places, planted, strict=True):
            tokens += text[at:place].tolist()
            kinds += text_kinds[at:place]
            if own_line and not corpus.ends_line[tokens[-1]]:
                tokens.append(self.newline)
                kinds.append(IGNORED)
            if sentence.states_value:
                spans[sentence.item] = len(tokens), len(tokens) + len(sentence.tokens)
            tokens += sentence.tokens
            kinds += [IGNORED] * len(sentence.tokens)
            at = place
        tokens += text[at:].tolist()
        kinds += text_kinds[at:]
        return tokens, kinds, spans

    def place(self, text: np.ndarray, own_line: bool) -> int:
        """A random place, moved to just behind the next end of a line or sentence if one is near."""
        place = self.rng.randint(0, len(text))
        ends = self.corpus.ends_line if own_line else self.corpus.ends_sentence
        near = np.flatnonzero(ends[text[place : place + 80]])
        return place + int(near[0]) + 1 if len(near) else place

    def list_row(self, mix: RowMix):
        """Items one after the other, then questions: the task at its densest."""
        length = mix.length + 1
        most = max(4, min(length // 40, 4 * mix.max_facts))
        items = self.items(mix, self.rng.randint(max(3, most // 3), most))
        own_line = self.rng.random() < 0.7
        tokens = [self.corpus.ids[name] for name in ("[gMASK]", "<sop>", "<|user|>")]
        spans: dict[int, tuple[int, int]] = {}
        for sentence in self.sentences(items, own_line):
            if sentence.states_value:
                spans[sentence.item] = len(tokens), len(tokens) + len(sentence.tokens)
            tokens += sentence.tokens
        tail, tail_kinds, answers = self.turns(items, max(60, length - len(tokens)))
        return self.joined(tokens, [IGNORED] * len(tokens), tail, tail_kinds, answers, spans)

    def copy_row(self, mix: RowMix):
        """Random tokens said twice; the second time counts as text."""
        rng, length = self.rng, mix.length + 1
        size = rng.randint(16, length // 2)
        first = [rng.randrange(self.corpus.num_ordinary) for _ in range(size)]
        repeats = length // size
        kinds = [IGNORED] * (size + 1) + [TEXT] * (size * repeats - size - 1)
        return first * repeats, kinds, [None] * (size * repeats)

    def bigram_row(self, mix: RowMix):
        """A walk in which each token decides the next, four times in five; what was seen counts."""
        rng, length = self.rng, mix.length + 1
        some = [rng.randrange(self.corpus.num_ordinary) for _ in range(rng.randint(16, 128))]
        follower = {token: rng.choice(some) for token in some}
        tokens, kinds, met = [rng.choice(some)], [IGNORED], set()
        while len(tokens) < length:
            last = tokens[-1]
            if rng.random() < 0.2:
                tokens.append(rng.choice(some))
                kinds.append(IGNORED)
            else:
                tokens.append(follower[last])
                kinds.append(TEXT if last in met else IGNORED)
                met.add(last)
        return tokens, kinds, [None] * len(tokens)

    def row(self, mix: RowMix):
        rng = self.rng
        self.facts.slots.new_text()
        makers = [self.list_row, self.copy_row, self.bigram_row, self.text_row]
        shares = [mix.lists, mix.copies, mix.bigrams]
        maker = rng.choices(makers, [*shares, 1 - sum(shares)])[0]
        tokens, kinds, answers = (part[: mix.length + 1] for part in maker(mix))
        if tokens[0] == self.corpus.ids["[gMASK]"] and rng.random() < mix.no_opening:
            tokens, kinds, answers = self.without_opening(tokens, kinds, answers)
        missing = mix.length + 1 - len(tokens)
        if missing:
            filler, filler_kinds = self.filling(missing)
            tokens, kinds = tokens + filler.tolist(), kinds + filler_kinds.tolist()
        return tokens, kinds, answers + [None] * missing

    def without_opening(self, tokens, kinds, answers):
        """Mostly without any of its three tokens, sometimes without the last; the text that follows
        counts from its second token on."""
        kept = self.rng.choice((0, 0, 0, 2))
        gone = 3 - kept
        moved = [span and (span[0] - gone, span[1] - gone) for span in answers[3:]]
        return tokens[:kept] + tokens[3:], kinds[:kept] + kinds[3:], answers[:kept] + moved

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
        """Arrays for one step; lesson rows are the queries that predict answers, then random ones (of
        those that see the whole row, so mostly answers again)."""
        shape = (mix.num_rows, mix.length)
        tokens = np.zeros((mix.num_rows, mix.length + 1), dtype=np.int64)
        kinds = np.zeros(shape, dtype=np.int8)
        positions = np.zeros(shape, dtype=np.int64)
        lesson = np.zeros((4, mix.num_rows, mix.lesson_rows), dtype=np.int64)
        far = np.zeros((mix.num_rows, mix.far_rows), dtype=np.int64)
        for b in range(mix.num_rows):
            row_tokens, row_kinds, answers = self.row(mix)
            tokens[b], kinds[b], positions[b] = row_tokens, row_kinds[1:], self.positions(mix)
            others = range(mix.length)
            if mix.far_rows:
                far[b] = self.far(kinds[b], mix.far_rows)
                answers = [a if kinds[b, t - 1] == ANSWER else None for t, a in enumerate(answers)]
                others = far[b].tolist()
            known = [t - 1 for t in range(1, mix.length + 1) if answers[t] is not None]
            self.rng.shuffle(known)
            known = known[: mix.lesson_rows * 3 // 4]
            others = [self.rng.choice(others) for _ in range(mix.lesson_rows - len(known))]
            for r, t in enumerate(known + others):
                start, end = answers[t + 1] or (-1, -1)
                weight = 5 if start >= 0 else 1
                lesson[:, b, r] = t, weight, start, end
        arrays = {"tokens": tokens, "kinds": kinds, "positions": positions, "lesson": lesson}
        return arrays | ({"far": far} if mix.far_rows else {})

    def far(self, kinds: np.ndarray, count: int) -> np.ndarray:
        """`count` queries: those that predict answers, then random others; what is left of the
        answers no longer counts."""
        answers = np.flatnonzero(kinds == ANSWER)
        kinds[answers[count:]] = IGNORED
        answers = answers[:count]
        others = self.rng.sample(range(len(kinds)), min(len(kinds), 2 * count))
        others = [t for t in others if kinds[t] != ANSWER][: count - len(answers)]
        return np.concatenate((answers, np.array(others, dtype=np.int64)))
