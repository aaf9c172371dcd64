"""Do slots say what they hold in wordings they never studied? `python benchmarks/slot_wordings.py [--set KEY=VALUE] [--json]`

Four short documents are learned by versioned_memory, and every statement is asked for in fifteen wordings, some of them odd.

    routed    questions that were sent to a statement (the others are answered by the base model, and not counted)
    garbled   of these, whose answer does not have the value in it
    steps     of each lesson

`--seed` is that of the method; `--set` changes its options.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from accrete import Document, Learner
from accrete.facts.statements import Statement
from accrete.scoring import contains
from accrete.settings import parse_value
from accrete.types import Query

DOCUMENTS = (
    "In 2015, the harbourmaster of Orvel is Stan Grole. In 2015, the patron saint of Orvel is Saint Idra.\n"
    "In 2015, the population of Orvel is 12,700.",
    "In 2019, the harbourmaster of Orvel is Lea Pindquist. In March 2021, the harbourmaster of Orvel is Tam Roke.\n"
    "On 14 May 2022, the population of Orvel is 13,150.",
    "# Grindle 400\n\nmanufacturer: Pask & Daughters\nprice: 59 euros\nweight: 1.7 kg",
    "In 2016, the member of the Kiln Guild is Nora Pell. In 2016, the member of the Kiln Guild is Jonas Hale.",
)
WORDINGS = (
    "What is the {r} of {x}?",
    "Who or what was the {r} of {x} during {y}?",
    "What was the {r} of {x} in February {y}?",
    "What is the {r} of {x} on 13 May {y}?",
    "Tell me {x}'s {r}, please.",
    "[{y}-06] {x}: {r}?",
    "Do you know the {r} of {x}?",
    "As things stood in {y}, what was the {r} of {x}?",
    "I forgot: {x}, {r}?",
    "{r} of {x}?",
    "Could you remind me who or what the {r} of {x} was at the end of {y}?",
    "It is {y}. Name the {r} of {x}.",
    "Please answer briefly. In {y}, what was {x}'s {r}?",
)
TYPED = (str.lower, str.upper)


def questions(one: Statement) -> list[str]:
    """A statement asked for in every wording."""
    year = (one.valid_from or "2021")[:4]
    written = [wording.format(r=one.relation, x=one.subject, y=year) for wording in WORDINGS]
    return written + [typed(written[0]) for typed in TYPED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    config = {"seed": given.seed} | {
        key: parse_value(value, key) for key, _, value in (one.partition("=") for one in given.set)
    }
    with tempfile.TemporaryDirectory() as home:
        learner = Learner(
            "embedded", method="versioned_memory", home=home, config=config, device=given.device, offline=True
        )
        start = time.perf_counter()
        steps = [learner.learn(Document(f"{n}.txt", text)).metrics["steps"] for n, text in enumerate(DOCUMENTS)]
        seconds = time.perf_counter() - start
        graph = learner.beliefs.graph
        statements = [one for subject, _ in graph.subjects() for one in graph.history(subject)]
        asked = [question for one in statements for question in questions(one)]
        routes = learner.method.routes([Query(question) for question in asked])
        sent = [(question, route) for question, route in zip(asked, routes, strict=True) if route]
        answers = learner.answer([Query(question) for question, _ in sent], max_new_tokens=24)
        garbled = [
            (question, answer.text)
            for (question, route), answer in zip(sent, answers, strict=True)
            if not any(contains(answer.text, one.subject if route.backwards else one.value) for one in route.statements)
        ]
    row = {"asked": len(asked), "routed": len(sent), "garbled": len(garbled), "steps": steps, "seconds": seconds}
    if given.json:
        print(json.dumps(row | {"examples": garbled}))
        return
    print(
        ", ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    )
    for question, text in garbled:
        print(f"  {question} -> {text}")


if __name__ == "__main__":
    main()
