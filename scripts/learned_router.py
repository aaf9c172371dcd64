"""Does a router that is trained from the graph send questions better than the lookup? `python scripts/learned_router.py`

The graph holds the facts of Synthetic TemporalWiki with the plain questions that each answers; probes are in wordings that it
has not. The lookup compares states of the model as they are (lm/alike.py). The learned one compares W e: a square matrix, the
identity at first, taught that questions of one relation, about whatever subject and in whatever wording the graph has, are
alike and those of other relations are not (InfoNCE, 1807.03748). Relations that are held out say when to stop.

    routed      share of the probes sent to a statement with the right value
    sentinels   of the model's own questions, which are about nothing known: how many are sent anywhere

Ends at one line a router.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from accrete.dates import asked_as_of
from accrete.evaluate.streams import Options, make
from accrete.facts.graph import FactGraph
from accrete.facts.questions import plain_questions
from accrete.facts.router import Router, is_backwards
from accrete.facts.values import value_key
from accrete.lm.alike import Alike
from accrete.lm.load import load
from accrete.scoring import contains, normalise
from accrete.types import Probe

TEMPERATURE, RATE, STEPS, EVERY, BATCH = 0.1, 1e-3, 600, 20, 256
Alikeness = Callable[[Sequence[tuple[str, str]]], Sequence[float]]


def known(probes: Sequence[Probe]) -> FactGraph:
    """What the probes ask about, as statements with their plain questions."""
    graph = FactGraph()
    with graph.transaction():
        for fact in dict.fromkeys(probe.fact for probe in probes if probe.fact):
            added = graph.add(fact)
            for item in plain_questions(fact):
                graph.add_question(added.id, item.question, item.answer)
    return graph


def supervision(graph: FactGraph) -> list[tuple[str, str]]:
    """(relation, question) of all that the graph knows; asked backwards is another relation."""
    found = []
    for subject, _ in graph.subjects():
        for one in graph.history(subject):
            for asked in graph.questions_of([one.id]):
                way = " backwards" if is_backwards(one, asked) else ""
                found.append((normalise(one.relation) + way, asked.question))
    return found


def embedded(alike: Alike, questions: Sequence[str]) -> Tensor:
    """[Q, D], of length one."""
    alike([(one, one) for one in questions])
    return torch.stack([alike._states[one] for one in questions])


def contrast(w_DD: Tensor, states_QD: Tensor, relation_Q: Tensor) -> Tensor:
    """InfoNCE: every other question of its relation against all that are not."""
    e_QD = functional.normalize(states_QD @ w_DD.T, dim=-1)
    scores_QQ = (e_QD @ e_QD.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    same_QQ = (relation_Q[:, None] == relation_Q[None, :]).fill_diagonal_(False)
    has_Q = same_QQ.any(1)
    positive_Q = torch.logsumexp(scores_QQ.masked_fill(~same_QQ, -torch.inf), 1)
    return (torch.logsumexp(scores_QQ, 1) - positive_Q)[has_Q].mean()


def trained(states_QD: Tensor, relations: Sequence[str], seed: int = 0) -> tuple[Tensor, float, float]:
    """W at its best on the relations held out, and the loss there before and after."""
    generator = torch.Generator().manual_seed(seed)
    names = sorted(set(relations))
    order = torch.randperm(len(names), generator=generator).tolist()
    held = {names[i] for i in order[: len(names) // 5]}
    relation_Q = torch.tensor([names.index(one) for one in relations])
    out_Q = torch.tensor([one in held for one in relations])
    w_DD = torch.eye(states_QD.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([w_DD], lr=RATE, weight_decay=0.0)
    checked = torch.nonzero(out_Q).flatten()[:2_000]
    taught = torch.nonzero(~out_Q).flatten()
    best_DD, first = w_DD.detach().clone(), None
    best = torch.inf
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                loss = float(contrast(w_DD, states_QD[checked], relation_Q[checked]))
            first = loss if first is None else first
            if loss < best:
                best, best_DD = loss, w_DD.detach().clone()
        rows = taught[torch.randint(len(taught), (BATCH,), generator=generator)]
        optimizer.zero_grad()
        contrast(w_DD, states_QD[rows], relation_Q[rows]).backward()
        optimizer.step()
    return best_DD, float(first or 0.0), best


def through(alike: Alike, w_DD: Tensor) -> Alikeness:
    """Likeness of W e, and of e beside it."""

    def learned(pairs: Sequence[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        asked = list(dict.fromkeys(question for pair in pairs for question in pair))
        e_QD = functional.normalize(embedded(alike, asked) @ w_DD.T, dim=-1)
        place = {question: row for row, question in enumerate(asked)}
        one, other = ([place[pair[side]] for pair in pairs] for side in (0, 1))
        return [float(found) for found in (e_QD[one] * e_QD[other]).sum(-1)]

    return learned


def both(one: Alikeness, other: Alikeness) -> Alikeness:
    return lambda pairs: [(a + b) / 2 for a, b in zip(one(pairs), other(pairs), strict=True)]


def measured(graph: FactGraph, alike: Alikeness, probes: Sequence[Probe], sentinels: Sequence[str]) -> dict[str, float]:
    router = Router(graph, alike)
    routes = router.routes([(asked_as_of(probe.question, probe.as_of), None) for probe in probes])
    right = sum(
        route is not None
        and any(
            contains(s.value, a) or value_key(s.value) == value_key(a) for s in route.statements for a in probe.answers
        )
        for route, probe in zip(routes, probes, strict=True)
    )
    sent = router.routes([(question, None) for question in sentinels])
    return {"routed": right / len(probes), "sentinels": sum(route is not None for route in sent)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lm = load(given.model, offline=True)
    probes = [p for task in make("temporal", Options(facts=given.facts, seed=given.seed)).tasks for p in task.probes]
    graph = known(probes)
    alike = Alike(lm, lm.layers * 5 // 8, [question for question, _ in lm.background[:128]])
    relations, questions = zip(*dict.fromkeys(supervision(graph)), strict=True)
    w_DD, before, after = trained(embedded(alike, questions), relations)
    learned = through(alike, w_DD)
    sentinels = [question for question, _, _ in lm.sentinels]
    for name, way in (("lookup", alike), ("learned", learned), ("both", both(alike, learned))):
        row = {"router": name, "probes": len(probes)} | measured(graph, way, probes, sentinels)
        row |= {"held_out_loss_before": before, "held_out_loss_after": after} if name == "learned" else {}
        if given.json:
            print(json.dumps(row), flush=True)
        else:
            figures = (
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print(", ".join(figures), flush=True)


if __name__ == "__main__":
    main()
