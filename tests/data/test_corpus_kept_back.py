"""Wordings that are kept back from training: no document of the stream shows one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from watched_corpus import DATE, FRAMES, KEYS, Made, watched

from accrete.data.corpus import WorldCorpus
from accrete.data.world import World, relations
from accrete.types import Fact


@pytest.fixture(scope="module")
def documents() -> list[Made]:
    return list(watched(WorldCorpus(4, entities=60)))


def kept_back(made: Made) -> list[str]:
    """Wordings in a document that training must not show, of the facts it is about."""
    text, found = made.text.lower(), []

    def look(template: str, fact: Fact) -> None:
        relation, entity = relations()[fact.relation], made.entities[fact.subject]
        said = template.format(s="\0", v=fact.value, n=relation.noun).lower().rstrip(".?")
        wordings = [said.replace("\0", entity.name.lower())]
        if said.startswith("\0 ") and template.endswith("."):
            wordings = [said[1:]]  # a predicate, whatever stands before it
        elif said.startswith("\0's "):
            wordings.append(entity.pronoun[1].lower() + said[3:])
        # "As for S, ..." is taught, "For S, ..." is not; "Which company has V?" is, "S has V." is not.
        for wording in wordings:
            others = text.replace(f"as {wording}", "")
            others = others.replace(f"{wording}?", "") if template.endswith(".") else others
            found.extend([wording] if wording in others else [])

    for fact in made.facts:
        relation = relations()[fact.relation]
        own = [*relation.statements[-2:], *relation.questions[-2:], *relation.reverse[-1:], *relation.past[-1:],
               *relation.perfect[-1:], *relation.past_questions[-1:]]  # fmt: skip
        taught = {wording.rstrip(".?") for key in KEYS for wording in getattr(relation, key)}
        names = ("statements", "questions", "who", "reverse", "past", "perfect", "past_what", "past_who")
        frames = [FRAMES[name][-1] for name in names]
        own += [frame for frame in frames if frame.replace("{n}", relation.noun).rstrip(".?") not in taught]
        for template in own:
            look(template, fact)
    for form in ("since", "until", "between", "as_of"):
        beginning = re.split(r"\{(?![tu]\})", FRAMES[form][-1])[0]  # "Ever since {t}, "
        found += re.findall(beginning.format(t=DATE, u=DATE), made.text, re.IGNORECASE)
    return found


def test_wordings_that_are_kept_back_never_occur(documents: list[Made]) -> None:
    corpus = WorldCorpus(4, entities=60)
    persistent = {entity.name: entity for entity in corpus.persistent}
    for made in documents:
        known = [entity for name, entity in persistent.items() if name in made.text]
        entities = made.entities | {entity.name: entity for entity in known}
        facts = made.facts | {fact for entity in known for fact in entity.facts}
        assert kept_back(replace(made, entities=entities, facts=facts)) == [], made.text


def test_a_wording_that_is_kept_back_would_be_found() -> None:
    world = World(0)
    for entity in world.entities(60):
        made = Made("", world.passage([entity], held_out=True), {entity.name: entity}, [], set(entity.facts))
        assert len(kept_back(made)) >= len(world.sentences(entity)) / 3
        for fact in entity.facts:
            for text in (
                world.statement(fact, held_out=True),
                world.ask(fact, held_out=True),
                world.reverse(fact, True),
            ):
                assert kept_back(replace(made, text=text)), text
            if relations()[fact.relation].changes:
                dated = replace(fact, valid_from="2010", valid_until="2015")
                said = [world.statement(dated, held_out=True) for _ in range(8)]
                assert any(kept_back(replace(made, text=text)) for text in said)
                asked = [world.ask_as_of(dated, "2012", held_out=True) for _ in range(8)]
                assert any(kept_back(replace(made, text=text)) for text in asked)
