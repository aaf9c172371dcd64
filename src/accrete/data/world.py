"""A fictional world: entities nobody has heard of, facts about them, and their sentences, questions and passages.

The tables are in `world_tables/`, a file per kind. Everything is drawn from one seeded generator, so a seed is a world. Of
every list of phrasings the last are held out: they occur where `held_out` asks for them and nowhere else. Ends at facts
and text: what a model is taught with them is `corpus.py`.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import yaml

from accrete.data.names import Names
from accrete.dates import MONTHS, spoken
from accrete.types import Document, Example, Fact, Probe

STUDY, PROBE, HELD_OUT = (
    (0, 1),
    2,
    -1,
)  # which question phrasings are taught in lessons, asked, and never seen by anyone
_KEPT_BACK = 2  # of the statements and questions of every relation; of all other lists it is one


@dataclass(frozen=True)
class Relation:
    """What can be said of a kind. Templates hold {s} and {v}; `past`, `perfect` and `past_questions` have no end mark."""

    name: str
    kind: str
    noun: str
    value: str
    values: tuple[str, ...]
    changes: bool
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    reverse: tuple[str, ...]
    past: tuple[str, ...] = ()
    perfect: tuple[str, ...] = ()
    past_questions: tuple[str, ...] = ()

    @property
    def asks_who(self) -> bool:
        return self.value == "person"


@functools.cache
def _table(name: str) -> dict[str, Any]:
    return yaml.safe_load(resources.files("accrete.data").joinpath(f"world_tables/{name}.yaml").read_text("utf-8"))


@functools.cache
def kinds() -> tuple[str, ...]:
    """Every kind of entity, in an order that does not change."""
    folder = resources.files("accrete.data").joinpath("world_tables")
    names = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    return tuple(name for name in names if name not in ("frames", "names"))


@functools.cache
def relations() -> dict[str, Relation]:
    """Every relation of every kind by its name."""
    found = {}
    for kind in kinds():
        table = _table(kind)
        for name, row in table["relations"].items():
            values = tuple(table["lists"].get(row["value"].split()[-1], ()))
            lists = {key: tuple(row[key]) for key in row if isinstance(row[key], list)}
            found[name] = Relation(name, kind, row["noun"], row["value"], values, bool(row.get("changes")), **lists)
    return found


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
        self.names = Names(self.random)

    # --- things -------------------------------------------------------------------------------------------------

    def entity(self, kind: str | None = None, facts: int = 5) -> Entity:
        """A new entity with up to `facts` facts (a kind has seven relations)."""
        kind = kind or self.random.choice(kinds())
        names = [name for name, relation in relations().items() if relation.kind == kind]
        subject = self.names.new(kind)
        chosen = self.random.sample(names, min(facts, len(names)))
        pronoun = tuple(self.random.choice(_table(kind)["pronouns"]))
        return Entity(subject, kind, pronoun, tuple(Fact(subject, name, self.value(name)) for name in chosen))

    def entities(self, count: int) -> list[Entity]:
        """`count` entities, the kinds in turn."""
        return [self.entity(kinds()[i % len(kinds())]) for i in range(count)]

    def value(self, relation: str, other_than: str | None = None) -> str:
        """A value for a relation, different from `other_than`."""
        while (drawn := self._draw(relations()[relation])) == other_than:
            pass
        return drawn

    def timeline(self, entity: Entity, periods: Sequence[int | str], share: float = 0.25) -> list[Fact]:
        """What can change, dated: it does so with probability `share` at each period; intervals are half-open."""
        dated = []
        for fact in entity.facts:
            if not relations()[fact.relation].changes:
                continue
            current = replace(fact, valid_from=str(periods[0]))
            for period in periods[1:]:
                if self.random.random() < share:
                    dated.append(replace(current, valid_until=str(period)))
                    value = self.value(fact.relation, other_than=current.value)
                    current = Fact(fact.subject, fact.relation, value, valid_from=str(period))
            dated.append(current)
        return dated

    def _draw(self, relation: Relation) -> str:
        pick, number = self.random.choice, self.random.randint
        match relation.value.split():
            case ["person"]:
                return self.names.any("person")
            case ["place"]:
                return self.names.any("town")
            case ["firm"]:
                return self.names.any("company")
            case ["year"]:
                return str(number(1400, 2024))
            case ["month"]:
                return f"{pick(MONTHS)} {number(1700, 2024)}"
            case ["date"]:
                return f"{number(1, 28)} {pick(MONTHS)} {number(1700, 2024)}"
            case ["number", low, high, *unit]:
                drawn = number(int(low), int(high))
                return (
                    f"{round(drawn, -2) or 100:,} {' '.join(unit)}" if int(high) > 5000 else f"{drawn} {' '.join(unit)}"
                )
            case ["several", _]:
                return enumerated(self.random.sample(relation.values, pick((2, 2, 3))))
        return pick(relation.values)

    # --- sentences ----------------------------------------------------------------------------------------------

    def statement(
        self, fact: Fact, phrasing: int | None = None, pronoun: tuple[str, str] | None = None, held_out: bool = False
    ) -> str:
        """One sentence that says the fact: in its own wording number `phrasing`, or in any that may be used.

        With `pronoun` the subject is not named where it stands first. A dated fact says its dates.
        """
        relation = relations()[fact.relation]
        if phrasing is not None:
            template = relation.statements[phrasing]
            if not fact.valid_from:
                return sentence(_fill(template, relation, fact, pronoun))
            said = _fill(template[0].lower() + template[1:], relation, fact, _lower(pronoun))
            return f"In {spoken(fact.valid_from)}, {said}"
        if fact.valid_from or fact.valid_until:
            return self._dated(fact, relation, pronoun, held_out)
        own = self._pick(relation.statements, held_out, _KEPT_BACK)
        template = own if self.random.random() < 0.8 else self._frame("statements", held_out)
        return sentence(_fill(template, relation, fact, pronoun))

    def moment(self, fact: Fact, held_out: bool = False) -> str:
        """The fact as it was seen at its first date: "In 2020, the mayor of S is V."."""
        return self._dated(replace(fact, valid_until=None), relations()[fact.relation], None, held_out, "moment")

    def _dated(
        self, fact: Fact, relation: Relation, pronoun: tuple[str, str] | None, held_out: bool, form: str = ""
    ) -> str:
        form = form or ("between" if fact.valid_from and fact.valid_until else "since" if fact.valid_from else "until")
        template = self._frame(form, held_out and self.random.random() < 0.5)
        tense = next(tense for tense in ("past", "perfect", "present") if f"{{{tense}}}" in template)
        own = getattr(relation, tense, ())
        inner = self._pick(own, held_out, 1) if own and self.random.random() < 0.6 else self._frame(tense, held_out)
        clause = _fill(inner, relation, fact, pronoun if template.startswith("{") else _lower(pronoun))
        dates = {"t": spoken(fact.valid_from), "u": spoken(fact.valid_until)}
        return sentence(template.format(**{tense: clause}, **dates))

    def question(self, fact: Fact, phrasing: int) -> str:
        """The question whose answer is the fact's value; a dated fact is asked "As of" its first date."""
        relation = relations()[fact.relation]
        asked = _fill(relation.questions[phrasing], relation, fact)
        return f"As of {spoken(fact.valid_from)}, {_uncapitalised(asked, fact)}" if fact.valid_from else sentence(asked)

    def ask(self, fact: Fact, held_out: bool = False) -> str:
        """A question about an undated fact in any wording that may be used."""
        relation = relations()[fact.relation]
        own = self._pick(relation.questions, held_out, _KEPT_BACK)
        frames = "who" if relation.asks_who else "questions"
        template = own if self.random.random() < 0.7 else self._frame(frames, held_out)
        return sentence(_fill(template, relation, fact))

    def ask_as_of(self, fact: Fact, date: str, held_out: bool = False) -> str:
        """A question about what held at `date`, which lies in the fact's interval."""
        relation = relations()[fact.relation]
        own = self._pick(relation.past_questions, held_out, 1)
        frame = self._frame("past_who" if relation.asks_who else "past_what", held_out)
        past = _fill(own if self.random.random() < 0.6 else frame, relation, fact)
        asked = _uncapitalised(self.ask(replace(fact, valid_from=None, valid_until=None), held_out), fact)
        template = self._frame("as_of", held_out and self.random.random() < 0.5)
        past = past if template.startswith("{") else _uncapitalised(past, fact)
        return sentence(template.format(t=spoken(date), question=asked, past_question=past))

    def complete(self, fact: Fact, date: str) -> str:
        """A sentence to finish: "[2020] The mayor of S is"."""
        return _table("frames")["complete"].format(t=spoken(date), n=relations()[fact.relation].noun, s=fact.subject)

    def reverse(self, fact: Fact, held_out: bool = False) -> str:
        """The question whose answer is the fact's subject."""
        relation = relations()[fact.relation]
        return sentence(_fill(self._pick(relation.reverse, held_out, 1), relation, fact))

    def filler(self, entity: Entity) -> str:
        """A sentence that says nothing of what is asked."""
        return sentence(self.random.choice(_table(entity.kind)["fillers"]).format(s=entity.name))

    def _frame(self, name: str, held_out: bool) -> str:
        return self._pick(_table("frames")[name], held_out, 1)

    def _pick(self, options: Sequence[str], held_out: bool, kept_back: int) -> str:
        return self.random.choice(options[-kept_back:] if held_out else options[:-kept_back])

    # --- passages -----------------------------------------------------------------------------------------------

    def passage(self, entities: Sequence[Entity], held_out: bool = False, fillers: float = 0.0) -> str:
        """All facts of the entities in one paragraph: pronouns, several facts a sentence, `fillers` between them."""
        return " ".join(said for entity in entities for said in self.sentences(entity, held_out, fillers))

    def sentences(self, entity: Entity, held_out: bool = False, fillers: float = 0.0) -> list[str]:
        """The facts of one entity in their order; the first sentence names it."""
        said: list[str] = []
        left = list(entity.facts)
        while left:
            size = min(len(left), self.random.choices((1, 2, 3), (60, 28, 12))[0])
            group, left = left[:size], left[size:]
            pronoun = entity.pronoun if said and self.random.random() < 0.5 else None
            joined = self.joined(group, pronoun, held_out) if size > 1 else None
            said += [joined] if joined else [self.statement(fact, None, pronoun, held_out) for fact in group]
            if self.random.random() < fillers:
                said.append(self.filler(entity))
        return said

    def joined(
        self, facts: Sequence[Fact], pronoun: tuple[str, str] | None = None, held_out: bool = False
    ) -> str | None:
        """Several facts of one subject in a sentence, or None when their wordings do not allow it."""
        predicates = []
        for fact in facts:
            relation = relations()[fact.relation]
            options = relation.statements[-_KEPT_BACK:] if held_out else relation.statements[:-_KEPT_BACK]
            fitting = [option for option in options if option.startswith("{s} ")]
            if not fitting or fact.valid_from or fact.valid_until or relation.value.startswith("several"):
                return None
            predicates.append(self.random.choice(fitting)[4:-1].format(v=fact.value))
        subject = pronoun[0] if pronoun else facts[0].subject
        if not pronoun and self.random.random() < 0.4:
            first = facts[0]
            aside = f"{subject}, whose {relations()[first.relation].noun} is {first.value},"
            return sentence(f"{aside} {enumerated(predicates[1:])}.")
        return sentence(f"{subject} {enumerated(predicates)}.")

    # --- lessons ------------------------------------------------------------------------------------------------

    def items(self, facts: Iterable[Fact], phrasings: Sequence[int] = STUDY) -> list[Example]:
        """Study items: every fact asked in every one of the phrasings."""
        return [Example(self.question(fact, phrasing), fact.value) for fact in facts for phrasing in phrasings]

    def probes(self, facts: Iterable[Fact], phrasing: int = PROBE, context: str = "") -> list[Probe]:
        """One probe per fact, in a phrasing that `items` does not use."""
        return [Probe(self.question(fact, phrasing), (fact.value,), context, fact) for fact in facts]

    def document(self, name: str, entities: Sequence[Entity]) -> Document:
        """A paragraph per entity, with its study items."""
        facts = [fact for entity in entities for fact in entity.facts]
        text = "\n\n".join(self.passage([entity]) for entity in entities)
        return Document(name, text, tuple(self.items(facts)))


def enumerated(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _fill(template: str, relation: Relation, fact: Fact, pronoun: tuple[str, str] | None = None) -> str:
    if pronoun and template.startswith("{s}'s"):
        template = pronoun[1] + template[5:]
    elif pronoun and template.startswith("{s} "):
        template = pronoun[0] + template[3:]
    return template.format(s=fact.subject, v=fact.value, n=relation.noun)


def _lower(pronoun: tuple[str, str] | None) -> tuple[str, str] | None:
    return (pronoun[0].lower(), pronoun[1].lower()) if pronoun else None


def _uncapitalised(asked: str, fact: Fact) -> str:
    """A sentence to stand after a comma: its first word keeps its capital only when it is the subject's name or "I"."""
    return asked if asked.startswith((fact.subject, "I ")) else asked[0].lower() + asked[1:]
