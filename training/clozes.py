# SPDX-License-Identifier: Apache-2.0
"""Facts and questions without a wording of their own: a sentence of a book, some of its words
exchanged, one span of it the value; the question is a question word and what is left.

From wordings.txt alone a model learns where the value stands in each wording, and fails at the
first word of an answer when the wording is new. Here no place can be learned: the answer is what
the question lacks.
"""

import random
import re

from corpus import Corpus
from facts import Item, as_stated
from questions import (
    DETERMINERS,
    OWN_SPAN_WORDS,
    QUESTION_WORDS,
    SMALL_WORDS,
    bare,
    free_question,
    question_word,
)
from values import Slots

NUM_SENTENCES = 6000


def book_sentences(corpus: Corpus, rng: random.Random, count: int) -> list[list[str]]:
    """Words of sentences of moderate length, without quotation marks."""
    found: list[list[str]] = []
    while len(found) < count:
        text = corpus.tokenizer.decode(corpus.piece(rng, 3000, 1.0).tolist())
        text = re.sub(r"[“”‘\"()\[\]_*]", "", text).replace("\n", " ")
        for sentence in re.split(r"(?<=[.?!;:])\s+", text)[1:-1]:
            words = sentence.rstrip(".?!;:,").split()
            if 5 <= len(words) <= 22:
                found.append(words)
    return found


class ClozeMaker:
    def __init__(self, rng: random.Random, slots: Slots, sentences: list[list[str]]):
        self.rng, self.slots, self.sentences = rng, slots, sentences

    def make(self, count: int) -> list[Item]:
        return [self.cloze() for _ in range(count)]

    def cloze(self) -> Item:
        rng = self.rng
        words = self.changed(rng.choice(self.sentences))
        places = [i for i, word in enumerate(words) if bare(word).lower() not in SMALL_WORDS]
        place = rng.choice(places or [len(words) - 1])
        end = min(len(words), place + rng.choice((1, 1, 1, 2, 2, 3, 4, 6)))
        while end < len(words) and bare(words[end - 1]).lower() in SMALL_WORDS:
            end += 1
        if rng.random() < 0.4:  # with the small words before it
            while place > 0 and words[place - 1].lower() in SMALL_WORDS:
                place -= 1
        elif place > 0 and words[place - 1].lower() in DETERMINERS:  # as in facts.py
            place -= 1
        stops = [i for i in range(place, end - 1) if words[i] != bare(words[i])]
        end = stops[0] + 1 if stops else end  # no punctuation inside
        mark = words[end - 1][len(bare(words[end - 1])) :]
        if rng.random() < 0.55:
            kind = rng.choice(list(QUESTION_WORDS))
            value, asked = self.slots.draw(kind), question_word(rng, kind)
        else:
            value = " ".join([*words[place : end - 1], bare(words[end - 1])])
            asked = rng.choice(OWN_SPAN_WORDS)
        before, after = words[:place], words[end:]
        statement = " ".join([*before, value + mark, *after]).strip(" ,;:—-") + "."
        question = free_question(rng, asked, before, after)
        statement = statement[0].upper() + statement[1:]
        return Item((statement,), question, as_stated(value, statement), kind="cloze")

    def changed(self, words: list[str]) -> list[str]:
        """With some words and names exchanged, in half of the sentences."""
        rng, slots = self.rng, self.slots
        share = rng.choice((0.0, 0.0, 0.3, 0.6))
        result = []
        for i, word in enumerate(words):
            core = bare(word)
            mark = word[len(core) :]
            if core.isalpha() and rng.random() < share:
                if core.islower() and len(core) > 3:
                    core = rng.choice(slots.words)
                elif core.istitle() and len(core) > 3 and i > 0:
                    core = slots.last_name()
            result.append(core + mark)
        if rng.random() < 0.3:  # somebody or something to recognise it by
            result = [*(slots.person() if rng.random() < 0.6 else slots.thing()).split(), *result]
        return result
