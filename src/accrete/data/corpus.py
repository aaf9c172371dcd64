"""Pretraining text from the fictional world: passages, conversations and tasks about them. Ends at strings.

Real text and real questions are `real.py`; the prompts are those of `lm/tasks.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from accrete.data.world import Entity, World, kinds, relations, sentence
from accrete.dates import spoken
from accrete.lm.tasks import (
    LIST_FACTS,
    NOT_STATED,
    RESTATE,
    REVERSE,
    WRITE_QUESTIONS,
    about,
    prompt,
    write_facts,
    write_pairs,
)
from accrete.lm.tokenizer import END_OF_TEXT, chatml
from accrete.types import Example, Fact, Probe

# How often each kind of document is drawn. Those with several questions a passage are worth the most a token.
WEIGHTS = {
    "reading": 28,
    "reading_dated": 21,
    "closed_book": 40,
    "questions": 14,
    "facts": 14,
    "facts_dated": 6,
    "reverse": 4,
    "restate": 18,
    "questions_first": 4,
    "plain": 2,
}
REDRAWN = 20  # how often a statement is drawn for one that differs from the original's


class WorldCorpus:
    """An endless, seeded stream of documents about one world with a persistent population.

    Persistent facts are asked closed-book and are what the trained model knows; fresh entities occur once and can only be
    answered by reading. Another `part` of the stream tells of the same persistent entities and of new others.
    """

    def __init__(self, seed: int = 0, entities: int = 600, part: int = 0):
        self.world = World(seed)
        self.persistent = self.world.entities(entities)
        if part:
            self.world.random.seed(f"{seed}/{part}")
        self._pairs = [(entity, fact) for entity in self.persistent for fact in entity.facts]

    def __iter__(self) -> Iterator[str]:
        makers = [getattr(self, name) for name in WEIGHTS]
        while True:
            (maker,) = self.world.random.choices(makers, weights=tuple(WEIGHTS.values()))
            yield maker()

    # --- what a document is about -------------------------------------------------------------------------------

    def entities(self, persistent: float = 0.15) -> list[Entity]:
        """One to three entities; two of one kind are the harder to tell apart, so that they are drawn often."""
        draw = self.world.random
        count = draw.choices((1, 2, 3), (55, 32, 13))[0]
        if draw.random() < persistent:
            return draw.sample(self.persistent, count)
        kind = draw.choice(kinds())
        most = {1: 7, 2: 5, 3: 3}[count]
        return [
            self.world.entity(kind if draw.random() < 0.6 else None, draw.randint(1 if count > 1 else 2, most))
            for _ in range(count)
        ]

    def passage(self, entities: Sequence[Entity]) -> str:
        """A passage whose sentences are in order, or mixed up between entities that are named in each."""
        return self.world.passage(entities, fillers=self.world.random.choice((0.0, 0.0, 0.3)))

    def history(self) -> tuple[list[Fact], list[str]]:
        """Dated facts of one entity and the sentences that say them, as intervals or as moments, between others."""
        draw, world = self.world.random, self.world
        while True:
            entity = world.entity(facts=draw.randint(3, 7))
            if any(relations()[fact.relation].changes for fact in entity.facts):
                break
        changing = [fact for fact in entity.facts if relations()[fact.relation].changes][: draw.choice((1, 1, 2, 3))]
        periods = _periods(draw, draw.randint(1, 4))
        dated = world.timeline(replace(entity, facts=tuple(changing)), periods, share=0.85)
        said = say_history(world, dated, as_moments=draw.random() < 0.5)
        steady = [fact for fact in entity.facts if fact not in changing][: draw.choice((0, 0, 1, 2))]
        said += [world.statement(fact) for fact in steady]
        if draw.random() < 0.4:
            draw.shuffle(said)
        return dated, said

    # --- documents ----------------------------------------------------------------------------------------------

    def reading(self) -> str:
        """A passage, then questions about it in one conversation, some of which it does not answer."""
        draw, entities = self.world.random, self.entities()
        facts = [fact for entity in entities for fact in entity.facts]
        turns = [(self.world.ask(fact), fact.value) for fact in draw.sample(facts, min(len(facts), draw.randint(3, 6)))]
        turns += [(self.world.reverse(fact), fact.subject) for fact in draw.sample(facts, 1) if draw.random() < 0.3]
        for entity in entities:
            if draw.random() < 0.55 and (fact := self.missing(entity)):
                turns.append((self.world.ask(fact), NOT_STATED))
        draw.shuffle(turns)
        return self._conversation(self.passage(entities), turns)

    def missing(self, entity: Entity) -> Fact | None:
        """Something of its kind that is not said of the entity."""
        said = {fact.relation for fact in entity.facts}
        left = [name for name, relation in relations().items() if relation.kind == entity.kind and name not in said]
        return Fact(entity.name, self.world.random.choice(left), "") if left else None

    def reading_dated(self) -> str:
        """A history, asked for what held when, and to be finished: "[2020] The mayor of S is"."""
        draw, world = self.world.random, self.world
        dated, said = self.history()
        turns = []
        moments = {(fact, moment_within(fact, draw)): None for fact in draw.choices(dated, k=draw.randint(3, 8))}
        for fact, date in moments:
            asked = world.complete(fact, date) if draw.random() < 0.3 else world.ask_as_of(fact, date)
            turns.append((asked, fact.value))
        if draw.random() < 0.3:
            fact = min(dated, key=lambda fact: fact.valid_from or "")
            before = str(int((fact.valid_from or "0")[:4]) - draw.randint(1, 5))
            turns.append((world.ask_as_of(fact, before), NOT_STATED))
        newest = [fact for fact in dated if fact.valid_until is None]
        if draw.random() < 0.4:
            fact = draw.choice(newest)
            turns.append((world.ask(replace(fact, valid_from=None)), fact.value))
        draw.shuffle(turns)
        return self._conversation(" ".join(said), turns)

    def _conversation(self, passage: str, turns: list[tuple[str, str]]) -> str:
        # To abstain is done when it was asked for: elsewhere an unfamiliar wording would be an excuse.
        abstains = any(answer == NOT_STATED for _, answer in turns)
        asked = about(passage, turns[0][0], instructed=abstains or self.world.random.random() < 0.35)
        return chatml([(asked, turns[0][1]), *turns[1:]])

    def closed_book(self) -> str:
        """Questions about persistent facts, with nothing to read."""
        draw = self.world.random
        turns = []
        for _, fact in draw.sample(self._pairs, draw.randint(3, 8)):
            backwards = draw.random() < 0.1 and relations()[fact.relation].asks_who
            turns.append((self.world.reverse(fact), fact.subject) if backwards else (self.world.ask(fact), fact.value))
        return chatml(turns)

    def questions(self) -> str:
        """Write questions and answers that cover a passage."""
        entities = self.entities()
        facts = [fact for entity in entities for fact in entity.facts]
        pairs = [Example(self.world.ask(fact), fact.value) for fact in facts]
        return chatml([(prompt(WRITE_QUESTIONS, self.passage(entities)), write_pairs(pairs))])

    def reverse(self) -> str:
        """Write the reverse questions of a passage."""
        entities = self.entities()
        pairs = [Example(self.world.reverse(fact), fact.subject) for entity in entities for fact in entity.facts]
        return chatml([(prompt(REVERSE, self.passage(entities)), write_pairs(pairs))])

    def facts(self) -> str:
        """List the facts of a passage."""
        entities = self.entities()
        facts = [as_listed(fact) for entity in entities for fact in entity.facts]
        return chatml([(prompt(LIST_FACTS, self.passage(entities)), write_facts(facts))])

    def facts_dated(self) -> str:
        """List the facts of a history, with the dates it states."""
        draw, world = self.world.random, self.world
        entity = world.entity(facts=draw.randint(2, 6))
        facts = []
        for fact in entity.facts:
            if relations()[fact.relation].changes:
                first, second = _periods(draw, 2)
                start, end = draw.choice(((first, None), (None, second), (first, second), (None, None)))
                fact = replace(fact, valid_from=start, valid_until=end)
            facts.append(fact)
        said = [world.moment(fact) if fact.valid_from and not fact.valid_until and draw.random() < 0.4
                else world.statement(fact) for fact in facts]  # fmt: skip
        return chatml([(prompt(LIST_FACTS, " ".join(said)), write_facts([as_listed(fact) for fact in facts]))])

    def restate(self) -> str:
        """A few sentences, each said otherwise."""
        world, turns = self.world, []
        for _ in range(world.random.randint(2, 4)):
            entity = world.entity(facts=world.random.choice((1, 1, 2, 3)))
            original = world.passage([entity])
            turns.append((prompt(RESTATE, original), restated(world, entity, original)))
        return chatml(turns)

    def questions_first(self) -> str:
        """The questions before the document that answers them, or after it: either order of persistent facts."""
        draw, world = self.world.random, self.world
        entities = draw.sample(self.persistent, draw.choice((1, 2)))
        turns = [(world.ask(fact), fact.value) for entity in entities for fact in entity.facts]
        draw.shuffle(turns)
        parts = [chatml(turns), world.passage(entities)]
        if draw.random() < 0.5:
            parts.reverse()
        return f"{END_OF_TEXT}".join(parts)

    def plain(self) -> str:
        if self.world.random.random() < 0.3:
            return " ".join(self.history()[1])
        return self.passage(self.entities(persistent=0.4))

    # --- what the trained model is measured on ------------------------------------------------------------------

    def sentinels(self) -> tuple[list[Probe], list[Probe]]:
        """400 persistent facts (a quarter in a small world) in two halves, (guard, scored): what must not be lost."""
        facts = [fact for _, fact in self._pairs]
        count = min(400, len(facts) // 4)
        chosen = random.Random(1).sample(facts, count)
        return self.world.probes(chosen[: count // 2], phrasing=0), self.world.probes(chosen[count // 2 :], phrasing=0)

    def background(self, count: int = 600) -> list[Example]:
        """Persistent facts that are no sentinels, as general material for replay and KL; at first a sixth in two wordings.

        The pairs show in which layer of a model two wordings of one question are alike (retrieval/depth.py).
        """
        kept = {probe.fact for half in self.sentinels() for probe in half}
        facts = [fact for _, fact in self._pairs if fact not in kept]
        draw = random.Random(2)
        chosen = draw.sample(facts, min(count, len(facts)))
        twice = [self.world.items([fact], draw.sample((0, 1, 2), 2)) for fact in chosen[: count // 12]]
        once = [self.world.items([fact], (draw.choice((0, 1, 2)),)) for fact in chosen[count // 12 :]]
        return [item for items in twice + once for item in items][:count]


def as_listed(fact: Fact) -> Fact:
    """As a line of facts has it: the relation by its noun, dates as they are spoken."""
    noun = relations()[fact.relation].noun
    return Fact(fact.subject, noun, fact.value, spoken(fact.valid_from) or None, spoken(fact.valid_until) or None)


def restated(world: World, entity: Entity, original: str, held_out: bool = False) -> str:
    """All facts of an entity in other words than the original's, in its order: another one says the same fact twice."""
    said: list[str] = []
    for fact in entity.facts:
        pronoun = entity.pronoun if said and world.random.random() < 0.5 else None
        drawn = (world.statement(fact, None, pronoun, held_out) for _ in range(REDRAWN))
        other = (one for one in drawn if one not in original and _predicate(one, fact, entity) not in original)
        said.append(next(other, None) or world.statement(fact, None, pronoun, held_out))
    return " ".join(said)


def _predicate(said: str, fact: Fact, entity: Entity) -> str:
    """What a sentence says after its subject."""
    for subject in (fact.subject, *entity.pronoun):
        said = said.removeprefix(sentence(subject)).removeprefix("'s")
    return said.strip(" .")


def say_history(world: World, dated: Sequence[Fact], as_moments: bool, held_out: bool = False) -> list[str]:
    """A sentence for every dated fact: the intervals, or what was seen when each began."""
    return [world.moment(fact, held_out) if as_moments else world.statement(fact, held_out=held_out) for fact in dated]


def moment_within(fact: Fact, draw: random.Random) -> str:
    """A date in the fact's half-open interval: its first in two cases of five, otherwise a year between."""
    start = fact.valid_from or ""
    first = int(start[:4])
    last = int(fact.valid_until[:4]) - 1 if fact.valid_until else first + 4
    if last <= first or draw.random() < 0.4:
        return start
    return str(draw.randint(first + 1, last))


def _periods(draw: random.Random, count: int) -> list[str]:
    """Dates in order, at least a year apart: years, and now and then months."""
    years = sorted(draw.sample(range(1985, 2025), count))
    months = draw.random() < 0.2
    return [f"{year}-{draw.randint(1, 12):02}" if months else str(year) for year in years]
