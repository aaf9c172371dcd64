"""Which statements a question is about, and as of when: by names and words, and by how alike questions are. No torch.

    date        said beside the question (`as_of`), or in it (dates.py: "As of 2018", "[2018]", "last year", "between 2017 and
                2019"); else today
    candidates  questions that statements answer: about what the question names, backwards ones of a value that it names, and
                where it names nothing that is known, those that share its words
    choice      the candidate that is asked most alike, or in the words of its relation, if it is alike enough; of its history
            what held at the date

A question that is like no other, or that no statement answers, is routed nowhere: the base model answers. One that asks when
or how many is answered by a date or a number alone. Ends at statements.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accrete.dates import MONTH, NUMBERS, asked_at, undated
from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED
from accrete.facts.statements import Asked, Named, Statement
from accrete.facts.values import value_key
from accrete.retrieval.words import STOP_WORDS, telling, words
from accrete.scoring import normalise

WORDS = 0.5  # what it counts beside likeness that a question has the words of a known one, names left out
WHOLE = 0.5  # and that it has all of them
NESTED = 0.3  # and against it that its name may be a part of another
NAMED = 3  # what the word of a name counts where a question names nothing that is known,
SHARED = 0.75  # and the share of the words of a known question that it then must have
TRIED = 4  # histories, at most, whose statements are read before a question
READ = 0.5  # what a nat counts against a candidate that its value costs more than after the known question
ROLE = 0.6  # the score that a candidate must have where a question names what it asks for, and it is called otherwise
STEM, ENDING = 7, 2  # letters, at least, that words of one stem have in common, and that at most come after these
CLEAR, AHEAD = 0.9, 0.5  # the score from which a candidate need not be read, and how far it is then before another
_ORDER = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_THE_FIRST = re.compile(rf"(?i)\b({'|'.join(_ORDER)}|earliest|original) (\w+)")
_ROLE = re.compile(  # "the owner of the Mill", "the Mill's owner", its name being "_"
    r"(?i)\bthe (\w+(?: \w+){0,4}) of (?:the )?_|_['’]s (\w+(?: \w+){0,3})\W*$"
)
_THE_PREVIOUS = re.compile(r"(?i)\b(previous|former|preceding|predecessor)\b")
_NEXT_TO = re.compile(  # "Who was the mayor of Tolvane before Bo Lind?", "the predecessor of Bo Lind"
    r"(?i)\b(?:(?P<before>before|predecessor of)|after|successor of) (?P<name>.+?)\W*$"
)
_OF_A_FIGURE = re.compile(  # "When did Ada become mayor?", "how many ships"
    r"(?i)(?:^|[,:] )(?:(?:since|until|till|from) when|when|how (?:many|much)|(?:in|at|since|until) (?:what|which)"
    r" (?:year|month|date|time|century|decade))\b[^,:]*$"
)
_FIGURE = re.compile(rf"(?i)\d|\b(?:{NUMBERS}|{MONTH})\b")
Alike = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""How alike two questions are asked, from -1 to 1, of many pairs: what they ask, not of whom."""
Nats = Callable[[Sequence[tuple[str, str, str]]], Sequence[float]]
"""Of many (question, text, answer) the nats per token that the answer costs after both."""


@dataclass(frozen=True)
class Route:
    """The statements that answer a question, the known question that it is like, its score, and the date or time.

    The score is how alike the two are asked, and what the words of the relation count beside it: up to 2.
    """

    statements: tuple[Statement, ...]
    question: str
    alike: float
    date: str
    backwards: bool  # it asks for the subject, and names the value


class Candidate(NamedTuple):
    """A known question, the statement that answers it, and the score that it must have.

    `nested` where a longer name stands around its own.
    """

    statement: Statement
    asked: Asked
    least: float
    nested: bool = False


class Scored(NamedTuple):
    """The score of a candidate (see `Route`), and the nats that reading it speaks against it."""

    alike: float
    candidate: Candidate
    excess: float = 0.0


class Router:
    """`certain` is how alike a question must be to one about the same name, `very` to one that shares words alone.

    `nats` reads statements before a question; without it what is asked most alike is taken. `sure` is how many nats a value
    may cost more than after the question that is known.
    """

    def __init__(
        self,
        graph: FactGraph,
        alike: Alike,
        certain: float = 0.25,
        very: float = 0.9,
        nats: Nats | None = None,
        sure: float = 0.2,
    ):
        self.graph, self.alike, self.certain, self.very, self.nats, self.sure = graph, alike, certain, very, nats, sure

    def routes(
        self, questions: Sequence[tuple[str, str | None]], today: datetime.date | None = None
    ) -> list[Route | None]:
        """Of each (question, as_of) the route; None where nothing is known about it."""
        now = (today or datetime.date.today()).isoformat()
        chosen = self._chosen(questions, today)
        return [self._route(plain, best, date, now) if best else None for plain, best, date in chosen]

    def of_another_time(
        self, question: str, as_of: str | None = None, today: datetime.date | None = None
    ) -> Statement | None:
        """Of a question that is sent nowhere because nothing held then: the last that held before, else the first after."""
        ((_, best, date),) = self._chosen([(question, as_of)], today)
        if best is None or is_backwards(best.candidate.statement, best.candidate.asked):
            return None
        asked = (date or (today or datetime.date.today()).isoformat()).partition("/")[0]
        held = self._that_held(best.candidate.statement)
        before = [one for one in held if (one.valid_from or "") <= asked]
        return next(iter(before[-1:] or held), None)

    def _chosen(
        self, questions: Sequence[tuple[str, str | None]], today: datetime.date | None
    ) -> list[tuple[str, Scored | None, str | None]]:
        """Of each question its words without the date, what it is taken for, and the date."""
        dates = [self._date(question, as_of, today) for question, as_of in questions]
        plain = [undated(question, date) for (question, _), date in zip(questions, dates, strict=True)]
        candidates = [self._candidates(question) for question in plain]
        pairs = [(q, one.asked.question) for q, found in zip(plain, candidates, strict=True) for one in found]
        alike = iter(self.alike(pairs))
        ranked: list[list[Scored]] = []
        for question, found in zip(plain, candidates, strict=True):
            said = set(words(question))
            heard = [Scored(next(alike) + _worded(one, said) - NESTED * one.nested, one) for one in found]
            ranked.append(_best_of_each(one for one in heard if one.alike >= one.candidate.least))
        chosen = []
        for question, scored in zip(plain, self._read(plain, ranked), strict=True):
            best = max(scored, default=None, key=lambda one: one.alike - READ * one.excess)
            otherwise = best and best.alike < ROLE and _calls_it_otherwise(question, best.candidate.statement)
            doubtful = best and best.alike < CLEAR and best.excess > self.sure
            chosen.append(None if otherwise or doubtful else best)
        return list(zip(plain, chosen, dates, strict=True))

    def _read(self, questions: Sequence[str], ranked: Sequence[list[Scored]]) -> list[list[Scored]]:
        """Each with what its value costs more after the question, both after its statement, than after the known question."""
        if self.nats is None:
            return list(ranked)
        doubted = [[] if _is_clear(found) else found[:TRIED] for found in ranked]
        rows = [
            (asked, one.candidate.statement.sentence, one.candidate.asked.answer)
            for question, found in zip(questions, doubted, strict=True)
            for one in found
            for asked in (question, one.candidate.asked.question)
        ]
        nats = iter(self.nats(rows))
        read = [[one._replace(excess=max(0.0, next(nats) - next(nats))) for one in found] for found in doubted]
        return [new or old for new, old in zip(read, ranked, strict=True)]

    def _date(self, question: str, as_of: str | None, today: datetime.date | None) -> str | None:
        """The date that a question is about: its own, which may be given more closely; a year in a known name is none."""
        about, valued = self.graph.named_in(question)
        names = [one.statement.subject for one in about] + [one.statement.value for one in valued]
        for name in sorted(names, key=len, reverse=True):
            if re.search(r"\d{4}", name) and not re.fullmatch(r"[\d-]+", value_key(name)):
                question = re.sub(re.escape(name), " ", question, flags=re.IGNORECASE)
        own = asked_at(question, today)
        return as_of if own is None or (as_of and as_of.startswith(own)) else own

    def _candidates(self, question: str) -> list[Candidate]:
        """Known questions that it may be, with what answers them."""
        about, valued = self.graph.named_in(question)
        figure = bool(_OF_A_FIGURE.search(question))
        forwards = [one for one in self._asked(about, figure) if not is_backwards(one.statement, one.asked)]
        backwards = [one for one in self._asked(valued, figure) if is_backwards(one.statement, one.asked)]
        known = (about and figure) or forwards or backwards
        only = AS_ASKED if known else None  # beside what is known by name, what is no more than a question
        asked = telling(question)
        like = [one for one in self.graph.asked_like(list(asked), only) if _shared(telling(one.question), asked)]
        return forwards + backwards + [Candidate(self.graph[one.fact], one, self.very) for one in like]

    def _asked(self, named: Iterable[Named], figure: bool) -> list[Candidate]:
        """The questions that these statements answer, of a figure alone those that are answered by one."""
        known = {one.statement.id: one for one in named}
        asked = self.graph.questions_of(known)
        found = [Candidate(known[one.fact].statement, one, self.certain, known[one.fact].nested) for one in asked]
        return [
            one for one in found if not figure or one.statement.relation == AS_ASKED or _FIGURE.search(one.asked.answer)
        ]

    def _route(self, question: str, best: Scored, date: str | None, now: str) -> Route | None:
        one, asked, *_ = best.candidate
        backwards = is_backwards(one, asked)
        if (beside := self._next_to(question, one)) is not None:
            held, backwards = beside, False
        elif backwards:
            # all subjects that have this value; without a date, where none has it any more, the one that had
            held = self.graph.at(date or now, None, one.relation, one.value) or [one] * (date is None)
        else:
            held = self._in_order(question, one, self.graph.at(date or now, one.subject, one.relation), date or now)
        return Route(tuple(held), asked.question, best.alike, date or now, backwards) if held else None

    def _next_to(self, question: str, one: Statement) -> list[Statement] | None:
        """The term before or after a value that a question names so; None where it does not."""
        said = _NEXT_TO.search(question)
        if said is None:
            return None
        terms = [
            list(same) for _, same in itertools.groupby(self._that_held(one), key=lambda other: value_key(other.value))
        ]
        named = [place for place, same in enumerate(terms) if value_key(same[0].value) == value_key(said["name"])]
        if not named:
            return None
        place = named[0] - 1 if said["before"] else named[-1] + 1
        return terms[place][-1:] if 0 <= place < len(terms) else []

    def _in_order(self, question: str, one: Statement, held: list[Statement], at: str) -> list[Statement]:
        """What held at a date, or where a question asks for it what was there before it, or first: "the previous mayor"."""
        numbered, previous = (pattern.search(question) for pattern in (_THE_FIRST, _THE_PREVIOUS))
        relation = words(one.relation)
        if numbered and numbered[2].lower() in relation and numbered[1].lower() not in relation:
            place = _ORDER.index(numbered[1].lower()) if numbered[1].lower() in _ORDER else 0
            terms = itertools.groupby(self._that_held(one), key=lambda other: value_key(other.value))
            return [next(same) for _, same in terms][place : place + 1]
        if previous and previous[1].lower() not in relation:
            since = min((other.valid_from or "" for other in held), default=at.partition("/")[0])
            values = {value_key(other.value) for other in held}
            before = [other for other in self._that_held(one) if (other.valid_from or "") < since]
            others = [other for other in before if value_key(other.value) not in values]
            if others and others[-1].since is None:
                return others[-1:]  # who ended with it was there before it
            return [other for other in others if other.valid_until == others[-1].valid_until]
        return held

    def _that_held(self, one: Statement) -> list[Statement]:
        """Its history, without what never was: superseded on the day that it began."""
        history = self.graph.history(one.subject, one.relation)
        return [other for other in history if other.valid_until is None or (other.valid_from or "") < other.valid_until]


def _worded(candidate: Candidate, said: set[str]) -> float:
    """What counts beside likeness: the share of the words of what is asked for that a question has, and having all of them.

    "captain" of "who captains it"; who asks in the very words of a relation asks for it, however strange it is to the model.
    """
    one = candidate.statement
    names = {*STOP_WORDS, *(words(f"{one.subject} {one.value}") if one.relation != AS_ASKED else ())}
    asked = [word for word in words(candidate.asked.question) if word not in names and not word.isdigit()]
    share = sum(any(_akin(word, other) for other in said) for word in asked) / max(1, len(asked))
    return WORDS * share + WHOLE * (share == 1)


def _akin(one: str, other: str) -> bool:
    """Whether two words are one but for their endings: "independence" and "independent"."""
    stem = max(STEM, max(len(one), len(other)) - ENDING)
    return one[:stem] == other[:stem]


def _calls_it_otherwise(question: str, one: Statement) -> bool:
    """Whether a question names what it asks for, "the owner of ...", and not in words of this statement's relation."""
    name = re.sub(r"(?i)^the ", "", one.subject)
    role = _ROLE.search(re.sub(re.escape(name), "_", question, flags=re.IGNORECASE))
    return role is not None and not ({*words(role[1] or role[2])} - STOP_WORDS) & {*words(one.relation)}


def _best_of_each(scored: Iterable[Scored]) -> list[Scored]:
    """The best of each history, and of each value that is asked backwards; the best first."""
    best: dict[tuple[str, ...], Scored] = {}
    for one in scored:
        statement, asked, *_ = one.candidate
        key = normalise(statement.subject), normalise(statement.relation), "value" * is_backwards(statement, asked)
        if key not in best or one.alike > best[key].alike:
            best[key] = one
    return sorted(best.values(), key=lambda one: -one.alike)


def _is_clear(found: Sequence[Scored]) -> bool:
    """Whether nothing need be read: one is in the words of the question, and no other is near."""
    return not found or (found[0].alike >= CLEAR and (len(found) < 2 or found[0].alike - found[1].alike >= AHEAD))


def is_backwards(statement: Statement, asked: Asked) -> bool:
    """Whether a question asks for the subject of a statement."""
    return normalise(asked.answer) == normalise(statement.subject)


def _shared(known: Mapping[str, int], asked: Mapping[str, int]) -> bool:
    """Whether a question has most of the words of a known one, of which names count most: else it asks of another."""
    weights = {word: NAMED if name else 1 for word, name in known.items()}
    return sum(weight for word, weight in weights.items() if word in asked) >= SHARED * sum(weights.values())
