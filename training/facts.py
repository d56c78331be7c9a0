# SPDX-License-Identifier: Apache-2.0
"""Planted facts: a sentence to hide in a text, the question that asks for it, and its answer.

The words of facts are drawn from the training books; HELD_OUT_WORDS never occur in training facts
and make up the evaluation's facts (`held_out=True`), with digits drawn from another seed.
"""

import random
from dataclasses import dataclass

# {a} attribute, {e} entity; the value follows the fact's last word. Half of the facts are asked in
# the words of their own line, half in those of any line.
WORDINGS = [
    ("The {a} of {e} is", "What is the {a} of {e}?"),
    ("The {a} for {e} is", "What is the {a} for {e}?"),
    ("{E}'s {a} is", "What is {e}'s {a}?"),
    ("Note that the {a} of {e} is", "Tell me the {a} of {e}."),
    ("Remember: the {a} for {e} is", "Which is the {a} for {e}?"),
]

ATTRIBUTES = [
    "secret code", "access code", "phone number", "locker number", "magic number", "password",
    "room number", "licence number", "account number", "serial number", "ticket number",
    "secret word", "code name", "code word", "home town", "middle name", "lucky number",
    "badge number", "key", "pin code", "secret number", "order number", "port number",
]  # fmt: skip
ENTITIES = [
    "gardener", "baker", "captain", "old sailor", "night watchman", "librarian", "tailor",
    "river pilot", "young doctor", "blacksmith", "teacher", "archive", "north tower", "server",
    "blue door", "test machine", "post office", "warehouse", "miller", "station master",
]  # fmt: skip
HELD_OUT_ATTRIBUTES = [
    "vault code", "safe combination", "membership number", "parcel number", "launch code",
    "shelf number", "extension", "backup phrase",
]  # fmt: skip
HELD_OUT_ENTITIES = [
    "lighthouse keeper", "clockmaker", "astronomer", "bridge warden", "glass blower",
    "head gardener's cousin", "harbour pilot", "beekeeper", "weaver of Ghent", "cartographer",
    "compiler", "staging cluster",
]  # fmt: skip
HELD_OUT_NAMES = ["Wendeline", "Okonkwo", "Tamsin", "Brannoch", "Quillfeather", "Ysolde"]
HELD_OUT_WORDS = {
    "lighthouse", "keeper", "clockmaker", "astronomer", "warden", "blower", "beekeeper", "weaver",
    "cartographer", "compiler", "staging", "vault", "combination", "membership", "parcel",
    "launch", "shelf", "extension", "backup",
}  # fmt: skip
HELD_OUT_VALUES = ["lantern", "copper kettle", "marmalade", "seven oaks", "drizzle", "saffron"]
SYLLABLES = (
    "ba be bi bo bra da del dor el en fa fen gar go hal har hol i ja jo ka kel la len lo ma mar mi "
    "mor na nel no o pa per pol ra ren ri ro sa sel sten ta ter tor u va ver vi wa wen yo za zel"
).split()


@dataclass(frozen=True)
class Fact:
    prefix: str  # "The secret code of the lighthouse keeper is"
    value: str  # "48213"
    question: str  # "What is the secret code of the lighthouse keeper?"

    @property
    def sentence(self) -> str:
        return f"{self.prefix} {self.value}."


class FactMaker:
    """Draws facts; `rng` decides everything."""

    other_wording = 0.5  # share of facts whose question may come from another line of WORDINGS

    def __init__(self, rng: random.Random, words: list[str], names: list[str], held_out: bool):
        self.rng, self.words, self.names, self.held_out = rng, words, names, held_out

    def make(self, count: int) -> list[Fact]:
        """`count` facts with distinct keys; some share their attribute, some their entity."""
        keys: list[tuple[str, str]] = []
        while len(keys) < count:
            attribute, entity = self.attribute(), self.entity()
            if keys and self.rng.random() < 0.5:
                attribute = self.rng.choice(keys)[0]
            elif keys and self.rng.random() < 0.3:
                entity = self.rng.choice(keys)[1]
            if (attribute, entity) not in keys:
                keys.append((attribute, entity))
        return [self.make_fact(attribute, entity) for attribute, entity in keys]

    def make_fact(self, attribute: str, entity: str) -> Fact:
        fact, question = self.rng.choice(WORDINGS)
        if self.rng.random() < self.other_wording:
            question = self.rng.choice(WORDINGS)[1]
        filled = {"a": attribute, "e": entity, "E": entity[0].upper() + entity[1:]}
        return Fact(fact.format(**filled), self.value(), question.format(**filled))

    def attribute(self) -> str:
        if self.held_out:
            return self.rng.choice(HELD_OUT_ATTRIBUTES)
        if self.rng.random() < 0.4:
            return self.rng.choice(ATTRIBUTES)
        return self.random_words(1, 2)

    def entity(self) -> str:
        draw = self.rng.random()
        if self.held_out:
            if draw < 0.7:
                return "the " + self.rng.choice(HELD_OUT_ENTITIES)
            return f"{self.pseudo_name()} {self.rng.choice(HELD_OUT_NAMES)}"
        if draw < 0.15:
            return "the " + self.rng.choice(ENTITIES)
        if draw < 0.65:
            return "the " + self.random_words(1, 3)
        if draw < 0.85:
            return " ".join(self.pseudo_name() for _ in range(self.rng.randint(1, 2)))
        return " ".join(self.rng.choice(self.names) for _ in range(self.rng.randint(1, 2)))

    def value(self) -> str:
        draw = self.rng.random()
        if draw < 0.6:
            return "".join(self.rng.choice("0123456789") for _ in range(5))
        if draw < 0.75:
            return "".join(self.rng.choice("0123456789") for _ in range(self.rng.randint(2, 7)))
        if self.held_out:
            return self.rng.choice(HELD_OUT_VALUES)
        return self.random_words(1, 2)

    def random_words(self, low: int, high: int) -> str:
        return " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(low, high)))

    def pseudo_name(self) -> str:
        count = self.rng.randint(2, 3)
        return "".join(self.rng.choice(SYLLABLES) for _ in range(count)).capitalize()
