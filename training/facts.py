# SPDX-License-Identifier: Apache-2.0
"""What is planted in a text and asked for: facts, entries of lists, chains of variables.

Training never sees wordings_unseen.txt nor the held-out words of vocabulary.py; evaluation fills
its facts with those words, in trained wordings or in those of another file.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from english import agree
from lexicon import Lexicon
from questions import DETERMINERS, free_question, question_word
from values import Slots
from wordings import TRAINED, Relation, read_wordings

STATEMENT_OPENINGS = """
Note that |Remember: |By the way, |It is well known that |Everybody agreed that |It is said that
|I was told that |They say that |As everyone knows, |Do not forget: |For the record, |In those days
|At that time |It was said that |We learned that |According to the papers, |To this day |Indeed,
|It turned out that |Some time ago it was reported that |P.S. |N.B.: |And |But |Now |Fact: |Important: |Meanwhile,
|Here is something to remember: |In a letter to {person} one reads that |{person} told {person2} that
|According to {person}, |{person} mentioned that |It is a little known fact that |A note in the margin says:
|{person} whispered to {person2} that |Years later {person} recalled that |Keep in mind that |However,
|In {place} everyone knew that |Someone had written on the wall: |The newspaper reported that |Besides,
""".replace("\n", " ").split("|")  # fmt: skip
STATEMENT_ENDINGS = """
, as I was told|, or so they say|, said the {role}|, according to {person}|, whatever people may think
|, and nobody knows why|, as {person} wrote in a letter|, which surprised {person}|, I believe
|; {person} had read it in the newspaper|, and that was that|, as always|, to be precise
|, although {person} denied it| (so {person} told us)|, at least until the next winter
""".replace("\n", "").split("|")  # fmt: skip
QUESTION_OPENINGS = """
According to the text, |Question: |From the text above: |Tell me, |Please answer: |Now tell me: |One question:
|Please tell me, |In the text above, |Hello! |Quick question: |As the text says, |A reader asks: |Can you answer this? |Based on the text, |I forgot: |Do you remember: |Q: |So
""".replace("\n", " ").split("|")  # fmt: skip
QUESTION_ENDINGS = [
    " Answer briefly.", " Answer in a few words.", " Quote the text.", " Look it up in the text.",
    " Reply with the answer only.", " The text says it.", " Use as few words as possible.",
    " Give only the answer.", " What does the text say?", " Answer in one word or number.",
]  # fmt: skip
QUESTION_WORDS = {
    "What", "Which", "When", "Where", "Who", "Whom", "Whose", "How", "At", "In", "On", "To", "By",
    "From", "For", "With", "After", "Since", "Of", "Into", "Why", "As",
}  # fmt: skip

ENTRY_JOINTS = [": ", " = ", " - ", " -> ", ", ", " is ", "\t", " | ", " — ", " => "]
ENTRY_QUESTIONS = [
    "{k}", "{k}?", "{k}:", "What is {k}?", "What belongs to {k}?", "Which entry belongs to {k}?",
    "Look up {k}.", "What stands beside {k}?", "Find {k}.", "What does the list say for {k}?",
]  # fmt: skip
LINKS = [
    "{b} = {a}", "{b} = {a}", "{b} is the same as {a}", "{b} := {a}", "let {b} be {a}",
    "The value of {b} is that of {a}.", "{b} equals {a}.", "{b} gets {a}",
]  # fmt: skip
ROOTS = [
    "{b} = {v}",
    "{b} = {v}",
    "{b} is {v}",
    "{b} := {v}",
    "The value of {b} is {v}.",
    "let {b} be {v}",
]


# An answer is a whole noun phrase, as people quote one: what a wording says of its noun between
# the determiner and {v} belongs to the value ("a battered {v}"); before other kinds, the
# determiner alone.
NOUNS = {"noun", "animal", "role", "part", "kin"}
DETERMINED = NOUNS | {"plural", "food", "music", "medicine", "word", "words"}
DETERMINER = rf"\b(?:{'|'.join(sorted(DETERMINERS))}) "
LEAD_OF_NOUN = re.compile(DETERMINER + r"(?:[\w-]+ ){0,3}$", re.IGNORECASE)
LEAD = re.compile(DETERMINER + "$", re.IGNORECASE)
NO_ADJECTIVES = {"of", "to", "for", "as", "by", "sort", "kind", "pair", "word", "name", "nickname"}

QUOTABLE = {"word", "words", "name", "code", "aword", "job", "food", "colour", "place"}
QUOTATION_MARKS = ["“”", "“”", '""', "‘’", "''"]


@dataclass(frozen=True)
class Item:
    """Something to plant (its sentences, in their order), to ask for, and the answer."""

    sentences: tuple[str, ...]
    question: str
    value: str
    source: int = 0  # index of the sentence that states the value
    kind: str = "fact"
    relation: str = ""
    more: tuple[tuple[str, str], ...] = ()  # further questions to the same sentence, with values

    @property
    def hops(self) -> int:
        return len(self.sentences) - 1


def as_stated(value: str, statement: str) -> str:
    """With the statement's own capital where it begins with the value: answers are quotations."""
    start, rest = statement[: len(value)], statement[len(value) :]
    return start if start.lower() == value.lower() and not rest[:1].isalnum() else value


def split_lead(before: str, kind: str, kinds: list[str]) -> tuple[str, str]:
    """What stands before {v}, parted where the answer begins."""
    if kind not in DETERMINED or (kind in ("word", "words") and "name" in kinds):
        return before, ""
    found = (LEAD_OF_NOUN if kind in NOUNS else LEAD).search(before)
    while found and kind in NOUNS:  # the determiner nearest to the noun
        nearer = LEAD_OF_NOUN.search(before, found.start() + 1)
        if not nearer:
            break
        found = nearer
    if not found or NO_ADJECTIVES & set(found.group().lower().split()):
        return before, ""
    return before[: found.start()], found.group()


class Verb:
    """So that a wording can say {verb.past}."""

    def __init__(self, forms: tuple[str, str, str]):
        self.base, self.past, self.part = forms

    def __str__(self) -> str:
        return self.base


class FactMaker:
    """Draws items; `rng` decides everything."""

    def __init__(
        self,
        rng: random.Random,
        lexicon: Lexicon,
        held_out: bool,
        wordings: Path = TRAINED,
    ):
        self.rng = rng
        self.slots = Slots(rng, lexicon, held_out)
        self.relations = read_wordings(wordings)
        trained = wordings == TRAINED
        self.first_share = 0.08 if trained else 0.0  # of the first relation, which fits anything
        self.decorated = 1.0 if trained else 0.0
        self.quoted_share = 0.0 if held_out else 0.12  # of the values that can be quoted
        self.free_share = 0.0  # of the facts asked by a question of no wording

    def make(self, count: int) -> list[Item]:
        """`count` facts with distinct keys; some share their relation, some an entity."""
        known: list[tuple[Relation, dict]] = []
        keys = set()
        while len(known) < count:
            relation, filled = self.related(*self.rng.choice(known)) if known else self.fresh()
            key = (relation.name, *(str(filled[slot]) for slot in relation.slots))
            if key not in keys:
                keys.add(key)
                known.append((relation, filled))
        return [self.say(relation, filled) for relation, filled in known]

    def fresh(self) -> tuple[Relation, dict]:
        relation = self.rng.choice(self.relations)
        if self.rng.random() < self.first_share:
            relation = self.relations[0]
        return relation, {slot: self.fill(slot) for slot in relation.slots}

    def related(self, relation: Relation, filled: dict) -> tuple[Relation, dict]:
        """A fact that can be mistaken for the given one, or one of its own."""
        draw = self.rng.random()
        if draw < 0.4:  # the same relation; if it has two slots, perhaps one of them the same too
            new = {slot: self.fill(slot) for slot in relation.slots}
            if len(relation.slots) > 1 and self.rng.random() < 0.6:
                kept = self.rng.choice(relation.slots)
                new[kept] = filled[kept]
            return relation, new
        other, new = self.fresh()
        if draw < 0.65:  # the same entity in another relation
            for slot in set(other.slots) & set(filled):
                new[slot] = filled[slot]
        return other, new

    def fill(self, slot: str):
        kind = slot.rstrip("0123456789")
        if kind in ("verb", "put", "make"):
            return Verb(self.slots.verb_forms(kind))
        return self.slots.draw(kind)

    def say(self, relation: Relation, filled: dict) -> Item:
        kind = self.rng.choice(relation.kinds)
        value, others = self.slots.draw(kind), " ".join(str(v) for v in filled.values())
        while value.lower() in others.lower():  # "Ysolde's physician is Ysolde" asks for nothing
            value = self.slots.draw(kind)
        before, after = self.rng.choice(relation.statements).split("{v}", 1)
        if not before and value[0].islower():  # mostly a wording that keeps the value as it is
            before, after = self.rng.choice(relation.statements).split("{v}", 1)
        before, lead = split_lead(before, kind, relation.kinds)
        after = after.replace("{v}", value)
        value = agree(lead, value)
        before, after = before.format(**filled), after.format(**filled)
        if not lead:
            before = agree(before, value).removesuffix(value)
        if kind in QUOTABLE and self.quoted_share and self.rng.random() < self.quoted_share:
            before, after = self.quoted(before, after)
        statement = before + value + after
        question = self.rng.choice(relation.questions).format(**filled)
        if self.rng.random() < self.free_share:
            asked = question_word(self.rng, kind)
            rest = after.rstrip(".").split()
            question = free_question(self.rng, asked, before.split(), rest)
        statement = self.decorate_statement(statement)
        value = as_stated(value, statement)
        return Item((statement,), self.decorate_question(question), value, relation=relation.name)

    def quoted(self, before: str, after: str) -> tuple[str, str]:
        """With the value between quotation marks: its tokens are others than an answer's."""
        if before.endswith(("“", '"', "‘", "'", "«")):
            return before, after
        left, right = self.rng.choice(QUOTATION_MARKS)
        return before + left, right + after

    def decorate_statement(self, statement: str) -> str:
        rng = self.rng
        if rng.random() < 0.12 * self.decorated and statement.endswith("."):
            ending = rng.choice(STATEMENT_ENDINGS)
            ending = ending.format(person=self.slots.person(), role=self.slots.role())
            statement = statement[:-1] + ending + "."
        if rng.random() < 0.2 * self.decorated:
            opening = rng.choice(STATEMENT_OPENINGS).strip() + " "
            names = (self.slots.person(), self.slots.person(), self.slots.place())
            opening = opening.format(person=names[0], person2=names[1], place=names[2])
            return opening[0].upper() + opening[1:] + statement
        return statement[0].upper() + statement[1:]

    def decorate_question(self, question: str) -> str:
        rng = self.rng
        if rng.random() < 0.06 * self.decorated:
            question += rng.choice(QUESTION_ENDINGS)
        if rng.random() < 0.15 * self.decorated:
            opening = rng.choice(QUESTION_OPENINGS).strip() + " "
            if question.split(" ")[0] in QUESTION_WORDS:
                question = question[0].lower() + question[1:]
            return opening + question
        return question[0].upper() + question[1:]

    # --- lists and chains ------------------------------------------------------------------

    def entries(self, count: int) -> list[Item]:
        """A list of one style: keys with values, as in associative recall or a phone book."""
        rng, slots = self.rng, self.slots
        joint, question = rng.choice(ENTRY_JOINTS), rng.choice(ENTRY_QUESTIONS)
        style = rng.choice(["invented", "word", "words", "name", "phone", "code", "variable"])
        pool = [slots.invented() for _ in range(6)]  # parts of a phone book's names repeat
        kind = rng.choice(["number", "number", "number", "word", "name", "code"])
        items: dict[str, Item] = {}
        while len(items) < count:
            key = self.entry_key(style, pool)
            value = slots.draw(kind)
            items[key] = Item((key + joint + value,), question.format(k=key), value, kind="entry")
        return list(items.values())

    def entry_key(self, style: str, pool: list[str]) -> str:
        rng, slots = self.rng, self.slots
        if style == "phone":
            return f"{slots.invented()} {rng.choice(pool)} {rng.choice(pool)}"
        if style == "name":
            return f"{slots.first_name()} {slots.last_name()}"
        if style == "invented":
            return slots.invented().lower() + slots.invented().lower()
        if style == "words":
            return slots.random_words(2, 2)
        return {"word": slots.word, "code": slots.code, "variable": slots.variable}[style]()

    def chains(self, count: int, max_hops: int) -> list[Item]:
        """Variables of which each gets the one before; the last is asked for."""
        rng, used = self.rng, set()
        items = []
        kind = rng.choice(["number", "number", "word", "name"])
        for _ in range(count):
            names: list[str] = []
            while len(names) <= rng.randint(0, max_hops):
                name = self.slots.variable() if rng.random() < 0.7 else self.slots.invented()
                if name not in used:
                    used.add(name)
                    names.append(name)
            value = self.slots.draw(kind)
            sentences = [rng.choice(ROOTS).format(b=names[0], v=value)]
            for a, b in zip(names, names[1:], strict=False):
                sentences.append(rng.choice(LINKS).format(a=a, b=b))
            asked = rng.choice(["What is {b}?", "{b}?", "What is the value of {b}?", "{b} = ?"])
            items.append(Item(tuple(sentences), asked.format(b=names[-1]), value, kind="chain"))
        return items
