"""How well documents are read, and questions sent: `python benchmarks/fact_extraction.py [--stream NAME] [--json]`.

    recall, precision   of the facts that the stream states, by subject, value and date; of those that were found
    one_name            share of the histories whose relation goes by one name in all documents, as far as it was found
    routed              share of the probes that are sent to a statement with the right value, after all documents were read
    sentinels_routed    of the model's own questions, which are about nothing that was read: how many are sent anywhere
    unstated_routed     share of the questions about what nobody stated of a known subject that are sent anywhere: one relation
                        of each subject is left out of what was read, and asked about

`temporal` or `factbook`; by rules alone, and with the model. No slot is written: this is what comes before learning. `--data`
says where the real facts lie; `--facts` and `--seed` as in `accrete compare`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

from accrete.beliefs import Beliefs
from accrete.believing import Believing
from accrete.dates import asked_as_of
from accrete.evaluate.streams import Options, Task, make
from accrete.facts.router import Router
from accrete.facts.simple_sentences import Found
from accrete.facts.values import value_key
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.scoring import contains, normalise
from accrete.types import Fact, Probe


def same(value: str, probe: Probe) -> bool:
    return any(contains(value, answer) or value_key(value) == value_key(answer) for answer in probe.answers)


def measured(lm: LM, tasks: list[Task], setting: str) -> dict[str, float]:
    """The figures of one way of reading."""
    believing, beliefs = Believing(lm, setting), Beliefs()
    stated = found = right = 0
    all_facts: list[list[Found]] = []
    names: dict[tuple[str, str], set[str]] = {}
    start = time.perf_counter()
    for task in tasks:
        date = task.dates[0]
        facts = believing.found(task.document, date)
        all_facts.append(facts)
        asked = [probe for probe in task.probes if probe.fact]
        hits = {id(p): [one.fact for one in facts if _is(one.fact, p)] for p in asked}
        stated, found = stated + len(asked), found + len(facts)
        right += len({id(one) for facts_of in hits.values() for one in facts_of})
        for probe in asked:
            key = (probe.fact.subject, probe.fact.relation)
            names.setdefault(key, set()).update(normalise(one.relation) for one in hits[id(probe)])
            stated -= not hits[id(probe)]  # counted below as missed
        believe(believing, beliefs, task, facts)
    seconds = time.perf_counter() - start
    router = Router(beliefs.graph, believing.alike, nats=believing.nats)
    probes = [probe for task in tasks for probe in task.probes]
    routes = router.routes([(asked_as_of(p.question, p.as_of), None) for p in probes])
    sent = sum(
        route is not None and any(same(one.value, p) for one in route.statements)
        for route, p in zip(routes, probes, strict=True)
    )
    own = router.routes([(question, None) for question, _, _ in lm.sentinels])
    return {
        "recall": stated / len(probes),
        "precision": right / max(1, found),
        "one_name": sum(len(known) == 1 for known in names.values()) / len(names),
        "routed": sent / len(probes),
        "sentinels_routed": sum(route is not None for route in own),
        "unstated_routed": unstated_routed(believing, tasks, all_facts),
        "seconds": seconds,
    }


def believe(believing: Believing, beliefs: Beliefs, task: Task, facts: Sequence[Found]) -> None:
    """Take in what was read in a task's document."""
    read = believing.settled(beliefs.graph, facts, (), task.document, task.dates[0])
    beliefs.state_of(task.document.sha256, task.name, task.dates[0], read.stated, read.several)


def unstated_routed(believing: Believing, tasks: Sequence[Task], all_facts: Sequence[Sequence[Found]]) -> float:
    """The share of questions sent anywhere of those about one relation of each subject, which is left out of the graph."""
    draw, relations = random.Random(0), {}
    probes = [probe for task in tasks for probe in task.probes if probe.fact]
    for probe in probes:
        relations.setdefault(normalise(probe.fact.subject), {})[normalise(probe.fact.relation)] = None
    gone = {(subject, draw.choice(list(known))) for subject, known in relations.items() if len(known) > 1}
    asked = [p for p in probes if (normalise(p.fact.subject), normalise(p.fact.relation)) in gone]
    beliefs = Beliefs()
    for task, facts in zip(tasks, all_facts, strict=True):
        kept = [one for one in facts if not any(_is(one.fact, probe, dated=False) for probe in asked)]
        believe(believing, beliefs, task, kept)
    router = Router(beliefs.graph, believing.alike, nats=believing.nats)
    routes = router.routes([(asked_as_of(p.question, p.as_of), None) for p in asked])
    return sum(route is not None for route in routes) / max(1, len(asked))


def _is(fact: Fact, probe: Probe, dated: bool = True) -> bool:
    about = normalise(fact.subject) == normalise(probe.fact.subject)
    begun = not dated or (fact.valid_from or "")[:4] <= (probe.as_of or "9999")[:4]
    return about and begun and same(fact.value, probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", default="temporal", choices=("temporal", "factbook"))
    parser.add_argument("--facts", type=int, default=200)
    parser.add_argument("--lessons", type=int)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lm = load(given.model, device=given.device, offline=True)
    options = Options(lessons=given.lessons, facts=given.facts, seed=given.seed, data=given.data)
    tasks = list(make(given.stream, options).tasks)
    for setting in ("rules", "model"):
        row = {"stream": given.stream, "read_by": setting} | measured(lm, tasks, setting)
        if given.json:
            print(json.dumps(row), flush=True)
        else:
            figures = (
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print(", ".join(figures), flush=True)


if __name__ == "__main__":
    main()
