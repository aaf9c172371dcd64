"""New fictional entities: documents of a few paragraphs, asked in wordings that no study item has, also backwards.

Every task is a document of `facts` facts, five an entity and a paragraph an entity. Its study items are in two wordings that
training shows; its probes are in the held-out ones. A fact whose value is a person that occurs nowhere else is asked
backwards as well (kind "reverse"), and its items say it backwards in two taught wordings.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace

from accrete.data.world import Entity, World, kinds, relations
from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams._limits import drawn, evenly
from accrete.evaluate.worlds import PERSISTENT
from accrete.types import Document, Example, Fact, Probe

LESSONS, FACTS, AN_ENTITY = 12, 20, 5
OPTIONS = {
    "lessons": "documents [12]",
    "facts": "facts a document [20]",
    "limit": "questions in all, one a document at least",
}
SEED = 9_000  # training's world has seed 0, that of `evaluate-base` 4,711


def make(options: Options) -> Stream:
    """`lessons` tasks of `facts` facts. `limit` questions are spread over the tasks, and no task is left without one."""
    seed = SEED + options.seed
    world = World(seed)
    count, facts = options.lessons or LESSONS, options.facts or FACTS
    met = strangers(world)
    lessons = [_entities(world, met, facts) for _ in range(min(count, options.limit or count))]
    once = _once([fact for entities in lessons for entity in entities for fact in entity.facts])
    tasks = [_task(world, f"world {number}", entities, once) for number, entities in enumerate(lessons, 1)]
    shares = evenly(options.limit, [len(task.probes) for task in tasks])
    return Stream(
        "world",
        tuple(
            replace(task, probes=tuple(drawn(task.probes, share, f"{seed}:{task.name}")))
            for task, share in zip(tasks, shares, strict=True)
        ),
        about={
            "entities": sum(map(len, lessons)),
            "facts": facts * len(lessons),
            "facts asked backwards too": len(once),
            "seed of the world": seed,
        },
    )


def strangers(world: World, facts: int = 7) -> Iterator[Entity]:
    """Entities that the embedded model never met, the kinds in turn, each with up to seven facts."""
    number = 0
    while True:
        entity = world.entity(kinds()[number % len(kinds())], facts)
        if entity.name not in _known():
            number += 1
            yield entity


@functools.cache
def _known() -> frozenset[str]:
    """The names and the values of the world that the embedded model learned by heart."""
    entities = World(PERSISTENT[0]).entities(PERSISTENT[1])
    return frozenset(name for entity in entities for name in (entity.name, *(fact.value for fact in entity.facts)))


def _entities(world: World, met: Iterator[Entity], facts: int) -> list[Entity]:
    """Entities with `facts` facts in all: five each, the last with what is left."""
    found = []
    while facts > 0:
        entity = next(met)
        size = min(AN_ENTITY, facts)
        chosen = tuple(world.random.sample(entity.facts, size))
        found.append(Entity(entity.name, entity.kind, entity.pronoun, chosen))
        facts -= size
    return found


def _once(facts: list[Fact]) -> frozenset[Fact]:
    """The facts about a person who is the value of no other, nobody's subject and unknown to the model."""
    taken = Counter(fact.value for fact in facts)
    subjects = {fact.subject for fact in facts}
    return frozenset(
        fact
        for fact in facts
        if relations()[fact.relation].asks_who and taken[fact.value] == 1 and fact.value not in subjects | _known()
    )


def _task(world: World, name: str, entities: list[Entity], once: Collection[Fact]) -> Task:
    paragraphs = [world.passage([entity]) for entity in entities]
    items: list[Example] = []
    probes: list[Probe] = []
    for entity, paragraph in zip(entities, paragraphs, strict=True):
        for number, fact in enumerate(entity.facts):
            items += world.items([fact])
            probes.append(Probe(world.question(fact, -1 - number % 2), (fact.value,), paragraph, fact))
            if fact in once:
                items += [Example(asked, fact.subject) for asked in _backwards(world, fact)]
                asked = world.reverse(fact, held_out=True)
                probes.append(Probe(asked, (fact.subject,), paragraph, fact, "reverse"))
    return Task(name, Document(name, "\n\n".join(paragraphs), tuple(items)), tuple(probes))


def _backwards(world: World, fact: Fact) -> list[str]:
    """The reverse question in two taught wordings."""
    first = second = world.reverse(fact)
    while second == first:
        second = world.reverse(fact)
    return [first, second]
