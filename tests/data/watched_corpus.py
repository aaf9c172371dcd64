"""Documents of a corpus together with what they were made of, for its tests. Ends where the tests begin."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from accrete.data import world as tables
from accrete.data.corpus import WorldCorpus
from accrete.data.world import Entity, relations
from accrete.dates import MONTHS
from accrete.lm.tasks import ANSWER
from accrete.types import Fact

TURN = re.compile(r"<\|im_start\|>user\n (.*?)<\|im_end\|>\n<\|im_start\|>assistant\n (.*?)<\|im_end\|>\n", re.DOTALL)
FRAMES = tables._table("frames")
DATE = rf"((?:(?:{'|'.join(MONTHS)}) )?\d{{4}})"
ASKED_AS_OF = [
    re.escape(frame).replace(r"\{t\}", DATE).replace(r"\{question\}", "(.*)").replace(r"\{past_question\}", "(.*)")
    for frame in FRAMES["as_of"]
]
KEYS = ("statements", "questions", "past", "perfect", "past_questions")
MAKERS = {"reading": 60, "reading_dated": 60, "closed_book": 30, "questions": 20, "facts": 30, "facts_dated": 30,
          "reverse": 20, "restate": 30, "questions_first": 30, "plain": 30}  # fmt: skip


@dataclass
class Made:
    """A document with what the world was asked for while it was written."""

    maker: str
    text: str
    entities: dict[str, Entity] = field(default_factory=dict)
    said: list[tuple[Fact, str]] = field(default_factory=list)  # sentences of single facts
    facts: set[Fact] = field(default_factory=set)  # undated, as they were drawn or dated

    @property
    def turns(self) -> list[tuple[str, str]]:
        return TURN.findall(self.text)

    @property
    def passage(self) -> str:
        """What stands before the first question of a reading."""
        return self.turns[0][0].removeprefix(f"{ANSWER}\n\n").split("\n\n")[0]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The questions of a reading with their answers."""
        (first, reply), *rest = self.turns
        return [(first.split("\n\n")[-1], reply), *rest]


def watched(corpus: WorldCorpus) -> Iterator[Made]:
    """Documents of every kind in turn, with what they were made of."""
    world, made = corpus.world, Made("", "")

    def watch(owner: Any, name: str, note: Any) -> None:
        plain = getattr(owner, name)

        @functools.wraps(plain)
        def noting(*arguments: Any, **options: Any) -> Any:
            result = plain(*arguments, **options)
            note(result, *arguments)
            return result

        setattr(owner, name, noting)

    def see(entities: list[Entity]) -> None:
        made.entities |= {entity.name: entity for entity in entities}
        made.facts |= {fact for entity in entities for fact in entity.facts}

    watch(world, "entity", lambda entity, *_: see([entity]))
    watch(corpus, "entities", lambda entities, *_: see(entities))
    watch(
        world,
        "timeline",
        lambda dated, *_: made.facts.update(replace(f, valid_from=None, valid_until=None) for f in dated),
    )
    for name in ("statement", "moment"):
        watch(world, name, lambda said, fact, *_: made.said.append((fact, said)))
    for maker, count in MAKERS.items():
        for _ in range(count):
            made.__init__(maker, "")
            text = getattr(corpus, maker)()
            yield Made(maker, text, made.entities, made.said, made.facts)


def of(documents: list[Made], *makers: str) -> list[Made]:
    return [made for made in documents if made.maker in makers]


def relation_asked(question: str, entity: Entity) -> str:
    """The relation of a question, whose wording must be one that is taught, about this entity."""
    found = set()
    for relation in relations().values():
        if relation.kind == entity.kind:
            who = relation.asks_who
            taught = [*relation.questions[:-2], *FRAMES["who" if who else "questions"][:-1]]
            taught += [*relation.past_questions[:-1], *FRAMES["past_who" if who else "past_what"][:-1]]
            wordings = {template.format(s=entity.name, n=relation.noun).lower() for template in taught}
            found |= {relation.name} if question.lower() in wordings else set()
    assert len(found) == 1, (question, found)
    return found.pop()
