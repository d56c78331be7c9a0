# SPDX-License-Identifier: Apache-2.0
"""What fills the slots of a wording: entities, verbs, and values of every kind.

A slot's name may end in a digit ({person2}); slots draw from open classes wherever sense allows
(book words, invented names), so that no list can be learned by heart.
"""

import random
from collections.abc import Callable
from functools import wraps

import vocabulary as v
from english import ordinal, past_of, plural_of, spelled, with_article
from lexicon import Lexicon


def recurring(draw: Callable[["Slots"], str]) -> Callable[["Slots"], str]:
    """Some of what `draw` gives is what it gave before in the same text."""

    @wraps(draw)
    def drawn(slots: "Slots") -> str:
        if not slots.again:
            return draw(slots)
        known = slots.known.setdefault(draw.__name__, [])
        if known and slots.rng.random() < slots.again:
            return slots.rng.choice(known)
        known.append(draw(slots))
        return known[-1]

    return drawn


class Slots:
    """Draws the text of a slot or of a value by its kind; `rng` decides everything."""

    def __init__(self, rng: random.Random, lexicon: Lexicon, held_out: bool):
        self.rng, self.held_out = rng, held_out
        self.words, self.nouns, self.names = lexicon.words, lexicon.nouns, lexicon.names
        self.phrases = 0.0 if held_out else 0.25  # share of values that are whole phrases
        self.again = 0.0  # share of names and nouns that came before in the text
        self.known: dict[str, list[str]] = {}

    def new_text(self) -> None:
        """Texts tell of few people or of many: where names come again, all words of a name are
        needed to tell who is meant."""
        self.known = {}
        self.again = 0.0 if self.held_out else self.rng.choice((0.0, 0.3, 0.6))

    # --- small helpers ---------------------------------------------------------------------

    def pick(self, options: list[str]) -> str:
        return self.rng.choice(options).replace("~", " ")

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def phrased(self, share: float = 1.0) -> bool:
        return self.phrases > 0 and self.rng.random() < share * self.phrases

    def random_words(self, low: int, high: int) -> str:
        return " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(low, high)))

    def any_noun(self) -> str:
        """Where a phrase ends has to show: "a climb lying on its back" would leave it open."""
        return self.rng.choice(self.nouns)

    def invented(self) -> str:
        count = self.rng.choice((2, 2, 2, 3))
        return "".join(self.rng.choice(v.SYLLABLES) for _ in range(count)).capitalize()

    def digits(self, low: int, high: int) -> str:
        return "".join(self.rng.choice("0123456789") for _ in range(self.rng.randint(low, high)))

    def integer(self, high: int) -> str:
        """Small numbers are as likely as large ones."""
        return str(int(high ** self.rng.random()) + self.rng.randint(1, 9))

    def amount(self, high: int) -> str:
        """In digits or in words."""
        number = self.integer(high)
        return spelled(int(number)) if self.phrased() else number

    # --- entities --------------------------------------------------------------------------

    def person(self) -> str:
        draw = self.rng.random()
        if self.phrased(0.5):
            role = self.described(self.role())
            return self.determined(role + (self.origin() if self.chance(0.5) else ""))
        if draw < 0.12:
            return "the " + self.role()
        if draw > 0.95:
            return f"{self.pick(['my', 'our', 'his', 'her', 'your'])} {self.kin()}"
        first, last = self.first_name(), self.last_name()
        if draw < 0.4:
            return first
        if draw < 0.85:
            return f"{first} {last}"
        return f"{self.pick(v.TITLES)} {last if self.chance(0.7) else first}"

    @recurring
    def first_name(self) -> str:
        if self.held_out:
            return self.rng.choice(v.HELD_OUT_FIRST_NAMES) if self.chance(0.6) else self.invented()
        return self.some_name(v.FIRST_NAMES)

    @recurring
    def last_name(self) -> str:
        if self.held_out:
            return self.rng.choice(v.HELD_OUT_LAST_NAMES) if self.chance(0.6) else self.invented()
        return self.some_name(v.LAST_NAMES)

    def some_name(self, listed: list[str]) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return self.rng.choice(listed)
        return self.invented() if draw < 0.7 else self.rng.choice(self.names)

    @recurring
    def place(self) -> str:
        if self.held_out:
            return self.rng.choice(v.HELD_OUT_CITIES) if self.chance(0.6) else self.invented()
        if self.chance(0.1):
            return (
                self.pick(["New", "Old", "Port", "Saint", "Upper", "Mount"]) + " " + self.invented()
            )
        return self.some_name(v.CITIES)

    def land(self) -> str:
        return self.invented() if self.chance(0.7) else self.rng.choice(self.names)

    @recurring
    def noun(self) -> str:
        if self.held_out and self.chance(0.5):
            return self.rng.choice(v.HELD_OUT_NOUNS)
        if self.chance(0.35):
            return self.any_noun()
        return self.pick(v.NOUNS)

    def described(self, noun: str) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return noun
        if draw < 0.8:
            return f"{self.pick(v.ADJECTIVES)} {noun}"
        if draw < 0.9:
            return f"{self.random_words(1, 1)} {noun}"
        return f"{noun} of {self.place() if self.chance(0.5) else self.first_name()}"

    def determined(self, noun: str) -> str:
        """Behind an article, a possessive or a name."""
        draw = self.rng.random()
        if draw < 0.5:
            return with_article(noun)
        if draw < 0.7:
            return "the " + noun
        if draw < 0.94:
            return f"{self.pick(v.OTHER_DETERMINERS)} {noun}"
        return f"{self.first_name()}'s {noun}"

    def origin(self) -> str:
        place = self.place() if self.chance(0.6) else self.spot()
        return f" {self.pick(['from', 'in', 'near', 'of', 'at', 'outside'])} {place}"

    def compound(self) -> str:
        """A noun, half of the time behind a word of any kind."""
        noun = self.any_noun()
        return f"{self.random_words(1, 1)} {noun}" if self.chance(0.5) else noun

    def tail(self) -> str:
        """What may follow a noun, small words among it."""
        draw = self.rng.random()
        if draw < 0.3:
            what = self.things() if self.chance(0.5) else self.described(self.any_noun())
            return f" {self.pick(['of', 'of', 'of', 'full of', 'made of', 'for'])} {what}"
        if draw < 0.5:
            return self.origin()
        if draw < 0.7:
            what = with_article(self.described(self.noun())) if self.chance(0.6) else self.things()
            return f" {self.pick(['with', 'and', 'without', 'in', 'on', 'behind'])} {what}"
        if draw < 0.85:
            return f" {self.pick(['by', 'for', 'from', 'of', 'and'])} {self.person()}"
        return f" that {self.verb_forms('verb')[1]} {self.thing()}"

    def thing(self) -> str:
        if self.phrased(0.25):
            return self.determined(self.described(self.noun()) + self.tail())
        if self.chance(0.08):
            return f"{self.first_name()}'s {self.described(self.noun())}"
        return "the " + self.described(self.noun())

    def things(self) -> str:
        noun = self.pick(v.PLURALS)
        if self.chance(0.15):
            return plural_of(self.any_noun())
        return f"{self.pick(v.ADJECTIVES)} {noun}" if self.chance(0.4) else noun

    def spot(self) -> str:
        held_out = self.held_out and self.chance(0.5)
        noun = self.pick(v.HELD_OUT_SPOTS if held_out else v.SPOTS)
        if self.chance(0.25):
            return f"the {noun} {self.pick(['in', 'of', 'at', 'near'])} {self.place()}"
        return "the " + self.described(noun)

    def event(self) -> str:
        noun = self.pick(v.EVENTS)
        draw = self.rng.random()
        if draw < 0.3:
            return f"the {self.pick(v.ADJECTIVES)} {noun}"
        if draw < 0.55:
            return f"the {self.place()} {noun}"
        if draw < 0.75:
            return f"{self.first_name()}'s {noun}"
        return f"the {self.random_words(1, 1)} {noun}"

    def org(self) -> str:
        name = self.some_name(v.LAST_NAMES) if not self.held_out else self.last_name()
        if self.phrased():
            other = self.last_name() if self.chance(0.6) else self.pick(v.PARTNERS)
            return f"{name} {self.pick(['and', 'and', '&'])} {other}"
        return f"the {name} {self.pick(v.ORGS)}"

    def title(self) -> str:
        words = self.random_words(1, 3)
        if self.phrased():
            joint = self.pick(["of", "and", "in", "without", "of the", "under the", "for a"])
            return f"{'The ' if self.chance(0.6) else ''}{words.title()} {joint} {self.random_words(1, 2).title()}"
        return ("The " if self.chance(0.6) else "") + words.title()

    def kin(self) -> str:
        return self.pick(v.KIN)

    def animal(self) -> str:
        return self.pick(v.ANIMALS) if self.chance(0.8) else self.any_noun()

    def part(self) -> str:
        return self.pick(v.BODY_PARTS)

    @recurring
    def role(self) -> str:
        if self.held_out:
            return self.pick(v.HELD_OUT_ROLES)
        return self.pick(v.ROLES) if self.chance(0.4) else self.compound()

    @recurring
    def attribute(self) -> str:
        if self.held_out:
            return self.pick(v.HELD_OUT_ATTRIBUTES)
        return self.pick(v.ATTRIBUTES) if self.chance(0.4) else self.compound()

    def entity(self) -> str:
        draw = self.rng.random()
        if draw < 0.2 or (self.held_out and draw < 0.6):
            return "the " + self.role()
        if draw < 0.5:
            return "the " + self.compound()
        return self.person() if draw < 0.85 else self.thing()

    def variable(self) -> str:
        """A name as in code."""
        parts = [self.rng.choice(self.words) for _ in range(self.rng.randint(1, 3))]
        joint = self.rng.choice(["_", "_", "-", ".", ""])
        name = joint.join(parts) if joint else parts[0] + "".join(p.title() for p in parts[1:])
        return name.upper() if self.chance(0.2) else name

    def prep(self) -> str:
        return self.pick(v.PREPOSITIONS)

    def verb_forms(self, slot: str) -> tuple[str, str, str]:
        """Base form, past, participle."""
        if slot == "put":
            return self.rng.choice(v.PUT)
        if slot == "make":
            return self.rng.choice(v.MAKE)
        if self.chance(0.25):
            base, past, participle = self.rng.choice(v.IRREGULAR_VERBS).split("-")
            return base, past, participle
        base = self.rng.choice(v.REGULAR_VERBS)
        return base, past_of(base), past_of(base)

    # --- values ----------------------------------------------------------------------------

    def number(self) -> str:
        return self.digits(5, 5) if self.chance(0.4) else self.digits(2, 7)

    def count(self) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return self.pick(v.NUMBER_WORDS)
        if draw < 0.5:
            return f"{self.pick(v.NUMBER_WORDS[-8:])}-{self.pick(v.NUMBER_WORDS[:8])}"
        return self.amount(800)

    def code(self) -> str:
        letters = "".join(self.rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(3))
        shape = self.rng.randrange(5)
        if shape == 0:
            return f"{letters[:2]}-{self.digits(3, 5)}"
        if shape == 1:
            return f"{letters[0]}{self.digits(1, 3)}"
        if shape == 2:
            return f"{self.digits(1, 2)}{letters[0]}"
        if shape == 3:
            return f"{letters}{self.digits(2, 3)}"
        return f"{self.digits(2, 4)}-{letters[:2]}-{self.digits(1, 2)}"

    def words_(self) -> str:
        return self.random_words(1, 3)

    def word(self) -> str:
        return self.any_noun() if self.chance(0.6) else self.random_words(1, 1)

    def aword(self) -> str:
        if self.phrased():
            tail = self.tail() if self.chance(0.75) else ""
            return self.determined(self.described(self.noun()) + tail)
        noun = self.described(self.noun())
        article = self.pick(["a", "a", "the", "one"])
        return with_article(noun) if article == "a" else f"{article} {noun}"

    def plural(self) -> str:
        if self.phrased():
            number = spelled(self.rng.randint(2, 120)) + " " if self.chance(0.3) else ""
            return number + self.things() + (self.tail() if self.chance(0.7) else "")
        return self.things()

    def name(self) -> str:
        if self.held_out:
            return self.first_name()
        return self.some_name(v.FIRST_NAMES)

    def time(self) -> str:
        hour, draw = self.rng.randint(0, 23), self.rng.random()
        spoken = self.pick(v.NUMBER_WORDS[:11])
        if draw < 0.6:
            return f"{hour}:{self.rng.randint(0, 59):02d}"
        if draw < 0.7:
            return f"{self.rng.randint(1, 12)} {self.pick(['a.m.', 'p.m.'])}"
        if draw < 0.8:
            return f"{spoken} o'clock"
        if draw < 0.95:
            return (
                f"{self.pick(['half past', 'a quarter to', 'a quarter past', 'ten to'])} {spoken}"
            )
        return self.pick(["noon", "midnight", "dawn", "sunset"])

    def year(self) -> str:
        return str(self.rng.randint(1100, 2060))

    def month(self) -> str:
        return self.pick(v.MONTHS)

    def weekday(self) -> str:
        day = self.pick(v.WEEKDAYS)
        return (
            f"{day} {self.pick(['morning', 'evening', 'afternoon'])}" if self.chance(0.15) else day
        )

    def date(self) -> str:
        day, month, shape = self.rng.randint(1, 30), self.pick(v.MONTHS), self.rng.randrange(5)
        if shape == 0:
            return f"{day} {month}"
        if shape == 1:
            return f"{month} {day}"
        if shape == 2:
            return f"the {ordinal(day)} of {month}"
        if shape == 3:
            return f"{day} {month} {self.year()}"
        return f"{month} {ordinal(day)}"

    def colour(self) -> str:
        draw = self.rng.random()
        if draw < 0.2:
            return (
                f"{self.pick(['dark', 'light', 'pale', 'bright', 'deep'])} {self.pick(v.COLOURS)}"
            )
        return self.pick(v.COLOURS) if draw < 0.9 else self.random_words(1, 1)

    def spotphrase(self) -> str:
        return self.spot()

    def where(self) -> str:
        if self.phrased():
            return f"{self.pick(v.WHERE)} {self.aword()}"
        thing = self.thing() if self.chance(0.6) else self.spot()
        return f"{self.pick(v.WHERE)} {thing}"

    def job(self) -> str:
        return self.pick(v.JOBS) if self.chance(0.6) else with_article(self.any_noun())

    def language(self) -> str:
        return self.pick(v.LANGUAGES) if self.chance(0.7) else self.invented()

    def money(self) -> str:
        amount, draw = self.amount(5000), self.rng.random()
        if draw < 0.3 and amount.isdigit():
            return f"{'£' if draw < 0.15 else '$'}{amount}"
        if 0.3 <= draw < 0.4:
            return f"{self.pick(v.NUMBER_WORDS)} {self.pick(v.CURRENCIES)}"
        return f"{amount} {self.pick(v.CURRENCIES)}"

    def measured(self, units: list[str]) -> str:
        amount = self.amount(900) if self.chance(0.7) else self.pick(v.NUMBER_WORDS)
        if self.phrased(0.2):
            amount += " and a half"
        if self.chance(0.1):
            amount = f"{self.digits(1, 2)}.{self.digits(1, 1)}"
        return f"{amount} {self.pick(units)}"

    def measure(self) -> str:
        return self.measured(v.LENGTHS)

    def weight(self) -> str:
        return self.measured(v.WEIGHTS)

    def duration(self) -> str:
        return self.measured(v.TIMES)

    def food(self) -> str:
        draw = self.rng.random()
        if draw < 0.35:
            return f"{self.random_words(1, 1)} {self.pick(v.DISHES)}"
        if draw < 0.7:
            return self.pick(v.FOODS)
        return f"{self.pick(v.FOODS)} {self.pick(['with', 'and', 'in'])} {self.pick(v.FOODS)}"

    def medicine(self) -> str:
        return f"{self.pick(v.FOODS)} {self.pick(v.REMEDIES)}" if self.chance(0.6) else self.food()

    def music(self) -> str:
        return self.pick(v.INSTRUMENTS) if self.chance(0.7) else self.any_noun()

    def prize(self) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return f"the {self.pick(v.ADJECTIVES)} {self.pick(v.PRIZES)}"
        if draw < 0.7:
            return f"the {self.invented()} {self.pick(v.PRIZES)}"
        return f"the {self.pick(v.PRIZES)} of {self.random_words(1, 1)}"

    def adjective(self) -> str:
        return self.pick(v.ADJECTIVES) if self.chance(0.6) else self.random_words(1, 1)

    def moment(self) -> str:
        return self.rng.choice(v.MOMENTS)

    def phrase(self) -> str:
        """Something to do, often long."""
        phrase = self.purpose()
        if self.chance(0.5):
            phrase += f" {self.pick(v.PREPOSITIONS)} {self.spot()}"
        elif self.chance(0.3):
            phrase += f" and {self.purpose()}"
        if self.chance(0.25):
            phrase += f" {self.moment()}"
        return phrase

    def degrees(self) -> str:
        return f"{self.rng.randint(-30, 45)} degrees"

    def score(self) -> str:
        joint = self.pick([":", "-", " to "])
        return f"{self.rng.randint(0, 12)}{joint}{self.rng.randint(0, 12)}"

    def address(self) -> str:
        return f"{self.integer(200)} {self.street()}"

    def street(self) -> str:
        name = self.some_name(v.LAST_NAMES) if not self.held_out else self.last_name()
        return f"{name} {self.pick(['Street', 'Road', 'Lane', 'Square', 'Avenue', 'Row'])}"

    def reason(self) -> str:
        return self.pick(v.REASONS) if self.chance(0.4) else self.aword()

    def purpose(self) -> str:
        return f"{self.pick(v.ACTIONS)} {self.thing()}"

    def draw(self, kind: str) -> str:
        if kind == "noun" and self.phrased():
            return self.described(self.noun()) + (self.tail() if self.chance(0.6) else "")
        return getattr(self, "words_" if kind == "words" else kind)()
