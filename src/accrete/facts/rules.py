"""What simple sentences, and rows of a key and its value, say by rules. Ends at facts and spans.

    "In 2020, the mayor of Tolvane is Ada."     "Tolvane's mayor is Ada."      "Ada was mayor of Tolvane until May 2019."
    "Mayor of Tolvane on 3 May 2020: Ada (since 2018)"                         "mayor: Ada", under a heading or in a table
    tables of several columns (tables.py)
    "Bo is a member of the Guild." and "The members of the Guild are Bo and Cy.", of which there may be more

What says who somebody is not states nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from accrete.dates import MONTH, existing
from accrete.errors import UsageError
from accrete.facts import tables
from accrete.facts.values import value_key
from accrete.types import Fact, Passage

_TH = r"(?:st|nd|rd|th)?"
_DATE = (
    r"(?:\d{4}-\d{2}(?:-\d{2})?|"
    rf"(?:(?:\d{{1,2}}{_TH} )?{MONTH} (?:\d{{1,2}}{_TH}, )?)?[12]\d{{3}})"
)
_UNTIL = rf"(?: (?:until|to) (?P<until>{_DATE}))?"
_FIRST = (
    re.compile(  # "In 2020, ...", "As things stood in 2020: ...", "A note from 2020 says that ...", "Until 2019, ..."
        rf"^\s*(?:\[(?P<at>{_DATE})\]"
        r"|(?:[^,;:.]{0,50}?\b)?(?:[Ii]n|[Aa]s of|[Ss]ince|[Bb]y|[Oo]n|[Ff]rom|[Oo]f|[Aa]t) "
        rf"(?P<since>{_DATE}){_UNTIL}"
        r"(?:[,:]|(?= (?:the\b|[A-Z]))|(?<=\d)[^,;:.]{0,20}? that\b)"
        rf"|[Uu]ntil (?P<end>{_DATE}),?)\s*"
    )
)
_SAID = r"(?:is|was|are|were|became|has been|have been)(?: (?:now|then|currently|still|again))?"
_WITHIN = (
    rf"(?:(?:in|as of|since|by|on|from) (?P<since>{_DATE}){_UNTIL}|until (?P<end>{_DATE})"
    rf"|between (?P<begin>{_DATE}) and (?P<over>{_DATE}))"
)
_MIDDLE = re.compile(rf",?\s+{_WITHIN},?(?= {_SAID} )")  # "The mayor of Tolvane in 2018 was ..."
_LAST = re.compile(rf",?\s+{_WITHIN}$")
PRONOUNS = frozenset("it he she they his her its their our my".split())
_NOBODY = PRONOUNS | frozenset(
    """this that these those here there what which who one note not never nobody none neither said known thought believed
    expected supposed likely unknown once formerly previously originally""".split()
)
DENIES = re.compile(
    r"\b(?:is|was|are|were)(?:n['’]t| not| never| no longer) (?=the |an? |[A-Z\"“])"
)  # says who it is not
_APPOSITION = re.compile(r", (?:an?|the|who|whose|which) .*$")
_REST = r"[^,;:|]{0,80}?"
_NAME = rf"[^\s,;:|]{_REST}"
_OF = rf"(?P<subject>(?=[A-Z\d]|the ){_NAME}|(?!.* of ){_NAME})"  # a name, else what comes last
_ONE = r"(?P<several>[Aa]n?|[Oo]ne of the)"  # "a member of": there may be more
_COUNTED = frozenset("number kind sort type part lot pair piece form set series third quarter half majority".split())
_NO_ROLE = _COUNTED | set("north south east west full proud aware capable fond afraid short typical tired sure".split())
_RELATION = r"(?P<relation>[a-z][\w -]{1,40}?)"
_CHOSEN = "elected|appointed|named|made|chosen|crowned|confirmed|sworn in|re-elected|reelected"
_HOLDS = (  # "was elected", "served as", "succeeded Bo as": of who holds an office
    rf"(?:{_SAID}(?: (?:{_CHOSEN})(?: as)?)?|(?:has )?(?:served|serves|acted|acts) as"
    rf"|took (?:over|office)(?: from {_NAME})? as|(?:succeeded|replaced|followed) {_NAME} as)"
)
_RULES = (
    re.compile(rf"^(?:[Tt]he|{_ONE}) {_RELATION} of {_OF} {_SAID} (?P<value>\S.{{0,160}})$"),
    re.compile(rf"^(?P<subject>{_NAME})['’]s {_RELATION} {_SAID} (?P<value>\S.{{0,160}})$"),
    re.compile(rf"^(?P<value>{_NAME}) {_HOLDS} (?:the|{_ONE}) {_RELATION} of {_OF}$"),
    re.compile(
        rf"^(?P<value>(?=[A-Z]){_NAME}) {_HOLDS} (?P<role>[a-z]{{4,20}}) of (?P<subject>(?:the )?[A-Z]{_REST})$"
    ),
)
_COLON = re.compile(  # "Head of government of Chile on 3 May 2020: Ada (since 2018)"
    r"^(?:[Tt]he )?(?P<relation>[A-Za-z][\w -]{1,40}?) of (?P<subject>(?:the )?[A-Z\d][^,;:|]{0,80}?)"
    rf"(?: (?:on|in|as of|since) (?P<at>{_DATE}))?: (?P<value>\S.{{0,160}}?)"
    rf"(?: \(since (?P<since>{_DATE})\))?(?: \([^()]*\)?)?$"
)
_TITLES = "Dr Mr Ms Mrs St Prof Rev Hon Sen Gov Gen Col Maj Lt Capt Cdr Adm Brig Sgt Mt".split()
_SHORT = "|".join(rf"(?<=\b{title})" for title in ("[A-Z]", *_TITLES))
_SENTENCE = re.compile(  # a point after an initial or a title ends none
    rf"[^.!?\n]+(?:\.(?=[\w)])[^.!?\n]*|(?:{_SHORT})\.[^.!?\n]+)*[.!?]?"
)
_ROW = re.compile(r"^\s*(?:[-*+]\s+)?\|?\s*(?P<relation>[^\W\d][^:|\n]{1,60}?)\s*[:|]\s*(?P<value>[^|\n]+?)\s*\|?\s*$")
_ASIDE = re.compile(  # "CEO (since 2019)", "Ada (2015-2019)", "12,400 (until May 2020)"
    rf"\s*\((?:(?:(?:since|from|as of|in|on) )?(?P<since>{_DATE})(?:\s*(?:-|–|to|until)\s*(?P<until>{_DATE}))?"
    rf"|until (?P<end>{_DATE}))\)"
)
_WHEN = r"(?i:in|on|as of|since|from)"
_CLAUSE = re.compile(  # "...; in 2020 it was Cy", "... in 2018 and Cy in 2020", "... and the reeve of Tolvane is Bo"
    rf";\s+|,? (?:and|but|while|whereas) (?=(?:{_WHEN}|until) {_DATE}\b|the [a-z][\w -]{{1,40}}?(?: of [^,;]{{1,80}}?)?"
    rf" {_SAID} )|(?<=\d{{4}}),? and (?=[A-Z\d](?:[^,;]|,\d){{0,60}}? {_WHEN} {_DATE}\W*$)"
)
_AGAIN = (  # of the same subject and relation
    re.compile(rf"^{_WHEN} (?P<since>{_DATE}),? (?:it {_SAID} )?(?P<value>[A-Z\d].{{0,80}})$"),
    re.compile(rf"^(?P<value>[A-Z\d].{{0,60}}?) {_WHEN} (?P<since>{_DATE})$"),
)
TOLD = 1000  # lines read, until it is told
_HEADING = re.compile(r"^\s*#+\s*(?P<subject>\S.*?)\s*#*\s*$")


@dataclass(frozen=True)
class Found:
    """A fact, and the characters [start, end) of its document that say it; `several` where there may be more such values."""

    fact: Fact
    start: int
    end: int
    several: bool = False


def by_rules(passage: Passage, subject: str = "", told: Callable[[int], None] = lambda read: None) -> Iterator[Found]:
    """What simple sentences, and rows of a key and its value, say; `told` hears how many lines were read."""
    lines = list(_lines(passage.text))
    rows = _rows([line for _, line in lines])
    read = 0  # lines of a table that was read as a whole
    for place, ((start, line), (_, below)) in enumerate(itertools.pairwise([*lines, (0, "")])):
        if place % TOLD == 0:
            told(place)
        if place < read:
            continue
        if heading := _HEADING.match(line):
            subject = heading["subject"]
        elif tables.is_table(line, below):
            read = place + tables.length([text for _, text in lines[place:]])
            yield from _of_table(passage, lines[place:read], subject)
        elif subject and (row := rows.get(place)):
            head = tables.RULED.match(below) and row["value"].lower() in tables.VALUES
            if not head and not tables.RULED.match(line):
                yield Found(_of_row(subject, row), *_place(passage, start, row.span()))
        else:
            for sentence in sentences(Passage(line, passage.document, passage.start + start, 0)):
                yield from _of_sentence(sentence)


def _rows(lines: Sequence[str]) -> dict[int, re.Match[str]]:
    """Those of a list, and where they stand: a row with prose around it and no heading above is a remark."""
    rows: dict[int, re.Match[str]] = {}
    held: dict[int, re.Match[str]] = {}  # since the last line of prose
    headed = False
    for place, line in enumerate([*lines, "."]):
        if _HEADING.match(line):
            headed = True
        elif (row := _ROW.match(line)) and not line.rstrip().endswith((".", "?")):
            held[place] = row
        elif line.strip() and not tables.RULED.match(line):
            rows |= held if headed or len(held) > 1 else {}
            held, headed = {}, False
    return rows


def _of_table(passage: Passage, lines: Sequence[tuple[int, str]], subject: str) -> Iterator[Found]:
    for cell in tables.cells([text for _, text in lines], subject):
        said = _ASIDE.search(cell.value)
        since, until = (cell.since or (said and said["since"]), cell.until or (said and (said["until"] or said["end"])))
        start, line = lines[cell.line]
        fact = Fact(cell.subject, cell.relation, _ASIDE.sub("", cell.value).strip(), iso_date(since), iso_date(until))
        if fact.subject and fact.value:
            yield Found(fact, *_place(passage, start, (0, len(line))))


def _of_row(subject: str, row: re.Match[str]) -> Fact:
    said = _ASIDE.search(row["relation"]) or _ASIDE.search(row["value"])
    relation, value = (_ASIDE.sub("", row[part]).strip() for part in ("relation", "value"))
    since, until = (said["since"], said["until"] or said["end"]) if said else (None, None)
    return Fact(subject, relation or row["relation"], value or row["value"], iso_date(since), iso_date(until))


def _of_sentence(sentence: Passage) -> Iterator[Found]:
    """The facts of its clauses. A date before the first counts for those without one; "in 2020 it was Cy" goes on with it."""
    if sentence.text.rstrip().endswith("?"):
        return
    first = _FIRST.match(sentence.text)
    since = iso_date(first["at"] or first["since"]) if first else None
    last: Fact | None = None
    for start, clause in _clauses(sentence.text):
        place = sentence.start + start, sentence.start + start + len(clause.rstrip())
        found = list(_of_clause(clause))
        if (
            last
            and not found
            and (again := next(filter(None, (one.match(clause.rstrip(" .!")) for one in _AGAIN)), None))
        ):
            found = [(Fact(last.subject, last.relation, again["value"], iso_date(again["since"])), False)]
        for fact, several in found:
            last = fact if not start or fact.valid_from or fact.valid_until else replace(fact, valid_from=since)
            yield Found(last, *place, several)


def _clauses(sentence: str) -> Iterator[tuple[int, str]]:
    """The parts of a sentence that may state something each, and where they begin; what is quoted is not taken apart."""
    start = 0
    for between in _CLAUSE.finditer(sentence):
        if sentence.count('"', start, between.start()) % 2 == 0:
            yield start, sentence[start : between.start()]
            start = between.end()
    yield start, sentence[start:]


def _of_clause(clause: str) -> Iterator[tuple[Fact, bool]]:
    """The facts, and whether they are some of several."""
    text = clause.strip().rstrip(".!")
    if DENIES.search(text):
        return
    if said := _COLON.match(text):
        relation = said["relation"][:1].lower() + said["relation"][1:]
        yield Fact(said["subject"], relation, said["value"], iso_date(said["since"] or said["at"])), False
        return
    dates: dict[str, str] = {}
    for place in (_FIRST, _MIDDLE, _LAST, _ASIDE):
        if not dates and (said := place.search(text)):
            dates = {key: value for key, value in said.groupdict().items() if value}
            text = text[: said.start()] + text[said.end() :]
    since = iso_date(dates.get("at") or dates.get("since") or dates.get("begin"))
    until = iso_date(dates.get("until") or dates.get("end") or dates.get("over"))
    for rule in _RULES:
        if said := rule.match(text[:1].upper() + text[1:] if rule in _RULES[2:] else text):
            for relation, value, several in _stated(said.groupdict()):
                yield Fact(said["subject"], relation, value, since, until), several
            return


def _stated(said: Mapping[str, str | None]) -> Iterator[tuple[str, str, bool]]:
    """(relation, value, whether there may be more) of what a rule has matched; nothing where it says no such thing."""
    subject, relation = str(said["subject"]), str(said.get("relation") or said.get("role"))
    value = re.sub(r"^[ai][tn] (?=[A-Z])", "", _APPOSITION.sub("", str(said["value"])).strip(' "“”'))  # "in Linz"
    first = value.split()[0].lower() if value else "not"
    done = first.endswith("ed") and len(first) > 4 and value[0].islower()  # "elected every four years" is no value
    if done or {subject.split()[0].lower(), first, value.split()[-1].lower()} & _NOBODY:
        return
    values = [one for one in re.split(r", (?:and )?| and ", value) if one]
    if relation[-1] == "s" and relation[-2:] != "ss" and len(values) > 1 and all(map(_named, values)):
        yield from ((_one_of(relation), one, True) for one in values)  # "The members of the Guild are Ada, Bo and Cy."
        return
    several = bool(said.get("several"))
    if several and (relation in _COUNTED or not _named(subject) or not _named(value)):
        return
    if said.get("role") in _NO_ROLE:
        return
    yield _one_of(relation) if str(said.get("several"))[:3].lower() == "one" else relation, value, several


def _one_of(relation: str) -> str:
    """The singular: "parties" is "party"."""
    return f"{relation[:-3]}y" if relation.endswith("ies") else relation.removesuffix("s")


def _named(name: str) -> bool:
    return name.startswith("the ") or name[0].isupper()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line.rstrip("\n")
        start += len(line)


def _place(passage: Passage, line: int, span: tuple[int, int]) -> tuple[int, int]:
    return passage.start + line + span[0], passage.start + line + span[1]


def sentences(passage: Passage) -> Iterator[Passage]:
    for one in _SENTENCE.finditer(passage.text):
        if text := one[0].strip():
            start = passage.start + one.start() + len(one[0]) - len(one[0].lstrip())
            yield Passage(text, passage.document, start, start + len(text))


def iso_date(said: str | None) -> str | None:
    """The ISO form of a date as it is written, as far as there is such a date; None for what is none."""
    key = value_key(said) if said else ""
    try:
        return existing(key) if re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", key) else None
    except UsageError:
        return None
