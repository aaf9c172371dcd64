"""What a model is asked to do besides answering: the prompts, and how their answers are written and read. No torch.

One place for them all: pretraining teaches them, `evaluate-base` measures them, dreams and fact extraction use them. They
are ordinary sentences, so that a larger model that never saw them follows them as well. A prompt is the instruction, an
empty line, the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accrete.types import Example, Fact

NOT_STATED = "not stated"
ANSWER = f'Answer the question from the passage. If the passage does not say, answer "{NOT_STATED}".'
CONTINUE = "Continue this text."
WRITE_QUESTIONS = (
    "Write questions and answers about this passage that cover all of its facts, each as a line Q: and a line A:."
)
REVERSE = (
    "Write reverse questions about this passage, which ask for who or what a fact is about, "
    "each as a line Q: and a line A:."
)
RESTATE = "Say this in other words and keep every fact."
LIST_FACTS = "List the facts of this passage, one a line: subject | relation | value | from | until."
NOTHING = "-"  # a date that a fact does not have


def prompt(task: str, text: str) -> str:
    """What the user says."""
    return f"{task}\n\n{text}"


def about(passage: str, question: str, instructed: bool = False) -> str:
    """A question about a passage, with or without saying what to do when the passage is silent."""
    return f"{ANSWER}\n\n{passage}\n\n{question}" if instructed else f"{passage}\n\n{question}"


def write_pairs(pairs: Iterable[Example]) -> str:
    """Questions and answers as lines."""
    return "\n".join(f"Q: {pair.question}\nA: {pair.answer}" for pair in pairs)


def read_pairs(text: str) -> list[Example]:
    """The complete pairs of what a model wrote; anything else in it is passed over."""
    pairs: list[Example] = []
    question = ""
    for line in text.splitlines():
        mark, _, rest = line.strip().partition(":")
        rest = rest.strip()
        if mark.strip().lower() in ("q", "question"):
            question = rest
        elif mark.strip().lower() in ("a", "answer") and question:
            if rest:
                pairs.append(Example(question, rest))
            question = ""
    return pairs


def write_facts(facts: Sequence[Fact]) -> str:
    """Facts as lines of five fields; their dates as they stand there."""
    return "\n".join(
        " | ".join((fact.subject, fact.relation, fact.value, fact.valid_from or NOTHING, fact.valid_until or NOTHING))
        for fact in facts
    )


def read_facts(text: str) -> list[Fact]:
    """The facts of what a model wrote, a line of three to five fields each; other lines are passed over."""
    facts: list[Fact] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if not 3 <= len(fields) <= 5 or not all(fields[:3]):
            continue
        start, end = (field if field not in ("", NOTHING) else None for field in (*fields[3:], "", "")[:2])
        facts.append(Fact(fields[0], fields[1], fields[2], start, end))
    return facts
