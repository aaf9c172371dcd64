"""Questions in other words look at the same slots, other questions elsewhere. Ends at queries, keys and what is listened to.

What is read at b of what was written at a is K(a, b) = sum over the slots of weight at a * weight at b. A lesson wants
K(a, b) = 1 where b is a in other words, and 0 where it is another question: else lessons meet, and forget each other. So, from
what the questions about some fictional entities look with (the model is run once, and its values kept):

    c = sum of softmax(listen . v) v     (lm/heard.py): `listen` is trained with the queries, from 0, which is a plain mean
    u = W_q [x, c] + b                   trained by InfoNCE (1807.03748): of two wordings u is alike, of other questions and of
                                         general ones it is not, in cosine, with a temperature that is learned;
                                         + align * (1 - cosine) of the two (2005.10242): InfoNCE alone is content with nearer
    half keys = sampled half queries     so that they lie where queries do, and use is even without being asked for
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.adapters.memory_layer import MemoryAdapter
from accrete.adapters.product_keys import looking_with
from accrete.data.world import Entity, World, relations
from accrete.lm import batch
from accrete.lm.heard import WINDOW, heard
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.memory_retrofit.options import Options
from accrete.types import Fact

WORLDS = 2_000_000  # the first seed of the worlds that are asked about: no evaluation draws from these
SHARPNESS = 2.5  # log of what cosines are multiplied with, at first
GENERAL_QUESTIONS = 600
POSITIONS = 64  # of an answer that are told apart
YEARS, APART = (2005, 2026), 3  # of the first of two dates; the second is at most so many later
COMPLETED = 0.2  # of dated questions are sentences to finish


@dataclass(frozen=True)
class Looks:
    """What the tokens that predict answers look with, by layer, and for each of which entity and question it is.

    Their states are [N, D]; the values [A, C] are of all tokens, one text after the other: a token hears of the last `reach`
    up to its own place `at`.
    """

    states: dict[int, Tensor]
    values: dict[int, Tensor]
    at_N: Tensor
    reach_N: Tensor
    entity_N: Tensor
    question_N: Tensor  # and which token of its answer: alike for the wordings of one question

    def z(self, layer: int, of_N: Tensor, listen_C: Tensor | None = None) -> Tensor:
        """[N, Q]: what these tokens look with there."""
        states_ND = self.states[layer][of_N]
        if layer not in self.values:
            return looking_with(states_ND, None)
        back_K = torch.arange(WINDOW, device=self.at_N.device)
        values_NKC = self.values[layer][(self.at_N[of_N, None] - back_K).clamp(min=0)].float()
        near_N1K = (back_K < self.reach_N[of_N, None])[:, None]
        return looking_with(states_ND, heard(values_NKC, near_N1K, listen_C)[:, 0])


def asked(world: World, entities: int, wordings: int, dated: int = 0) -> list[tuple[int, list[tuple[str, str]]]]:
    """For every question about some new entities, also backwards, whose it is and the question in some wordings, answered.

    At most `dated` of each entity's are about what held at one of two near dates: another date is another question.
    """
    found: list[tuple[int, list[tuple[str, str]]]] = []
    for number in range(entities):
        entity = world.entity()
        ways: list[tuple[Callable[[], str], str]] = []
        for fact in entity.facts:
            ways.append((functools.partial(world.ask, fact), fact.value))
            if relations()[fact.relation].asks_who:
                ways.append((functools.partial(world.reverse, fact), fact.subject))
        for fact in _at_two_dates(world, entity)[:dated]:
            ways.append((functools.partial(_asked_as_of, world, fact), fact.value))
        for ask, answer in ways:
            said = list(dict.fromkeys(ask() for _ in range(2 * wordings + 2)))[:wordings]
            found.append((number, [(question, answer) for question in said]))
    return found


def _at_two_dates(world: World, entity: Entity) -> list[Fact]:
    first = world.random.randint(*YEARS)
    return world.timeline(entity, [first, first + world.random.randint(1, APART)], share=1.0)


def _asked_as_of(world: World, fact: Fact) -> str:
    assert fact.valid_from is not None
    ask = world.complete if world.random.random() < COMPLETED else world.ask_as_of
    return ask(fact, fact.valid_from)


def looks(lm: LM, adapter: MemoryAdapter, questions: Sequence[tuple[int, list[tuple[str, str]]]]) -> Looks:
    """Run the model once over all wordings."""
    rows = [
        (entity, number, study_sequence(lm, *wording))
        for number, (entity, wordings) in enumerate(questions)
        for wording in wordings
    ]
    rows.sort(key=lambda row: len(row[2].ids))
    states: dict[int, list[Tensor]] = {i: [] for i in adapter.memories}
    values: dict[int, list[Tensor]] = {i: [] for i, memory in adapter.memories.items() if memory.hearing}
    at, reach, entities, groups, before = [], [], [], [], 0
    for start in range(0, len(rows), 32):
        part = batch.collate([sequence for *_, sequence in rows[start : start + 32]], lm.device, lm.pad)
        real_T, predicts_T = part.mask_BT.flatten().bool(), part.predicting_BT.flatten()
        for i, z_TQ in adapter.looking_with(part).items():
            states[i].append(z_TQ[predicts_T, : lm.model.config.hidden_size].half())
            if hearing := adapter.memories[i].hearing:
                values[i].append(hearing.listening()[0].flatten(0, 1)[real_T].half())
        at.append(before + real_T.cumsum(0)[predicts_T] - 1)
        reach.append(part.mask_BT.cumsum(1).flatten()[predicts_T].clamp(max=WINDOW))
        before += int(real_T.sum())
        for (entity, number, _), count in zip(
            rows[start : start + 32], part.predicting_BT.sum(1).tolist(), strict=True
        ):
            entities += [entity] * count
            groups += [number * POSITIONS + min(place, POSITIONS - 1) for place in range(count)]
    return Looks(
        {i: torch.cat(parts) for i, parts in states.items()},
        {i: torch.cat(parts) for i, parts in values.items()},
        torch.cat(at),
        torch.cat(reach),
        torch.tensor(entities),
        torch.tensor(groups),
    )


def pairs(group_N: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two drawn members of every group that has two: where they are, [P] and [P]."""
    order_N = torch.randperm(len(group_N), generator=generator)
    order_N = order_N[group_N[order_N].argsort(stable=True)]
    same_N = group_N[order_N][1:] == group_N[order_N][:-1]
    first_N = torch.ones(len(same_N), dtype=torch.bool)
    first_N[1:] = ~same_N[:-1]
    chosen_P = torch.nonzero(same_N & first_N).flatten()
    return order_N[chosen_P], order_N[chosen_P + 1]


class Wordings:
    """The queries of every memory of one model, and what improves them."""

    data = ""  # the seed says which worlds

    def __init__(self, lm: LM, options: Options):
        self.lm, self.options = lm, options
        self.adapter = MemoryAdapter(lm, options.shape(), options.layers, hears=True, seed=options.seed)
        world = World(WORLDS + options.seed)
        self.looks = looks(lm, self.adapter, asked(world, options.entities, options.wordings, options.dated))
        general = [(0, [row]) for row in lm.background[:GENERAL_QUESTIONS]]
        self.general = looks(lm, self.adapter, general) if general and options.general else None
        self.of_entity = [torch.nonzero(self.looks.entity_N == entity).flatten() for entity in range(options.entities)]
        self.maps: dict[int, nn.ParameterList] = {}
        for i, memory in self.adapter.memories.items():
            queries, offset = memory.product_keys.queries.clone(), memory.product_keys.offset.clone()
            listen_C = torch.zeros(queries.shape[1] - lm.model.config.hidden_size, device=lm.device)
            self.maps[i] = nn.ParameterList([queries, offset, torch.tensor(SHARPNESS, device=lm.device), listen_C])
        groups = [
            ([p for own in self.maps.values() for p in own[:3]], options.rate),
            ([own[3] for own in self.maps.values()], options.listen_rate),
        ]
        self.optimizer = torch.optim.Adam([{"params": parameters, "lr": rate} for parameters, rate in groups])

    def step(self, number: int) -> float:
        o, chance = self.options, random.Random(f"{self.options.seed} {number}")
        generator = torch.Generator().manual_seed(chance.randrange(2**60))
        entities = chance.sample(range(o.entities), min(o.at_once, o.entities))
        rows_N = torch.cat([self.of_entity[entity] for entity in entities])
        one_P, other_P = (rows_N[places] for places in pairs(self.looks.question_N[rows_N], generator))
        loss = torch.stack([self._loss(i, one_P, other_P, generator) for i in self.maps]).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _loss(self, i: int, one_P: Tensor, other_P: Tensor, generator: torch.Generator) -> Tensor:
        """Of layer `i`: each of the pairs finds the other among all of them and general questions, and comes near it."""
        queries, offset, sharpness, listen_C = self.maps[i]
        parts = [self.looks.z(i, of_P, listen_C) for of_P in (one_P, other_P)]
        if self.general:
            parts.append(self.general.z(i, _drawn(self.general, self.options.general, generator), listen_C))
        u_NU = functional.normalize(functional.linear(torch.cat(parts), queries, offset), dim=-1)
        count, place_N = len(one_P), torch.arange(2 * len(one_P), device=u_NU.device)
        alike_NN = u_NU[: 2 * count] @ u_NU.T * sharpness.exp()
        alike_NN[place_N, place_N] = -torch.inf
        apart = 1 - (u_NU[:count] * u_NU[count : 2 * count]).sum(-1).mean()
        return functional.cross_entropy(alike_NN, (place_N + count) % (2 * count)) + self.options.align * apart

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for i, (queries, offset, _, listen_C) in self.maps.items():
            keys = self._half_keys(i, queries, offset, listen_C)
            made |= {f"{i}/queries": queries, f"{i}/offset": offset, f"{i}/keys": keys, f"{i}/listen": listen_C}
        return {name: t.detach().bfloat16().cpu().contiguous() for name, t in made.items()}

    def _half_keys(self, i: int, queries: Tensor, offset: Tensor, listen_C: Tensor) -> Tensor:
        """[H, 2, n, W] sampled from the half queries of questions, and of general ones for a third of them."""
        shape = self.options.shape()
        count, width = math.isqrt(shape.slots), shape.key_width // 2
        generator = torch.Generator().manual_seed(self.options.seed + i)
        parts = [self.looks.z(i, _drawn(self.looks, 4 * count, generator), listen_C)]
        if self.general:
            parts.append(self.general.z(i, _drawn(self.general, 2 * count, generator), listen_C))
        q_NHW = functional.linear(torch.cat(parts), queries, offset).view(-1, shape.heads, shape.key_width)
        q_NHPW = functional.layer_norm(q_NHW, (shape.key_width,)).view(-1, shape.heads, 2, width)
        drawn = [
            [q_NHPW[torch.randperm(len(q_NHPW), generator=generator)[:count], h, half] for half in range(2)]
            for h in range(shape.heads)
        ]
        return torch.stack([torch.stack(halves) for halves in drawn]) * (self.options.sharpness / width)

    def remove(self) -> None:
        self.adapter.remove()


def _drawn(looks: Looks, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(len(looks.at_N), (count,), generator=generator)
