"""Held-out worlds: passages about entities that no training saw, with what they say and what is asked. Ends at strings.

The same mixes as in training (`data/corpus.py`), from another seed and, where `held_out`, in phrasings that training never
shows. What a shorter list holds, a longer one begins with.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from accrete.data.corpus import WorldCorpus, as_listed, moment_within, say_history
from accrete.data.world import World, relations
from accrete.lm.tasks import NOT_STATED
from accrete.types import Fact, Probe

SEED = 4_711  # training's world has seed 0
PERSISTENT = (0, 600)  # seed and size of the world that the embedded model learned by heart
FILLERS = 0.2  # how often a sentence that says nothing follows


@dataclass(frozen=True)
class Reading:
    """A passage and all that it says; `facts` of a listing are as its lines have them."""

    text: str
    facts: tuple[Fact, ...]


def passages(count: int, held_out: bool = True) -> list[Reading]:
    """Passages about one to three entities."""
    return list(itertools.islice((reading for _, reading in _readings(WorldCorpus(SEED, 0), held_out)), count))


def questions(count: int, held_out: bool = True) -> list[Probe]:
    """Questions whose passage answers them, three or fewer a passage."""
    corpus = WorldCorpus(SEED, 0)

    def stream() -> Iterator[Probe]:
        for _, reading in _readings(corpus, held_out):
            for fact in corpus.world.random.sample(reading.facts, min(3, len(reading.facts))):
                yield Probe(corpus.world.ask(fact, held_out), (fact.value,), reading.text, fact)

    return list(itertools.islice(stream(), count))


def half_unanswerable(count: int, held_out: bool = True) -> list[Probe]:
    """Questions in turn answered by their passage and about what it does not say of its entity: "not stated"."""
    corpus = WorldCorpus(SEED, 0)

    def stream() -> Iterator[Probe]:
        for entities, reading in _readings(corpus, held_out):
            for entity in entities:
                if missing := corpus.missing(entity):
                    fact = corpus.world.random.choice(entity.facts)
                    yield Probe(corpus.world.ask(fact, held_out), (fact.value,), reading.text, fact)
                    yield Probe(corpus.world.ask(missing, held_out), (NOT_STATED,), reading.text, missing)

    return list(itertools.islice(stream(), count))


def sentences(count: int, held_out: bool = True) -> list[Reading]:
    """One to three facts of one entity, said in one to three sentences."""
    world = World(SEED)
    drawn = (world.entity(facts=world.random.choice((1, 1, 2, 3))) for _ in range(count))
    return [Reading(world.passage([entity], held_out), entity.facts) for entity in drawn]


def listings(count: int, held_out: bool = True) -> list[Reading]:
    """Passages with the lines that list their facts, none of them dated."""
    return [
        Reading(reading.text, tuple(as_listed(fact) for fact in reading.facts)) for reading in passages(count, held_out)
    ]


def dated_listings(count: int, held_out: bool = True) -> list[Reading]:
    """The same of one entity whose changing facts have a beginning, an end, both or neither."""
    world = World(SEED)
    draw, readings = world.random, []
    for _ in range(count):
        facts, said = [], []
        for fact in world.entity(facts=draw.randint(2, 6)).facts:
            if relations()[fact.relation].changes:
                first, second = _dates(draw)
                start, end = draw.choice(((first, None), (None, second), (first, second), (None, None)))
                fact = replace(fact, valid_from=start, valid_until=end)
            seen = fact.valid_from and not fact.valid_until and draw.random() < 0.4
            said.append(world.moment(fact, held_out) if seen else world.statement(fact, held_out=held_out))
            facts.append(as_listed(fact))
        readings.append(Reading(" ".join(said), tuple(facts)))
    return readings


def _dates(draw: random.Random) -> tuple[str, str]:
    """Two dates in order: years, and now and then months."""
    years = sorted(draw.sample(range(1985, 2025), 2))
    months = draw.random() < 0.2
    first, second = (f"{year}-{draw.randint(1, 12):02}" if months else str(year) for year in years)
    return first, second


def histories(count: int, held_out: bool = True) -> list[Probe]:
    """Questions about what held when, at the first date of a fact or between; three in ten are sentences to finish."""
    corpus = WorldCorpus(SEED, 0)
    world, draw = corpus.world, corpus.world.random

    def stream() -> Iterator[Probe]:
        while True:
            dated, _ = corpus.history()
            said = say_history(world, dated, as_moments=draw.random() < 0.5, held_out=held_out)
            said += [world.statement(fact, held_out=held_out) for fact in _steady(world, dated[0])]
            if draw.random() < 0.4:
                draw.shuffle(said)
            for fact in draw.sample(dated, min(3, len(dated))):
                date = moment_within(fact, draw)
                finish = draw.random() < 0.3
                asked = world.complete(fact, date) if finish else world.ask_as_of(fact, date, held_out)
                yield Probe(asked, (fact.value,), " ".join(said), fact)

    return list(itertools.islice(stream(), count))


def _steady(world: World, beside: Fact) -> list[Fact]:
    """Up to two facts of the same subject that never change."""
    kind = relations()[beside.relation].kind
    names = [name for name, relation in relations().items() if relation.kind == kind and not relation.changes]
    chosen = world.random.sample(names, min(len(names), world.random.choice((0, 0, 1, 2))))
    return [Fact(beside.subject, name, world.value(name)) for name in chosen]


def by_heart(count: int, held_out: bool = True) -> list[Probe]:
    """Questions about persistent facts, with nothing to read."""
    corpus = WorldCorpus(*PERSISTENT)
    facts = [fact for entity in corpus.persistent for fact in entity.facts]
    random.Random(SEED).shuffle(facts)
    ask = World(SEED)
    return [
        Probe(ask.question(fact, -1 - i % 2) if held_out else ask.ask(fact), (fact.value,), "", fact)
        for i, fact in enumerate(facts[:count])
    ]


def _readings(corpus: WorldCorpus, held_out: bool) -> Iterator[tuple[list, Reading]]:
    while True:
        entities = corpus.entities(persistent=0.0)
        text = corpus.world.passage(entities, held_out, FILLERS)
        yield entities, Reading(text, tuple(fact for entity in entities for fact in entity.facts))
