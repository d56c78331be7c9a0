# SPDX-License-Identifier: Apache-2.0
"""Reads wordings.txt: for each relation the ways to state a fact and the ways to ask for it."""

import string
from dataclasses import dataclass, field
from pathlib import Path

TRAINED = Path(__file__).with_name("wordings.txt")
UNSEEN = Path(__file__).with_name("wordings_unseen.txt")
VALUE = "v"


@dataclass
class Relation:
    name: str
    kinds: list[str]  # of the value
    statements: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)  # all but the value's


def read_wordings(path: Path) -> list[Relation]:
    relations: list[Relation] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line.startswith("== "):
            name, kinds = line[3:].split("|")
            relations.append(Relation(name.strip(), [kind.strip() for kind in kinds.split(",")]))
        elif line.startswith("? "):
            relations[-1].questions.append(line[2:])
        elif line and not line.startswith("#"):
            relations[-1].statements.append(line)
    for relation in relations:
        check(relation)
    return relations


def slots_of(wording: str) -> set[str]:
    fields = {name for _, name, _, _ in string.Formatter().parse(wording) if name}
    return {name.split(".")[0] for name in fields}


def check(relation: Relation) -> None:
    """All wordings of a relation name the same slots, so any question fits any statement."""
    slots = set.union(*(slots_of(wording) for wording in relation.questions))
    relation.slots = sorted(slots)
    for wording in relation.questions + relation.statements:
        wanted = slots if wording in relation.questions else slots | {VALUE}
        if slots_of(wording) != wanted:
            raise ValueError(
                f"{relation.name}: {wording!r} names {slots_of(wording)}, not {wanted}"
            )
