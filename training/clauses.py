# SPDX-License-Identifier: Apache-2.0
"""Facts without a wording of their own: clauses put together from roles, each of which can be asked.

    Last summer Clara, a retired sailor, sold the copper lamp to the miller for ninety crowns.
    Who sold the copper lamp ...?  What did Clara sell ...?  To whom ...?  When ...?  For how much ...?

Tense, voice, order, appositions and clefts vary; questions name the other roles, more or fewer of
them. Several questions are asked of one sentence, so that the question alone decides the answer.
"""

import random
from dataclasses import dataclass, field

from facts import Item, as_stated
from values import Slots

GIVE = """
give-gave-given send-sent-sent sell-sold-sold lend-lent-lent show-showed-shown hand-handed-handed
offer-offered-offered bring-brought-brought promise-promised-promised teach-taught-taught
leave-left-left
""".split()
MOVE = """
travel-travelled-travelled sail-sailed-sailed walk-walked-walked ride-rode-ridden flee-fled-fled
return-returned-returned drive-drove-driven hurry-hurried-hurried move-moved-moved go-went-gone
march-marched-marched wander-wandered-wandered retire-retired-retired escape-escaped-escaped
emigrate-emigrated-emigrated
""".split()
DWELL = """
wait-waited-waited sleep-slept-slept work-worked-worked sing-sang-sung dance-danced-danced
live-lived-lived stay-stayed-stayed pray-prayed-prayed fish-fished-fished rest-rested-rested
play-played-played faint-fainted-fainted preach-preached-preached die-died-died study-studied-studied
disappear-disappeared-disappeared fall-fell-fallen
""".split()
APPOSITIONS = """
a retired sailor|the youngest of six|a friend of {person}|the cousin of {person}|who lives in {place}
|aged {count}|dressed in {colour}|born in {year}|a native of {place}|tired as usual|once {job}
|the pride of {place}|who owns {count} {things}|a stranger to everyone but {person}|{job} by trade
""".replace("\n", "").split("|")  # fmt: skip
EMBEDDED = """
Can you tell me {c}?|Tell me {c}.|Do you know {c}?|I would like to know {c}.|Say {c}.|Does the text say {c}?
|Please tell me {c}.|Could you say {c}?|I wonder {c}.|Find out {c}.|Do you remember {c}?
""".replace("\n", "").split("|")  # fmt: skip


@dataclass
class Role:
    """`lead` stands before the value in the statement, and before it in questions for other roles;
    a question for this role begins with one of `asked`, `stranded` ending it if not empty."""

    value: str
    lead: str = ""
    asked: tuple[str, ...] = ()
    stranded: tuple[tuple[str, str], ...] = ()  # (question word, last word)

    @property
    def phrase(self) -> str:
        return f"{self.lead} {self.value}" if self.lead else self.value


@dataclass
class Clause:
    verb: tuple[str, str, str]  # base, past, participle
    agent: Role
    target: Role | None  # what the verb acts on
    plural: bool = False  # the target
    adjuncts: list[Role] = field(default_factory=list)


@dataclass
class Forms:
    """A tense of a verb: finite, auxiliary and rest in questions, passive in two parts."""

    finite: str
    auxiliary: str
    rest: str
    passive: tuple[str, str]


def third(base: str) -> str:
    if base.endswith(("s", "sh", "ch", "x", "o")):
        return base + "es"
    return base[:-1] + "ies" if base[-1] == "y" and base[-2] not in "aeiou" else base + "s"


def forms(rng: random.Random, verb: tuple[str, str, str], plural: bool) -> Forms:
    base, past, part = verb
    was, has, does = ("were", "have", "are") if plural else ("was", "has", "is")
    return rng.choice(
        [Forms(past, "did", base, (was, part))] * 6
        + [
            Forms(f"will {base}", "will", base, ("will", f"be {part}")),
            Forms(f"has {part}", "has", part, (has, f"been {part}")),
            Forms(f"had {part}", "had", part, ("had", f"been {part}")),
            Forms(third(base), "does", base, (does, part)),
            Forms(f"must {base}", "must", base, ("must", f"be {part}")),
            Forms(f"is going to {base}", "is", f"going to {base}", (does, f"to be {part}")),
            Forms(f"wants to {base}", "does", f"want to {base}", (does, f"to be {part}")),
            Forms(f"was seen to {base}", "was", f"seen to {base}", (was, f"seen to be {part}")),
        ]
    )


def joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


class ClauseMaker:
    def __init__(self, rng: random.Random, slots: Slots, decorate_statement, decorate_question):
        self.rng, self.slots = rng, slots
        self.decorate_statement, self.decorate_question = decorate_statement, decorate_question

    def make(self, count: int) -> list[Item]:
        """Some share their agent, their verb or their target, never two of these."""
        known: list[Clause] = []
        while len(known) < count:
            clause = self.clause()
            if known and self.rng.random() < 0.5:
                other = self.rng.choice(known)
                shared = self.rng.randrange(3)
                if shared == 0:
                    clause.agent = other.agent
                elif shared == 1 and (clause.target is None) == (other.target is None):
                    clause.verb, clause.adjuncts = other.verb, self.like(other.adjuncts, clause)
                elif clause.target is not None and other.target is not None:
                    clause.target, clause.plural = other.target, other.plural
            if not any(self.same(clause, other) for other in known):
                known.append(clause)
        return [self.item(clause) for clause in known]

    def same(self, a: Clause, b: Clause) -> bool:
        pairs = [
            (a.agent.value, b.agent.value),
            (a.verb, b.verb),
            (a.target and a.target.value, b.target and b.target.value),
        ]
        return sum(x == y and x is not None for x, y in pairs) > 1

    def like(self, adjuncts: list[Role], clause: Clause) -> list[Role]:
        """A verb with a fixed companion role (to whom, whither) keeps that role."""
        fixed = [role for role in adjuncts if role.lead == "to"]
        own = [role for role in clause.adjuncts if role.lead != "to"]
        if not fixed:
            return own
        return [self.recipient() if "To whom" in fixed[0].asked else self.whither(), *own]

    # --- roles -----------------------------------------------------------------------------

    def clause(self) -> Clause:
        draw = self.rng.random()
        if draw < 0.62:
            verb, target, adjuncts = self.slots.verb_forms("verb"), self.target(), []
        elif draw < 0.76:
            verb, target = self.pick_verb(GIVE), self.target()
            adjuncts = [self.recipient()]
        elif draw < 0.9:
            verb, target, adjuncts = self.pick_verb(MOVE), None, [self.whither()]
        else:
            verb, target, adjuncts = self.pick_verb(DWELL), None, []
        plural = bool(target and target.lead == "plural")
        if target:
            target.lead = ""
        least = 1 if target is None and not adjuncts else 0
        makers = self.rng.sample(
            [self.place, self.time, self.companion, self.reason, self.third_party],
            max(least, self.rng.choice((0, 1, 1, 2, 2, 3))),
        )
        adjuncts = adjuncts + [maker() for maker in makers]
        return Clause(verb, self.agent(), target, plural, adjuncts)

    def pick_verb(self, verbs: list[str]) -> tuple[str, str, str]:
        return tuple(self.rng.choice(verbs).split("-"))

    def agent(self) -> Role:
        draw, slots = self.rng.random(), self.slots
        if draw < 0.75:
            value = slots.person()
        elif draw < 0.87:
            value = f"{self.rng.choice(['my', 'our', 'his', 'her', 'your'])} {slots.kin()}"
        else:
            value = slots.org() if draw < 0.94 else f"the {slots.animal()} of {slots.person()}"
        return Role(value, "", ("Who", "Who", "Who", "Which person"))

    def target(self) -> Role:
        draw, slots = self.rng.random(), self.slots
        what = ("What", "What", "Which thing")
        if draw < 0.45:
            return Role(slots.thing(), "", what)
        if draw < 0.6:
            return Role(slots.aword(), "", what)
        if draw < 0.75:
            things = slots.things()
            return Role(f"{slots.count()} {things}", "plural", ("What", f"count {things}"))
        if draw < 0.85:
            return Role(slots.things(), "plural", ("What", "Which things"))
        if draw < 0.93:
            return Role(slots.person(), "", ("Whom", "Who", "Whom"))
        return Role(slots.word(), "", what)

    def recipient(self) -> Role:
        return Role(self.slots.person(), "to", ("To whom", "To whom"), (("Who", "to"),))

    def whither(self) -> Role:
        value = self.slots.place() if self.rng.random() < 0.7 else self.slots.spot()
        asked = ("Where", "To which place", "Where", "To what place")
        return Role(value, "to", asked, (("Where", "to"),))

    def place(self) -> Role:
        draw, slots = self.rng.random(), self.slots
        if draw < 0.4:
            asked = ("Where", "In which town", "Where", "In what place")
            return Role(slots.place(), "in", asked)
        if draw < 0.7:
            return Role(slots.spot(), self.rng.choice(("in", "at", "near")), ("Where",))
        return Role(slots.where(), "", ("Where", "Where", "In what place"))

    def time(self) -> Role:
        slots = self.slots
        asked = {
            "time": ("at", ("When", "At what time", "At which hour", "What time")),
            "weekday": ("on", ("When", "On which day", "On what day")),
            "date": ("on", ("When", "On what date", "On which day")),
            "year": ("in", ("When", "In what year", "In which year")),
            "month": ("in", ("When", "In which month", "In what month")),
            "moment": ("", ("When", "When exactly")),
        }
        kind = self.rng.choice(list(asked))
        value = slots.draw(kind)
        lead, words = asked[kind]
        if kind == "time" and value in ("dawn", "sunset", "noon", "midnight"):
            words = words[:1]
        return Role(value, lead, words)

    def companion(self) -> Role:
        if self.rng.random() < 0.5:
            value = self.slots.person()
            return Role(value, "together with", ("With whom", "Together with whom"))
        return Role(self.slots.aword(), "with", ("With what",), (("What", "with"),))

    def reason(self) -> Role:
        if self.rng.random() < 0.5:
            value, lead = self.slots.reason(), self.rng.choice(("because of", "on account of"))
            return Role(value, lead, ("Why", "For what reason", "Why"))
        value = self.slots.purpose()
        return Role(value, self.rng.choice(("to", "in order to")), ("Why", "For what purpose"))

    def third_party(self) -> Role:
        draw, slots = self.rng.random(), self.slots
        if draw < 0.3:
            return Role(slots.person(), "for", ("For whom",), (("Who", "for"),))
        if draw < 0.6:
            return Role(slots.money(), "for", ("For how much", "For what sum"))
        if draw < 0.8:
            return Role(slots.duration(), "for", ("How long", "For how long"))
        return Role(slots.place(), "from", ("From where", "From which place"), (("Where", "from"),))

    # --- saying and asking -----------------------------------------------------------------

    def item(self, clause: Clause) -> Item:
        roles = [clause.agent, *([clause.target] if clause.target else []), *clause.adjuncts]
        shape = forms(self.rng, clause.verb, clause.plural)
        passive = clause.target is not None and self.rng.random() < 0.3
        statement = self.statement(clause, shape, passive)
        self.rng.shuffle(roles)
        asked = [self.question(clause, role, shape) for role in roles[: self.rng.choice((1, 2, 3))]]
        (question, value), *more = [(q, as_stated(value, statement)) for q, value in asked]
        return Item((statement,), question, value, kind="clause", more=tuple(more))

    def statement(self, clause: Clause, shape: Forms, passive: bool) -> str:
        rng = self.rng
        agent, target = clause.agent.value, clause.target.value if clause.target else ""
        adjuncts = [role.phrase for role in clause.adjuncts]
        rng.shuffle(adjuncts)
        fronted = ""
        leads = [role.phrase for role in clause.adjuncts if role.lead]
        if leads and rng.random() < 0.25:
            fronted = rng.choice(leads)
            adjuncts.remove(fronted)
            fronted += rng.choice((",", ""))
        if rng.random() < 0.12:
            agent += f", {self.apposition()},"
        if passive:
            by = f"by {agent.rstrip(',')}"
            if adjuncts and rng.random() < 0.3:
                adjuncts = [adjuncts[0], by, *adjuncts[1:]]
            else:
                adjuncts = [by, *adjuncts]
            text = joined(fronted, target, *shape.passive, *adjuncts)
        elif not fronted and rng.random() < 0.07:
            text = joined("It was", agent, "who", shape.finite, target, *adjuncts)
        elif adjuncts and not fronted and rng.random() < 0.06:
            text = joined("it was", adjuncts[0], "that", agent, shape.finite, target, *adjuncts[1:])
        else:
            text = joined(fronted, agent, shape.finite, target, *adjuncts)
        return self.decorate_statement(text + ".")

    def apposition(self) -> str:
        slots = self.slots
        return self.rng.choice(APPOSITIONS).format_map(LazySlots(slots))

    def question(self, clause: Clause, role: Role, shape: Forms) -> tuple[str, str]:
        rng = self.rng
        wh = rng.choice(role.asked)
        stranded, value = "", role.value
        others = [r.phrase for r in clause.adjuncts if r is not role and rng.random() < 0.4]
        agent, target = clause.agent.value, clause.target.value if clause.target else ""
        if role is clause.agent:
            if target and rng.random() < 0.25:
                wh = "By whom"
                text = joined(wh, shape.passive[0], target, shape.passive[1], *others)
            else:
                start = rng.choice(
                    (wh, wh, wh, wh, "Who was it that", "What is the name of the one who")
                )
                text = joined(start, shape.finite, target, *others)
            return self.finished(text + "?"), value
        if role is clause.target:
            if wh.startswith("count "):
                wh, value = "How many " + wh[6:], value[: -len(wh) + 5]
            elif rng.random() < 0.2:
                verb = shape.passive
                return self.finished(joined(wh, *verb, f"by {agent}", *others) + "?"), value
            target = ""
        elif role.stranded and rng.random() < 0.3:
            wh, stranded = rng.choice(role.stranded)
        if rng.random() < 0.12:
            clause_text = joined(
                wh[0].lower() + wh[1:], agent, shape.finite, target, *others, stranded
            )
            return rng.choice(EMBEDDED).format(c=clause_text), value
        if target and rng.random() < 0.25:
            by = f"by {agent}" if rng.random() < 0.6 else ""
            text = joined(wh, shape.passive[0], target, shape.passive[1], by, *others, stranded)
        else:
            text = joined(wh, shape.auxiliary, agent, shape.rest, target, *others, stranded)
        return self.finished(text + "?"), value

    def finished(self, question: str) -> str:
        return self.decorate_question(question)


class LazySlots(dict):
    """So that a format string draws only the slots that it names."""

    def __init__(self, slots: Slots):
        super().__init__()
        self.slots = slots

    def __missing__(self, name: str) -> str:
        return self.slots.draw(name)
