# SPDX-License-Identifier: Apache-2.0
"""What words become beside others: articles, numbers in words, plurals, past tenses, ordinals."""

import re

from vocabulary import SMALL_NUMBERS, TENS


def agree(before: str, value: str) -> str:
    """Both, an "a" that ends `before` turned into "an" where a vowel follows."""
    if value[0].lower() in "aeiou":
        before = re.sub(r"\b([Aa]) $", r"\1n ", before)
    return before + value


def with_article(noun: str) -> str:
    return agree("a ", noun)


def spelled(number: int) -> str:
    """In words, up to 9,999."""
    if number < 20:
        return SMALL_NUMBERS[number]
    if number < 100:
        tens, ones = TENS[number // 10 - 2], number % 10
        return tens + (f"-{SMALL_NUMBERS[ones]}" if ones else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    rest = number % size
    joint = " and " if rest < 100 else " "
    return f"{spelled(number // size)} {name}" + (f"{joint}{spelled(rest)}" if rest else "")


def plural_of(noun: str) -> str:
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def past_of(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    if base in ("drop", "plan", "wrap"):
        return base + base[-1] + "ed"
    return base + "ed"


def ordinal(day: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{'th' if 10 < day < 20 else ending}"
