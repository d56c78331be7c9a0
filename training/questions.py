# SPDX-License-Identifier: Apache-2.0
"""Questions that no wording gives: a question word and what the statement says besides the value."""

import random

QUESTION_WORDS = {
    "number": ["What number", "Which number", "What"],
    "count": ["How many", "What number of", "How many"],
    "person": ["Who", "Whom", "By whom", "Who", "What person", "Whose name"],
    "name": ["What name", "Which name", "Who", "What"],
    "place": ["Where", "In which place", "Where", "What place", "In which town"],
    "where": ["Where", "In what place"],
    "time": ["When", "At what time", "At which hour", "What time"],
    "date": ["When", "On what date", "On which day"],
    "weekday": ["When", "On which day", "What day"],
    "year": ["When", "In what year", "Since when"],
    "colour": ["What colour", "Of what colour", "Which colour", "In what colour"],
    "money": ["How much", "What sum", "For how much", "What"],
    "measure": ["How far", "How long", "How high", "What distance"],
    "weight": ["How much", "What weight"],
    "duration": ["How long", "For how long"],
    "code": ["Which", "What code", "What"],
    "word": ["What", "Which word", "Which", "Which thing", "What thing"],
    "words": ["What", "Which words", "What words"],
    "aword": ["What", "With what", "Which thing"],
    "plural": ["What", "Which things", "Of what"],
    "job": ["What", "As what", "What job"],
}
OWN_SPAN_WORDS = [
    "What",
    "What",
    "Which",
    "Which word",
    "What word",
    "Complete this:",
    "Fill in:",
    "Who",
]
AUXILIARIES = ["", "", "", "did", "does", "is", "was", "had", "will", "has", "were", "are"]
DETERMINERS = set("a an the his her their its my our your some".split())
SMALL_WORDS = set(
    "a an the of to in on at by for with from and or but as is was were be been it its that this "
    "had has have not so no if his her their my your he she they we you i me him them us".split()
)


def bare(word: str) -> str:
    return word.rstrip(",;:—-")


def stem(word: str) -> str:
    for ending in ("ing", "ed", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)]
    return word


def free_question(rng: random.Random, asked: str, before: list[str], after: list[str]) -> str:
    """`asked` and what stands before and after the value, in some order, more or less of it."""
    dropped = rng.choice((0.0, 0.2, 0.6))  # of the small words
    stemmed = rng.choice((0.0, 0.0, 0.3))
    parts = []
    for part in (before, after):
        kept = [bare(word) for word in part]
        kept = [w for w in kept if w.lower() not in SMALL_WORDS or rng.random() >= dropped]
        parts.append([stem(w) if rng.random() < stemmed else w for w in kept])
    before, after = parts
    if before and before[0].lower() in SMALL_WORDS:
        before[0] = before[0].lower()
    if len(before) + len(after) > 8 and rng.random() < 0.4:  # the words nearest to the value
        before, after = before[-5:], after[:5]
    auxiliary = [word for word in [rng.choice(AUXILIARIES)] if word]
    form = rng.random()
    if form < 0.2 and not asked.endswith(":"):
        middle = asked[0].lower() + asked[1:] if before else asked
        text = [*before, middle, *after]
    elif form < 0.6:
        text = [asked, *auxiliary, *before, *after]
    elif form < 0.9:
        text = [asked, *auxiliary, *after, *before]
    else:
        rest = before + after
        rng.shuffle(rest)
        text = [asked, *rest]
    question = " ".join(text).strip(" ,;:—-") + rng.choice("????.")
    return question[0].upper() + question[1:]


def question_word(rng: random.Random, kind: str) -> str:
    return rng.choice(QUESTION_WORDS.get(kind, ["What"]))
