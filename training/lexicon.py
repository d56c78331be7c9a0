# SPDX-License-Identifier: Apache-2.0
"""The open word classes that generated facts draw from, found by counting in books."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vocabulary import HELD_OUT_WORDS

LEAST_COUNT = 5
LEAST_NOUN_COUNT = 3
DETERMINER = "an?|the|his|her|its|their|my|our|your|this|every|each|no|another"
BEHIND_NOUN = (
    "of|and|in|on|at|to|with|for|from|was|is|had|has|were|that|which|who|by|as|or|but|into|upon|he"
    "|she|they|it|when|where|could|would|should|might|will|did"
)
BEFORE = re.compile(rf"\b(?:{DETERMINER}) ([a-z]{{3,11}})\b", re.IGNORECASE)
AS_NOUN = re.compile(BEFORE.pattern + rf"(?=[,.;:!?)]| (?:{BEHIND_NOUN})\b)", re.IGNORECASE)
NO_NOUN = re.compile("(?:ed|ly|[^sui]s)$")  # plurals too


@dataclass(frozen=True)
class Lexicon:
    words: list[str]  # lower-case, of any kind
    nouns: list[str]  # in the singular
    names: list[str]

    def save(self, folder: Path) -> None:
        for name, words in vars(self).items():
            (folder / f"{name}.txt").write_text("\n".join(words) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Lexicon":
        parts = ("words", "nouns", "names")
        return cls(*((folder / f"{p}.txt").read_text(encoding="utf-8").split() for p in parts))

    @classmethod
    def of(cls, texts: list[str]) -> "Lexicon":
        """Lower-case words and capitalised names seen often enough, held-out ones removed."""
        counts = Counter()
        for text in texts:
            counts.update(re.findall(r"\b[A-Za-z]{3,11}\b", text))
        known = {word for word, count in counts.items() if count >= LEAST_COUNT}
        held_out = {word.lower() for word in HELD_OUT_WORDS}
        words = sorted(word for word in known if word.islower() and word not in held_out)
        names = sorted(
            word
            for word in known
            if word.istitle() and word.lower() not in known and word.lower() not in held_out
        )
        return cls(words, list_nouns(texts, words, counts) or words, names)


def list_nouns(texts: list[str], words: list[str], counts: Counter) -> list[str]:
    """Words that often stand behind a determiner and, mostly when they do, end the phrase there."""
    behind, ending = Counter(), Counter()
    for text in texts:
        text = re.sub(r"\s+", " ", text)
        behind.update(BEFORE.findall(text))
        ending.update(AS_NOUN.findall(text))
    return [
        word
        for word in words
        if ending[word] >= max(LEAST_NOUN_COUNT, 0.2 * counts[word], 0.5 * behind[word])
        and not NO_NOUN.search(word)
    ]
