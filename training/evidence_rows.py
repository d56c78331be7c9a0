# SPDX-License-Identifier: Apache-2.0
"""Rows for the research arms: few wordings and words of one token, so that minutes are enough to
learn them and what is left to measure is the selection.

    needle   " The word for KEY KEY is VALUE VALUE."  answered " KEY KEY is VALUE VALUE"
    list     " KEY: VALUE VALUE;"                     answered " KEY: VALUE VALUE"
    chain    " A = VALUE;" " B = A;" " C = B;"        C is two hops away: " C = VALUE"
    back     the same, each link before what it points to

All of them stand in book text. The answer repeats the key, which is no achievement and not counted.
"""

import re
from dataclasses import dataclass

import numpy as np

from corpus import Corpus
from rows import ANSWER, IGNORED, TEXT, RowMaker, RowMix

WORDINGS = (" The word for", " They say that", " Note that", " In those days")
QUESTIONS = ("What is the word for", "Tell me what they say of", "What about")


@dataclass
class EvidenceMix(RowMix):
    """`lists`: share of rows without book text between the sentences."""

    kinds: tuple[float, ...] = (0.25, 0.25, 0.35, 0.15)  # needle, list, chain, back
    hops: tuple[float, ...] = (0.2, 0.35, 0.3, 0.15)  # of chains, from 0 on
    mixed: float = 0.3  # share of rows with items of all kinds


KINDS = ("needle", "list", "chain", "back")


@dataclass
class Planted:
    """An item of token lists; the first sentence in `order` states the value."""

    kind: str
    sentences: list[list[int]]
    question: list[int]
    answer: list[int]
    repeated: int  # tokens of the answer that say the question's key again, before the value

    @property
    def hops(self) -> int:
        return len(self.sentences) - 1

    def order(self) -> list[int]:
        places = list(range(len(self.sentences)))
        return places[::-1] if self.kind == "back" else places


@dataclass
class Question:
    """Where an answer stands among the targets, and where its sentences among the inputs."""

    row: int
    first: int  # target index of the value's first token
    size: int  # of the value with the end of the turn
    hops: int
    depth: float  # of the sentence that states the value, as a share of the text
    value_span: tuple[int, int]
    asked_span: tuple[int, int]  # of the sentence that names what is asked for


class EvidenceRows(RowMaker):
    def __init__(self, corpus: Corpus, seed: int, **_):
        super().__init__(corpus, seed)
        words = single_words(corpus)
        self.names, self.values = words[::2], words[1::2]
        encode = corpus.encode
        self.wordings = [encode(wording) for wording in WORDINGS]
        self.asked = [encode(" " + question) for question in QUESTIONS]
        self.find, self.follow = encode(" Find"), encode(" Follow")
        self.joint, self.dot, self.colon, self.semicolon = (
            encode(text) for text in (" is", ".", ":", ";")
        )
        self.equals, self.mark, self.gap = encode(" ="), encode("?"), encode("\n\n")

    # --- items -----------------------------------------------------------------------------

    def items(self, mix: EvidenceMix, count: int) -> list[Planted]:
        """`count` items (fewer if the names run out), no name used twice."""
        rng = self.rng
        kind = rng.choices(KINDS, mix.kinds)[0]
        free = rng.sample(self.names, min(len(self.names), count * (len(mix.hops) + 1)))
        mixed = rng.random() < mix.mixed
        made = []
        while len(made) < count and len(free) > len(mix.hops):
            if mixed:
                kind = rng.choices(KINDS, mix.kinds)[0]
            hops = rng.choices(range(len(mix.hops)), mix.hops)[0]
            made.append(self.item(kind, hops, free))
        return made

    def item(self, kind: str, hops: int, free: list[int]) -> Planted:
        rng = self.rng
        if kind in ("chain", "back"):
            names = [free.pop() for _ in range(hops + 1)]
            value = rng.choice(self.values)
            pointed = [value, *names]
            sentences = [
                [name, *self.equals, to, *self.semicolon]
                for name, to in zip(names, pointed, strict=False)
            ]
            question = [*self.follow, names[-1], *self.mark]
            return Planted(kind, sentences, question, [names[-1], *self.equals, value], 2)
        value = [rng.choice(self.values), rng.choice(self.values)]
        if kind == "list":
            key = [free.pop()]
            answer = key + self.colon + value
            return Planted(kind, [answer + self.semicolon], self.find + key + self.mark, answer, 2)
        key = [free.pop(), rng.choice(self.names)]
        answer = key + self.joint + value
        sentence = rng.choice(self.wordings) + answer + self.dot
        return Planted(kind, [sentence], rng.choice(self.asked) + key + self.mark, answer, 3)

    # --- rows ------------------------------------------------------------------------------

    def row(self, mix: EvidenceMix):
        rng, length = self.rng, mix.length + 1
        draw = rng.random()
        if draw < mix.copies + mix.bigrams:  # what retrieval forms from first
            made = self.copy_row(mix) if draw < mix.copies else self.bigram_row(mix)
            tokens, kinds, known = (part[:length] for part in made)
            text = self.corpus.piece(rng, length - len(tokens), 1.0).tolist()
            return (
                tokens + text,
                kinds + [IGNORED, *[TEXT] * len(text)][: len(text)],
                known + [None] * len(text),
            )
        bare = rng.random() < mix.lists
        most = max(2, length // 16 if bare else min(length // 64, 48))
        items = self.items(mix, rng.randint(max(1, most // (2 if bare else 4)), most))
        tokens, kinds, known, _ = self.lay_out(items, length, bare)
        return tokens, kinds, known

    def lay_out(self, items: list[Planted], length: int, bare: bool):
        """Text with the sentences, then a question for each item in random order ->
        tokens, kinds and (for each token of an answer) the span of its sentence, and questions."""
        rng, ids = self.rng, self.corpus.ids
        asked = list(range(len(items)))
        rng.shuffle(asked)
        tail_size = 1 + sum(len(i.question) + len(i.answer) + 2 for i in items)
        tokens = [ids["[gMASK]"], ids["<sop>"], ids["<|user|>"]]
        kinds = [IGNORED] * 3
        body = self.interleaved(items)
        planted_size = sum(len(s) for item in items for s in item.sentences)
        room = max(0, length - len(tokens) - planted_size - tail_size)
        text_size = 0 if bare else room
        text = self.corpus.piece(rng, text_size, 1.0).tolist() if text_size else []
        cuts = sorted(rng.randint(0, len(text)) for _ in body)
        spans: dict[int, list[tuple[int, int]]] = {n: [] for n in range(len(items))}
        at = 0
        for cut, n in zip(cuts, body, strict=True):
            tokens += text[at:cut]
            kinds += [TEXT] * (cut - at)
            at = cut
            item = items[n]
            sentence = item.sentences[item.order()[len(spans[n])]]
            spans[n].append((len(tokens), len(tokens) + len(sentence)))
            tokens += sentence
            kinds += [IGNORED] * len(sentence)
        tokens += text[at:]
        kinds += [TEXT] * (len(text) - at)
        text_end = len(tokens)
        known: list = [None] * len(tokens)
        questions = []
        for turn, n in enumerate(asked):
            item = items[n]
            user = [] if turn == 0 else [ids["<|user|>"]]
            question = (self.gap if turn == 0 else []) + item.question + [ids["<|assistant|>"]]
            if len(tokens) + len(user) + len(question) + len(item.answer) + 1 > length:
                break
            value, named = spans[n][0], spans[n][-1]
            if item.kind == "back":
                value, named = named, value
            tokens += user + question
            kinds += [ANSWER] * len(user) + [IGNORED] * len(question)
            known += [None] * (len(user) + len(question))
            questions.append(
                Question(
                    row=0,
                    first=len(tokens) + item.repeated - 1,
                    size=len(item.answer) - item.repeated + 1,
                    hops=item.hops,
                    depth=value[0] / text_end,
                    value_span=value,
                    asked_span=named,
                )
            )
            tokens += item.answer
            kinds += [ANSWER] * len(item.answer)
            known += [None] * item.repeated + [value] * (len(item.answer) - item.repeated)
        tokens.append(ids["<|endoftext|>"])
        kinds.append(ANSWER)
        known.append(None)
        missing = length - len(tokens)
        if missing > 0:
            tokens += self.corpus.piece(rng, missing, 1.0).tolist()
            kinds += [IGNORED] + [TEXT] * (missing - 1)
            known += [None] * missing
        return tokens[:length], kinds[:length], known[:length], questions

    def interleaved(self, items: list[Planted]) -> list[int]:
        """The item of each sentence, in random order."""
        places = [n for n, item in enumerate(items) for _ in item.sentences]
        self.rng.shuffle(places)
        return places

    # --- questions for evaluation ----------------------------------------------------------

    def case(self, kind: str, hops: int, length: int, num_rows: int):
        """tokens [rows, length + 1], kinds [rows, length] and the questions, one for each 128
        tokens; all items of one kind and number of hops."""
        tokens = np.zeros((num_rows, length + 1), dtype=np.int64)
        kinds = np.zeros((num_rows, length), dtype=np.int64)
        questions = []
        for r in range(num_rows):
            count = max(2, length // 128)
            free = self.rng.sample(self.names, count * (hops + 1) + 1)
            items = [self.item(kind, hops, free) for _ in range(count)]
            row, row_kinds, _, asked = self.lay_out(items, length + 1, bare=False)
            tokens[r], kinds[r] = row, row_kinds[1:]
            for question in asked:
                question.row = r
            questions += asked
        return tokens, kinds, questions


def single_words(corpus: Corpus) -> list[int]:
    """Tokens that are a blank and a lower-case word of at least three letters, in a fixed order
    that mixes frequent and rare ones."""
    found = []
    for token in range(corpus.num_ordinary):
        text = corpus.tokenizer.decode([token])
        if re.fullmatch(r" [a-z]{3,}", text):
            found.append(token)
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order]
