"""The plain questions that a fact answers, forwards and backwards. Ends at study items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accrete.dates import spoken
from accrete.retrieval.words import STOP_WORDS, words
from accrete.scoring import normalise
from accrete.types import Example, Fact

AS_ASKED = "asked"  # the relation of a fact that is no more than a question and its answer

MORE = 2  # words that may stand beside a short name in an answer that says no more than it

FRAMES = (  # in which somebody may put a question
    "In {year}, {question}",
    "On 3 May {year}, {question}",
    "[{year}] {question}",
    "{question} (in {year})",
    "{question} I need it for a form.",
    "Somebody wants to know: {question}",
    "Quick question, {question}",
    "In the year {year}, {question} Say it in a few words.",
)


def framed(question: str, frame: str, year: int) -> str:
    """A question in a frame; in the midst of a sentence it begins with a small letter."""
    within = not frame.startswith(("{", "["))
    return frame.format(question=question[:1].lower() + question[1:] if within else question, year=year)


def plain_questions(fact: Fact) -> list[Example]:
    """What is asked of any relation: its value, with and without a date, and backwards, whose value it is."""
    if normalise(fact.relation) == AS_ASKED:
        return [Example(fact.subject, fact.value)]
    of, date = f"the {fact.relation} of {fact.subject}", spoken(fact.valid_from)
    forwards = (
        f"What is {of}?",
        (f"[{date}] " if date else "") + f"{of[:1].upper()}{of[1:]} is",
        f"Name {of}.",
        (f"As of {date}, give" if date else "Give") + f" {fact.subject}'s {fact.relation}.",
    )
    backwards = f"Of what or whom is {fact.value} the {fact.relation}?", f"{fact.value} is the {fact.relation} of"
    return [Example(one, fact.value) for one in forwards] + [Example(one, fact.subject) for one in backwards]


def answered(facts: Sequence[Fact], items: Iterable[Example]) -> tuple[list[list[Example]], list[Example]]:
    """For every fact the items that it answers, forwards or backwards, and the items that none does.

    An answer that says much more than the fact is not answered by it.
    """
    of_fact: list[list[Example]] = [[] for _ in facts]
    rest = []
    keys = [(_padded(fact.subject), _padded(fact.value)) for fact in facts]
    for item in items:
        asked, said = _padded(item.question), _padded(item.answer)
        found = [
            place
            for place, (subject, value) in enumerate(keys)
            if (value in said and subject in asked and not _says_more(item, value))
            or (subject in said and value in asked and not _says_more(item, subject))
        ]
        for place in found[:1]:
            of_fact[place].append(item)
        if not found:
            rest.append(item)
    return of_fact, rest


def _says_more(item: Example, name: str) -> bool:
    """Whether an answer has more words besides a name than it has in it, but for those of the question."""
    known = {*words(item.question), *words(name), *STOP_WORDS}
    return len(set(words(item.answer)) - known) > max(MORE, len(name.split()))


def _padded(text: str) -> str:
    return f" {normalise(text)} "
