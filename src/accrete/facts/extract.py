"""A document's facts, each with the characters that say it. Ends at facts and spans.

Two readers, and what both find counts once, as the first has it:

    rules    "In 2020, the mayor of Tolvane is Ada.", "Tolvane's mayor is Ada.", "Ada is the mayor of Tolvane.", "mayor: Ada",
             "Mayor of Tolvane on 3 May 2020: Ada (since 2018)", "Bo is a member of the Guild." (of which there may be more)
    model    a language model lists the facts of each passage (lm/tasks.py: LIST_FACTS) that the rules did not read whole,
             then of each sentence of which nothing was found: alone it is read more surely, and named less well (LOG.md)

What a model lists counts only where its subject and its value stand in the passage: it may be wrong about what a passage says,
but not make up what is spoken of. A fact without a date of its own has the date of the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from accrete.dates import MONTHS
from accrete.facts.values import value_key
from accrete.lm.tasks import LIST_FACTS, prompt, read_facts
from accrete.scoring import normalise
from accrete.types import Fact, Passage

Generate = Callable[[Sequence[str]], Sequence[str]]

_DATE = rf"(?:\d{{4}}-\d{{2}}(?:-\d{{2}})?|(?:(?:\d{{1,2}} )?(?:{'|'.join(MONTHS)}) )?[12]\d{{3}})"
_FIRST = re.compile(  # "In 2020, ...", "As things stood in 2020: ...", "A note from 2020 says that ..."
    rf"^\s*(?:\[(?P<at>{_DATE})\]"
    r"|(?:[^,;:.]{0,50}?\b)?(?:[Ii]n|[Aa]s of|[Ss]ince|[Bb]y|[Oo]n|[Ff]rom|[Oo]f|[Aa]t) "
    rf"(?P<since>{_DATE})(?: (?:until|to) (?P<until>{_DATE}))?"
    r"(?:[,:]|(?= (?:the|[A-Z])\b)|(?<=\d)[^,;:.]{0,20}? that\b))\s*"
)
_LAST = re.compile(
    rf",?\s+(?:(?:in|as of|since|by|on|from) (?P<since>{_DATE})(?: (?:until|to) (?P<until>{_DATE}))?|until (?P<end>{_DATE}))$"
)
_SAID = r"(?:is|was|are|were|became|has been|have been)"
_NOBODY = frozenset("it he she they this that these those here there what which who one note not".split())
_NAME = r"[^\s,;:|][^,;:|]{0,80}?"
_OF = rf"(?P<subject>(?=[A-Z\d]|the ){_NAME}|(?!.* of ){_NAME})"  # a name, else what comes last
_ONE = r"(?P<several>[Aa]n?|[Oo]ne of the)"  # "a member of": there may be more
_COUNTED = frozenset("number kind sort type part lot pair piece form set series third quarter half majority".split())
_RULES = (
    re.compile(rf"^(?:[Tt]he|{_ONE}) (?P<relation>[a-z][\w -]{{1,40}}?) of {_OF} {_SAID} (?P<value>\S.{{0,120}})$"),
    re.compile(rf"^(?P<subject>{_NAME})['’]s (?P<relation>[a-z][\w -]{{1,40}}?) {_SAID} (?P<value>\S.{{0,120}})$"),
    re.compile(rf"^(?P<value>{_NAME}) {_SAID} (?:the|{_ONE}) (?P<relation>[a-z][\w -]{{1,40}}?) of {_OF}$"),
)
_COLON = re.compile(  # "Head of government of Chile on 3 May 2020: Ada (since 2018)"
    r"^(?:[Tt]he )?(?P<relation>[A-Za-z][\w -]{1,40}?) of (?P<subject>(?:the )?[A-Z\d][^,;:|]{0,80}?)"
    rf"(?: (?:on|in|as of|since) (?P<at>{_DATE}))?: (?P<value>\S.{{0,160}}?)"
    rf"(?: \(since (?P<since>{_DATE})\))?(?: \([^()]*\)?)?$"
)
_SENTENCE = re.compile(  # a point after an initial or a title ends none
    r"[^.!?\n]+(?:\.(?=\w)[^.!?\n]*|(?:(?<=\b[A-Z])|(?<=\b[DMS][rst])|(?<=\bMrs))\.[^.!?\n]+)*[.!?]?"
)
_ROW = re.compile(r"^\s*\|?\s*(?P<relation>[^\W\d][^:|\n]{1,60}?)\s*[:|]\s*(?P<value>[^|\n]+?)\s*\|?\s*$")
_HEADING = re.compile(r"^\s*#+\s*(?P<subject>\S.*?)\s*#*\s*$")


@dataclass(frozen=True)
class Found:
    """A fact, and the characters [start, end) of its document that say it; `several` where there may be more such values."""

    fact: Fact
    start: int
    end: int
    several: bool = False


def extract(
    passages: Sequence[Passage], generate: Generate | None = None, date: str | None = None, subject: str = ""
) -> list[Found]:
    """The facts of these passages in the order in which they stand; `subject` is what rows without a heading are about."""
    found = _Collected(date)
    for passage in passages:
        found.add(by_rules(passage, subject))
    if generate:
        found.add(_by_model([one for one in passages if not all(map(found.speaks_of, _sentences(one)))], generate))
        silent = [
            one for passage in passages for one in _sentences(passage) if one != passage and not found.speaks_of(one)
        ]
        found.add(_by_model(silent, generate))
    return found.in_order()


def unread(text: str, found: Sequence[Found]) -> list[str]:
    """The sentences of which no fact was found; questions state nothing."""
    said = [one for one in _sentences(Passage(text, "", 0, len(text))) if not one.text.endswith("?")]
    return [one.text for one in said if not any(fact.start < one.end and one.start < fact.end for fact in found)]


class _Collected:
    """Facts as they are found: the same fact counts once, with the name that its relation was given first."""

    def __init__(self, date: str | None):
        self.date = date
        self._found: dict[tuple[str, ...], Found] = {}
        self._said: dict[tuple[int, int], list[Found]] = {}  # by the sentence that says it

    def add(self, facts: Iterable[Found]) -> None:
        for one in facts:
            one = replace(one, fact=_dated(one.fact, self.date))
            fact, beside = one.fact, self._said.setdefault((one.start, one.end), [])
            key = normalise(fact.subject), normalise(fact.relation), value_key(fact.value), fact.valid_from or ""
            if key not in self._found and not any(_same_of(fact, other.fact) for other in beside):
                self._found[key] = one
                beside.append(one)

    def speaks_of(self, sentence: Passage) -> bool:
        """Whether something was found in it."""
        return any(start < sentence.end and sentence.start < end for start, end in self._said)

    def in_order(self) -> list[Found]:
        """As they stand, without what is no more than the date of something else: in 2020, so-and-so was founded in 2020?"""
        kept = [
            one
            for one in self._found.values()
            if not any(
                other is not one
                and value_key(one.fact.value) == (other.fact.valid_from or "")[: len(value_key(one.fact.value))]
                for other in self._said[one.start, one.end]
            )
        ]
        return sorted(kept, key=lambda one: (one.start, one.end))


def _same_of(one: Fact, other: Fact) -> bool:
    """Whether they give the same value to the same subject, under whatever name."""
    return normalise(one.subject) == normalise(other.subject) and value_key(one.value) == value_key(other.value)


# --- rules -----------------------------------------------------------------------------------------------------------


def by_rules(passage: Passage, subject: str = "") -> Iterator[Found]:
    """What simple sentences, and rows of a key and its value, say."""
    headed, rows = False, sum(bool(_ROW.match(line)) for _, line in _lines(passage.text))  # one row alone is a remark
    for start, line in _lines(passage.text):
        if heading := _HEADING.match(line):
            subject, headed = heading["subject"], True
        elif (row := _ROW.match(line)) and subject and (headed or rows > 1) and not line.rstrip().endswith((".", "?")):
            if not re.fullmatch(r"[-: ]+", row["value"]):
                yield Found(Fact(subject, row["relation"].strip(), row["value"]), *_place(passage, start, row.span()))
        else:
            for sentence in _sentences(Passage(line, passage.document, passage.start + start, 0)):
                if said := _of_sentence(sentence.text):
                    yield Found(said[0], sentence.start, sentence.end, said[1])


def _of_sentence(sentence: str) -> tuple[Fact, bool] | None:
    """The fact, and whether it is one of several."""
    if sentence.rstrip().endswith("?"):
        return None
    text = sentence.strip().rstrip(".")
    if said := _COLON.match(text):
        relation = said["relation"][:1].lower() + said["relation"][1:]
        return Fact(said["subject"], relation, said["value"], _iso(said["since"] or said["at"])), False
    dates: dict[str, str] = {}
    for place in (_FIRST, _LAST):
        if not dates and (said := place.search(text)):
            dates = {key: value for key, value in said.groupdict().items() if value}
            text = text[: said.start()] + text[said.end() :]
    since, until = dates.get("at") or dates.get("since"), dates.get("until") or dates.get("end")
    for rule in _RULES:
        if said := rule.match(text[:1].upper() + text[1:] if rule is _RULES[2] else text):
            if {said["subject"].split()[0].lower(), said["value"].split()[0].lower()} & _NOBODY:
                return None
            several = bool(said.groupdict().get("several"))
            if several and (said["relation"] in _COUNTED or not all(map(_named, (said["subject"], said["value"])))):
                return None
            return Fact(said["subject"], said["relation"], said["value"], _iso(since), _iso(until)), several
    return None


def _named(name: str) -> bool:
    return name.startswith("the ") or name[0].isupper()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line.rstrip("\n")
        start += len(line)


def _place(passage: Passage, line: int, span: tuple[int, int]) -> tuple[int, int]:
    return passage.start + line + span[0], passage.start + line + span[1]


# --- what a model lists ------------------------------------------------------------------------------------------------


def _by_model(passages: Sequence[Passage], generate: Generate) -> Iterator[Found]:
    written = generate([prompt(LIST_FACTS, one.text) for one in passages]) if passages else []
    for passage, lines in zip(passages, written, strict=True):
        yield from _grounded(passage, read_facts(lines))


def _sentences(passage: Passage) -> Iterator[Passage]:
    for one in _SENTENCE.finditer(passage.text):
        if text := one[0].strip():
            start = passage.start + one.start() + len(one[0]) - len(one[0].lstrip())
            yield Passage(text, passage.document, start, start + len(text))


def _grounded(passage: Passage, facts: Iterable[Fact]) -> Iterator[Found]:
    """Those whose subject and value the passage names, with the sentence that has the value."""
    for fact in facts:
        value = _stands(passage.text, fact.value)
        if (
            value is None
            or _stands(passage.text, fact.subject) is None
            or normalise(fact.value) == normalise(fact.subject)
        ):
            continue
        sentence = next(
            ((one.start, one.end) for one in _sentences(passage) if one.start <= passage.start + value < one.end),
            (passage.start + value, passage.start + value + len(fact.value)),
        )
        since, until = _iso(fact.valid_from), _iso(fact.valid_until)
        yield Found(replace(fact, valid_from=since, valid_until=until), *sentence)


def _stands(text: str, words: str) -> int | None:
    found = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)
    return found.start() if found else None


# --- dates and keys --------------------------------------------------------------------------------------------------


def _iso(said: str | None) -> str | None:
    """The ISO form of a date as it is written; None for what is none."""
    key = value_key(said) if said else ""
    return key if re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", key) else None


def _dated(fact: Fact, date: str | None) -> Fact:
    fact = fact if fact.valid_from else replace(fact, valid_from=date)
    ends_late = fact.valid_until and (not fact.valid_from or fact.valid_until > fact.valid_from)
    return fact if ends_late else replace(fact, valid_until=None)
