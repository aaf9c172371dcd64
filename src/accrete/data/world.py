"""A fictional world: entities nobody has heard of, facts about them, and their sentences, questions and passages.

The tables are in `world.yaml`. Everything is drawn from one seeded generator, so a seed is a world. Ends at facts and
text: packing them into token streams is `corpus.py`.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import yaml

from accrete.types import Document, Example, Fact, Probe

STUDY, PROBE, HELD_OUT = (0, 1), 2, 3  # which question phrasings are taught, asked, and never seen by anyone

_ONSETS = [
    "b",
    "br",
    "c",
    "ch",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
    "sh",
    "st",
    "t",
    "th",
    "tr",
    "v",
    "w",
    "y",
    "z",
]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "au", "ea", "ie", "oo"]
_CODAS = ["b", "ck", "d", "l", "ll", "m", "n", "nd", "r", "rn", "s", "ss", "st", "t", "th", "v", "x"] + [""] * 12
_FIRM_SUFFIXES = ("Works", "Guild", "Brothers", "Mills", "Trust", "Union", "Partners", "Yards")
_BUILDING_SUFFIXES = ("Hall", "Tower", "House", "Gate", "Court", "Rotunda")
_TITLE_WORDS = ("Lantern", "Orchard", "Winter", "Ladder", "Mirror", "Garden", "Bridge", "Letter", "Harvest", "Silence",
                "Clock", "Island", "Road", "Window", "Shadow", "Feather")  # fmt: skip
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


@functools.cache
def _tables() -> dict[str, Any]:
    return yaml.safe_load(resources.files("accrete.data").joinpath("world.yaml").read_text("utf-8"))


@functools.cache
def relations() -> dict[str, dict[str, Any]]:
    """Every relation by its name: its value type, statements and questions."""
    return {name: row for kind in _tables()["kinds"].values() for name, row in kind["relations"].items()}


@functools.cache
def kinds() -> tuple[str, ...]:
    return tuple(_tables()["kinds"])


@dataclass(frozen=True)
class Entity:
    """Something in the world, with how to refer to it in a later sentence: ("It", "Its")."""

    name: str
    kind: str
    pronoun: tuple[str, str]
    facts: tuple[Fact, ...] = ()


class World:
    """Draws entities, facts, passages and questions. Names never repeat within one world."""

    def __init__(self, seed: int = 0):
        self.random = random.Random(seed)
        self._names: set[str] = set()

    # --- things -------------------------------------------------------------------------------------------------

    def entity(self, kind: str | None = None, facts: int = 5) -> Entity:
        """A new entity with up to `facts` facts (a kind has five relations)."""
        kind = kind or self.random.choice(kinds())
        table = _tables()["kinds"][kind]
        name = self._unique(kind)
        names = self.random.sample(list(table["relations"]), min(facts, len(table["relations"])))
        drawn = tuple(Fact(name, relation, self.value(relation)) for relation in names)
        return Entity(name, kind, tuple(self.random.choice(table["pronouns"])), drawn)

    def entities(self, count: int) -> list[Entity]:
        """`count` entities, the kinds in turn."""
        return [self.entity(kinds()[i % len(kinds())]) for i in range(count)]

    def value(self, relation: str, other_than: str | None = None) -> str:
        """A value for a relation, different from `other_than`."""
        while (drawn := self._draw(relations()[relation]["value"])) == other_than:
            pass
        return drawn

    def timeline(self, entity: Entity, periods: Sequence[int], share: float = 0.25) -> list[Fact]:
        """What can change, dated: it does so with probability `share` at each period; intervals are half-open."""
        dated = []
        for fact in entity.facts:
            if not relations()[fact.relation].get("changes"):
                continue
            current = replace(fact, valid_from=str(periods[0]))
            for period in periods[1:]:
                if self.random.random() < share:
                    dated.append(replace(current, valid_until=str(period)))
                    value = self.value(fact.relation, other_than=current.value)
                    current = Fact(fact.subject, fact.relation, value, valid_from=str(period))
            dated.append(current)
        return dated

    def _unique(self, kind: str) -> str:
        while (name := self._name(kind)) in self._names:
            pass
        self._names.add(name)
        return name

    def _name(self, kind: str) -> str:
        word, pick = self._word, self.random.choice
        match kind:
            case "person":
                return f"{word()} {word()}"
            case "company":
                return f"{word()} {pick(_FIRM_SUFFIXES)}"
            case "building":
                return f"{word()} {pick(_BUILDING_SUFFIXES)}"
            case "book":
                return f"The {pick(_TITLE_WORDS)} of {word()}"
            case "machine":
                return f"the {word()} engine"
            case "treaty":
                return f"the Treaty of {word()}"
            case "species":
                return f"the {word().lower()}"
            case "team":
                return f"{word()} United" if self.random.random() < 0.5 else f"Sporting {word()}"
            case "ship":
                return f"the {word()}"
        return word()

    def _word(self) -> str:
        pick = self.random.choice
        syllables = [pick(_ONSETS) + pick(_VOWELS) for _ in range(self.random.choice((1, 2, 2, 2)))]
        last = pick(_CODAS) if len(syllables) > 1 else pick(_CODAS[:17])
        return ("".join(syllables) + last).capitalize()

    def _draw(self, kind: str) -> str:
        pick, number = self.random.choice, self.random.randint
        match kind.split():
            case ["person"]:
                return self._name("person")
            case ["place"]:
                return self._word()
            case ["firm"]:
                return self._name("company")
            case ["year"]:
                return str(number(1500, 2019))
            case ["date"]:
                return f"{number(1, 28)} {pick(_MONTHS)} {number(1700, 2019)}"
            case ["number", low, high, unit]:
                drawn = number(int(low), int(high))
                return f"{round(drawn, -2) or 100:,} {unit}" if int(high) > 5000 else f"{drawn} {unit}"
        return pick(_tables()["lists"][kind])

    # --- text ---------------------------------------------------------------------------------------------------

    def statement(self, fact: Fact, phrasing: int | None = None, pronoun: tuple[str, str] | None = None) -> str:
        """One sentence. Without `phrasing` any of those that are not held out; with `pronoun` the subject is not named."""
        options = relations()[fact.relation]["statements"]
        template = self.random.choice(options[:-1]) if phrasing is None else options[phrasing]
        if pronoun and "{s}'s" in template:
            template = template.replace("{s}'s", pronoun[1])
        elif pronoun and template.startswith("{s}"):
            template = template.replace("{s}", pronoun[0], 1)
        sentence = template.format(s=fact.subject, v=fact.value)
        return _dated(sentence, template, "In", fact) if fact.valid_from else sentence[0].upper() + sentence[1:]

    def question(self, fact: Fact, phrasing: int) -> str:
        """The question whose answer is the fact's value; a dated fact is asked "As of" its first date."""
        template = relations()[fact.relation]["questions"][phrasing]
        sentence = template.format(s=fact.subject)
        return _dated(sentence, "", "As of", fact) if fact.valid_from else sentence

    def passage(self, entities: Sequence[Entity]) -> str:
        """All facts of the entities, in one paragraph; after the first mention pronouns may stand for a name."""
        sentences: list[str] = []
        for entity in entities:
            for position, fact in enumerate(entity.facts):
                pronoun = entity.pronoun if position and self.random.random() < 0.5 else None
                sentences.append(self.statement(fact, pronoun=pronoun))
        return " ".join(sentences)

    def items(self, facts: Sequence[Fact], phrasings: Sequence[int] = STUDY) -> list[Example]:
        """Study items: every fact asked in every one of the phrasings."""
        return [Example(self.question(fact, phrasing), fact.value) for fact in facts for phrasing in phrasings]

    def probes(self, facts: Sequence[Fact], phrasing: int = PROBE, context: str = "") -> list[Probe]:
        """One probe per fact, in a phrasing that `items` does not use."""
        return [Probe(self.question(fact, phrasing), (fact.value,), context, fact) for fact in facts]

    def document(self, name: str, entities: Sequence[Entity]) -> Document:
        """A paragraph per entity, with its study items."""
        facts = [fact for entity in entities for fact in entity.facts]
        text = "\n\n".join(self.passage([entity]) for entity in entities)
        return Document(name, text, tuple(self.items(facts)))


def _dated(sentence: str, template: str, preposition: str, fact: Fact) -> str:
    """Put a date before a sentence, whose first word keeps its capital only when it is the subject's name."""
    named = template.startswith("{s}") or sentence.startswith(fact.subject)
    first = sentence[0] if named else sentence[0].lower()
    return f"{preposition} {fact.valid_from}, {first}{sentence[1:]}"
