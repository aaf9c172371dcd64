"""Ways to speak of the world's tables, for the tests of it. Ends where the tests begin."""

from __future__ import annotations

import string

from accrete.data import world as tables
from accrete.data.world import Relation, World, relations
from accrete.types import Fact

FRAMES = tables._table("frames")
RELATIONS = list(relations().values())
CHANGING = [relation for relation in RELATIONS if relation.changes]
PRONOUN = ("Zzq", "Zzqs")  # no name has these letters


def of_kind(kind: str) -> list[Relation]:
    return [relation for relation in RELATIONS if relation.kind == kind]


def fields(template: str) -> list[str]:
    return sorted(field for _, field, _, _ in string.Formatter().parse(template) if field is not None)


def fact_of(relation: Relation, world: World, subject: str = "Brialtem Quorv", **dates: str | None) -> Fact:
    return Fact(subject, relation.name, world.value(relation.name), **dates)


def filled(template: str, fact: Fact) -> str:
    return template.format(s=fact.subject, v=fact.value, n=relations()[fact.relation].noun)
