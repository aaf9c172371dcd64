"""What simple English sentences state, by rules. Ends at facts and the characters that state them.

    "In 2020, the mayor of Tolvane is Ada."     "Tolvane's mayor is Ada."      "Ada was mayor of Tolvane until May 2019."
    "In 2020, Bo succeeded Ada as mayor of Tolvane."     "Mayor of Tolvane on 3 May 2020: Ada (since 2018)"
    "Bo is a member of the Guild." and "The members of the Guild are Bo and Cy.", of which there may be more
    "In 2021, Bo stepped down as mayor of Tolvane.": he was, until then

What says who somebody is not, or how somebody is, states nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from accrete.dates import MONTH, existing
from accrete.errors import UsageError
from accrete.facts.values import value_key
from accrete.types import Fact, Passage

# --- dates -------------------------------------------------------------------------------------------------------------

_TH = r"(?:st|nd|rd|th)?"
_DATE = (
    r"(?:\d{4}-\d{2}(?:-\d{2})?|"
    rf"(?:(?:\d{{1,2}}{_TH} )?{MONTH} (?:\d{{1,2}}{_TH}, |of )?)?[12]\d{{3}})"
)
_ABOUT = r"(?:(?:the )?(?:early|mid|late|spring|summer|autumn|winter)(?: of |[ -]))?"
_UNTIL = rf"(?: (?:until|to) (?P<until>{_DATE}))?"
_FIRST = (
    re.compile(  # "In 2020, ...", "As things stood in 2020: ...", "A note from 2020 says that ...", "Until 2019, ..."
        rf"^\s*(?:\[(?P<at>{_DATE})\]"
        rf"|(?:[Uu]ntil|[Bb]efore)(?: [^,;:.]{{0,40}}? (?:of|in))? {_ABOUT}(?P<end>{_DATE}),?"
        rf"|[Bb]etween (?P<begin>{_DATE}) and (?P<over>{_DATE}),?"
        r"|(?![Uu]ntil\b|[Bb]efore\b)(?:[^,;:.]{0,50}?\b)?"
        rf"(?:[Ii]n|[Aa]s of|[Ss]ince|[Bb]y|[Oo]n|[Ff]rom|[Oo]f|[Aa]t|[Ee]ffective) {_ABOUT}(?P<since>{_DATE}){_UNTIL}"
        r"(?:[,:]|(?= (?:the\b|[A-Z]))|(?<=\d)[^,;:.]{0,20}? that\b))\s*"
    )
)
_SPEECH = re.compile(  # "The council announced on 3 May 2020 that ..."
    r"^(?P<who>[^,;:]{1,70}?) (?:(?P<sure>announce[sd]?|confirm(?:s|ed)?|report(?:s|ed)?|sa(?:ys?|id)|state[sd]?|note[sd]?)"
    rf"|den(?:y|ies|ied)|(?:claim|doubt|fear|hope|suggest|believe|expect|suppose|pretend|joke|dream)(?:s|e?d)?|th(?:ink|ought)s?)"
    rf"(?: (?:in|on) (?P<since>{_DATE}))? that (?=\S)"
)
_UNSAID = re.compile(r"\b(?:(?i:not|never|nobody|no one|none|falsely|wrongly|once|if)|would|will|may|might)\b|n['’]t\b")
_SAID = r"(?:is|was|are|were|became|becomes|remains|remained|has been|have been)(?: (?:now|then|currently|still|again|also))?"
_WITHIN = (
    rf"(?:(?:in|as of|since|by|on|from) {_ABOUT}(?P<since>{_DATE}){_UNTIL}|(?:until|before) {_ABOUT}(?P<end>{_DATE})"
    rf"|between (?P<begin>{_DATE}) and (?P<over>{_DATE}))"
)
_MIDDLE = re.compile(rf",?\s+{_WITHIN},?(?= {_SAID} )")  # "The mayor of Tolvane in 2018 was ..."
_LAST = re.compile(rf",?\s+{_WITHIN}$")
ASIDE = re.compile(  # "CEO (since 2019)", "Ada (2015-2019)", "12,400 (until May 2020)"
    rf"\s*\((?:(?:(?:since|from|as of|in|on) )?(?P<since>{_DATE})(?:\s*(?:-|–|to|until)\s*(?P<until>{_DATE}))?"
    rf"|until (?P<end>{_DATE}))\)"
)
_WHEN = r"(?i:in|on|as of|since|from)"

# --- words -------------------------------------------------------------------------------------------------------------

PRONOUNS = frozenset("it he she they his her its their our my".split())
_NOBODY = PRONOUNS | frozenset(  # who begins or ends so is nobody
    """this that these those here there what which who one note not never nobody none neither either both said known thought
    believed expected supposed likely unknown once formerly previously originally probably perhaps possibly maybe presumably
    reportedly allegedly was is were are has had been almost nearly soon later then also eventually finally or""".split()
)
_NO_VALUE = frozenset(  # and what begins so says how somebody is, or what becomes of him
    """in on to under with by up down going very too so quite rather still even just only higher lower larger smaller more
    less better worse best worst good bad well ill away back dead alive open closed unclear uncertain popular spent held
    made built born sold lost found left paid sent given taken kept seen set put led shut hit""".split()
)
DENIES = re.compile(  # says who it is not
    r"\b(?:is|was|are|were)(?:n['’]t| not| never| no longer) (?=the |an? |[A-Z\"“])"
)
_MORE = re.compile(  # what is said of a value beside it
    r", (?:an?|the|who|whose|which|where|when|then|up|down|after|before|but|having|being|with|although|because|while) .*$"
)
_COUNTED = frozenset("number kind sort type part lot pair piece form set series third quarter half majority".split())
_NO_ROLE = _COUNTED | set("north south east west full proud aware capable fond afraid short typical tired sure".split())
_NOW = re.compile(r"^(?:current|new|present|incumbent|sitting|newly elected) (?=\w)")
_NOT_NOW = re.compile(r"^(?:former|previous|ex|outgoing|late|next|future|designated)[ -]")

# --- what stands where -------------------------------------------------------------------------------------------------

_REST = r"[^,;:|]{0,80}?"
_NAME = rf"[^\s,;:|]{_REST}"
_OF = rf"(?P<subject>(?=[A-Z\d\"“]|the ){_NAME}|(?!.* of ){_NAME})"  # a name, else what comes last
_ONE = r"(?P<several>[Aa]n?|[Oo]ne of the)"  # "a member of": there may be more
_RELATION = r"(?P<relation>[a-z][\w -]{1,40}?|[A-Z]{2,5})"
_CHOSEN = "elected|appointed|named|made|chosen|crowned|confirmed|sworn in|re-elected|reelected"
_BECAME = (  # "was elected", "served as", "succeeded Bo as": of who holds an office
    rf"(?:{_SAID} (?:{_CHOSEN})(?: as)?|(?:has )?(?:served|serves|acted|acts) as"
    rf"|took (?:over|office)(?: from {_NAME})? as|(?:succeeded|replaced|followed) (?!by ){_NAME} as)"
)
_HOLDS = rf"(?:{_BECAME}|{_SAID})"
_PERSON = rf"(?P<value>(?=[A-Z]|the [A-Z]){_NAME})"
_PROPER = r"(?:[Tt]he )?[A-Z][\w'’&.-]*(?: [A-Z\d][\w'’&.-]*| of| the)*"
_FIGURE = r"(?:about |over |nearly |some )?[€$£]?\d"
_RULES = (
    re.compile(rf"^(?:[Tt]he|{_ONE}) {_RELATION} of {_OF} {_SAID} (?P<value>\S.{{0,160}})$"),
    re.compile(rf"^(?P<subject>(?!an? ){_NAME})['’]s {_RELATION} {_SAID} (?P<value>\S.{{0,160}})$"),
    re.compile(
        rf"^{_NAME} (?:was|were) (?:succeeded|replaced|followed) by {_PERSON} as (?:the )?{_RELATION} of {_OF}$"
    ),
    re.compile(rf"^(?P<value>{_NAME}) {_HOLDS} (?:the|{_ONE}) {_RELATION} of {_OF}$"),
    re.compile(rf"^{_PERSON} {_HOLDS} (?P<role>[a-z]{{4,20}}|[A-Z]{{2,5}}) of (?P<subject>(?:the )?[A-Z]{_REST})$"),
    re.compile(
        rf"^{_PERSON} {_BECAME} (?P<role>[a-z]{{3,20}}(?: [a-z]{{3,20}}){{0,2}}) of (?P<subject>(?:the )?[A-Z]{_REST})$"
    ),
    re.compile(rf"^{_PERSON} {_SAID} (?P<subject>(?=[A-Z]|the ){_NAME})['’]s {_RELATION}$"),
    re.compile(rf"^(?P<subject>{_PROPER}) (?:has|had) an? {_RELATION} of (?P<value>{_FIGURE}.{{0,80}})$"),
)
_ENDED = re.compile(
    rf"^{_PERSON} (?:(?:is|was) no longer|stepped down as|resigned as|retired as|left office as|ceased to be)"
    rf" (?:the )?{_RELATION} of {_OF}$"
)
_COLON = re.compile(  # "Head of government of Chile on 3 May 2020: Ada"
    r"^(?:[Tt]he )?(?P<relation>[A-Za-z][\w -]{1,40}?) of (?P<subject>(?:the )?[A-Z\d][^,;:|]{0,80}?)"
    rf"(?: (?:on|in|as of|since) (?P<at>{_DATE}))?: (?P<value>\S.{{0,160}}?)(?: \([^()]*\)?)?$"
)
_TITLES = "Dr Mr Ms Mrs St Prof Rev Hon Sen Gov Gen Col Maj Lt Capt Cdr Adm Brig Sgt Mt".split()
_SHORT = "|".join(rf"(?<=\b{title})" for title in ("[A-Z]", *_TITLES))
_SENTENCE = re.compile(  # a point ends none after an initial or a title, nor before what goes on in small letters
    rf"[^.!?\n]+(?:\.(?=[\w),]| [a-z])[^.!?\n]*|(?:{_SHORT})\.[^.!?\n]+)*[.!?]?"
)
_THE_OTHER = rf"(?:the|its|his|her|their) [a-z][\w -]{{1,40}}?(?: of [^,;]{{1,80}}?)? {_SAID} "
_CLAUSE = re.compile(  # "...; in 2020 it was Cy", "... in 2018 and Cy in 2020", "... and the reeve of Tolvane is Bo"
    rf";\s+|,? (?:and|but|while|whereas) (?=(?:{_WHEN}|until) {_DATE}\b|{_THE_OTHER})|, (?={_THE_OTHER})"
    rf"|(?<=\d{{4}})(?:,? and|,) (?=[A-Z\d](?:[^,;]|,\d){{0,60}}? {_WHEN} {_DATE}(?:\W*$|,| and ))"
)
_VERB = re.compile(rf" (?:{_SAID}|has|had|serve[sd]|act(?:s|ed)|took|succeeded|replaced|followed) ")
_AGAIN = (  # of the same subject and relation
    re.compile(rf"^{_WHEN} (?P<since>{_DATE}),? (?:it {_SAID} )?(?P<value>[A-Z\d].{{0,80}})$"),
    re.compile(rf"^(?P<value>[A-Z\d].{{0,60}}?) {_WHEN} (?P<since>{_DATE})$"),
)


@dataclass(frozen=True)
class Found:
    """A fact, and the characters [start, end) of its document that say it.

    `several` where there may be more such values, `ended` where it is said that it does not hold any more.
    """

    fact: Fact
    start: int
    end: int
    several: bool = False
    ended: bool = False


def sentences(passage: Passage) -> Iterator[Passage]:
    for one in _SENTENCE.finditer(passage.text):
        if text := one[0].strip():
            start = passage.start + one.start() + len(one[0]) - len(one[0].lstrip())
            yield Passage(text, passage.document, start, start + len(text))


def iso_date(said: str | None) -> str | None:
    """The ISO form of a date as it is written, as far as there is such a date; None for what is none."""
    key = value_key(said.replace(" of ", " ")) if said else ""
    try:
        return existing(key) if re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", key) else None
    except UsageError:
        return None


def of_sentence(sentence: Passage) -> Iterator[Found]:
    """The facts of its clauses. A date before the first counts for those without one; "in 2020 it was Cy" goes on with it."""
    if sentence.text.rstrip().endswith("?"):
        return
    first = _FIRST.match(sentence.text)
    since = iso_date(first["at"] or first["since"]) if first else None
    last: Fact | None = None
    for start, clause in _clauses(sentence.text):
        place = sentence.start + start, sentence.start + start + len(clause.rstrip())
        found = list(_of_clause(clause))
        again = next(filter(None, (one.match(clause.rstrip(" .!")) for one in _AGAIN)), None)
        if last and not found and again:
            found = [Found(Fact(last.subject, last.relation, again["value"], iso_date(again["since"])), 0, 0)]
        for one in found:
            last = one.fact
            if start and since and not (last.valid_from or last.valid_until):
                last = replace(last, valid_until=since) if one.ended else replace(last, valid_from=since)
            yield replace(one, fact=last, start=place[0], end=place[1])


def _clauses(sentence: str) -> Iterator[tuple[int, str]]:
    """The parts of a sentence that may state something each, and where they begin; what is quoted is not taken apart."""
    start = 0
    for between in _CLAUSE.finditer(sentence):
        before = sentence[start : between.start()]
        whole = _VERB.search(before) or any(one.match(before) for one in _AGAIN)  # and not its date alone
        if whole and sentence.count('"', start, between.start()) % 2 == 0:
            yield start, before
            start = between.end()
    yield start, sentence[start:]


def _of_clause(clause: str) -> Iterator[Found]:
    """Its facts; where they stand is said later."""
    text = clause.strip().rstrip(".!")
    if colon := _COLON.match(ASIDE.sub("", text)):
        relation, aside = colon["relation"][:1].lower() + colon["relation"][1:], ASIDE.search(text)
        since, until = ends(aside.groupdict() if aside else {})
        yield Found(Fact(colon["subject"], relation, colon["value"], since or iso_date(colon["at"]), until), 0, 0)
        return
    text, since, until = _dated(text)
    if ended := _ENDED.match(text):
        yield Found(Fact(ended["subject"], ended["relation"], ended["value"], None, since), 0, 0, ended=True)
        return
    if DENIES.search(text) or _SPEECH.match(text):
        return
    if said := next(filter(None, (rule.match(text) for rule in _RULES)), None):
        for relation, value, several in _stated(said.groupdict()):
            yield Found(Fact(said["subject"].strip('"“”'), relation, value, since, until), 0, 0, several)


def _dated(text: str) -> tuple[str, str | None, str | None]:
    """A clause without its dates and without what it says beside, from when, and until when."""
    dates: dict[str, str | None] = {}
    if first := _FIRST.match(text):
        dates, text = first.groupdict(), text[first.end() :]
    if (speech := _SPEECH.match(text)) and speech["sure"] and not _UNSAID.search(speech["who"]):
        dates, text = dates or {"since": speech["since"]}, text[speech.end() :]
    if (more := _MORE.search(text)) and _VERB.search(text[: more.start()]):
        text = text[: more.start()]
    for place in (_MIDDLE, _LAST, ASIDE):
        if not any(dates.values()) and (said := place.search(text)):
            dates, text = said.groupdict(), text[: said.start()] + text[said.end() :]
    return text, *ends(dates)


def ends(dates: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """From when and until when, of the groups of a pattern."""
    since = dates.get("at") or dates.get("since") or dates.get("begin")
    until = dates.get("until") or dates.get("end") or dates.get("over")
    return iso_date(since), iso_date(until)


def _stated(said: Mapping[str, str | None]) -> Iterator[tuple[str, str, bool]]:
    """(relation, value, whether there may be more) of what a rule has matched; nothing where it says no such thing."""
    subject, relation = str(said["subject"]), str(said.get("relation") or said.get("role"))
    relation, written = _NOW.sub("", relation), str(said["value"])
    value = re.sub(rf"^[ai][tn] (?=[A-Z])|, (?:{_CHOSEN})$", "", written.strip(' "“”'))  # "in Linz"
    if _NOT_NOW.match(relation) or not _is_value(value, quoted=written[0] in '"“'):
        return
    if subject.split()[0].lower() in _NOBODY:
        return
    values = [one for one in re.split(r", (?:and )?| and ", value) if one]
    if relation[-1] == "s" and relation[-2:] != "ss" and len(values) > 1 and all(map(_named, values)):
        names = (re.sub(r" \([^()]*\)$", "", one) for one in values)  # "Bo (chair), Cy and Dee"
        yield from ((_one_of(relation), name, True) for name in names)
        return
    several = bool(said.get("several"))
    if several and (relation in _COUNTED or not _named(subject) or not _named(value)):
        return
    if said.get("role") in _NO_ROLE:
        return
    yield _one_of(relation) if str(said.get("several"))[:3].lower() == "one" else relation, value, several


def _is_value(value: str, quoted: bool) -> bool:
    """Whether words are what something may be: "elected every four years", "in hospital" and "Bo or Cy" are not."""
    if quoted or not value:
        return bool(value)
    first, last = value.split()[0], value.split()[-1].lower()
    done = (first.endswith("ed") and len(first) > 4) or first in _NO_VALUE
    open_ = re.search(r"[A-Z]\S* or (?:the )?[A-Z]", value) or value.endswith(" years old")
    return not (done and first[0].islower()) and not {first.lower(), last} & _NOBODY and not open_


def _one_of(relation: str) -> str:
    """The singular: "parties" is "party"."""
    return f"{relation[:-3]}y" if relation.endswith("ies") else relation.removesuffix("s")


def _named(name: str) -> bool:
    return name.startswith("the ") or name[0].isupper()
