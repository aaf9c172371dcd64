"""ISO dates as far as they are given: 2020, 2020-03 or 2020-03-01. Ends at a question about one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from accrete.errors import UsageError

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
# Words that a question begins with, which keep no capital inside a sentence.
_FIRST = frozenset(
    """who whose whom what which where when why how in on at by for from to with of under is are was were does did do has have
    can could name tell say give state list""".split()
)
_DATE = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
MONTH = rf"(?i:{'|'.join(f'{name}|{name[:3]}' for name in MONTHS)})\.?"  # in full or as "Jan."
_SPOKEN = (  # "3 March 2021", "March 3, 2021", "Mar 2021", "2021"
    r"(?:(?P<iso>\d{4}-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)|"
    rf"(?:(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)? )?(?P<month>{MONTH}) (?:(?P<day_after>\d{{1,2}})(?:st|nd|rd|th)?, )?)?"
    r"(?P<year>[12]\d{3}))\b"
)
_DATELINE = re.compile(rf"\s*#*\s*(?i:dated?:?\s+|[^:.!?]{{3,80}}?[,(–—]\s*)?{_SPOKEN}\s*\)?\s*(?:[-–—:]\s.*)?$")
_AT = r"(?i:\b(?:of|in|on|at|by|to|for|is|now|with) )"
_PUT_AT = (  # "[2020] The ...", "As of March 2020, who ...", "Who was ... in 2020?"
    re.compile(rf"^\s*\[{_SPOKEN}\]"),
    re.compile(rf"^[^,:?\d]*?{_AT}{_SPOKEN}[^,:?\d]*[,:]"),
    re.compile(rf"{_AT}{_SPOKEN}[?.]?\s*$"),
)
_ONES = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen""".split()
_COUNTS = {name: 1 + place for place, name in enumerate(_ONES)} | {"a couple of": 2, "a few": 3, "an": 1, "a": 1}
_TENS = {
    name: 10 * place for place, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_COUNT = rf"\d{{1,4}}|(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_ONES[:9])}))?|{'|'.join(reversed(_COUNTS))}"
NUMBERS = "|".join([*_TENS, *_ONES])  # in words
_YEARS = {"decade": 10, "centuries": 100, "century": 100}
_UNIT = rf"(?P<of>{'|'.join(_YEARS)}|year|month|week|day)s?"
_RELATIVE = re.compile(
    rf"(?i)\b(?:(?P<which>last|next|this) (?P<unit>year|month|week)|(?P<ago>{_COUNT}) {_UNIT} ago|yesterday"
    rf"|(?P<twice>year|month|week) before last|last (?P<named>(?-i:{'|'.join(MONTHS)})))\b"
)
_BESIDE = re.compile(
    rf"(?i)\b(?:(?P<count>{_COUNT}) {_UNIT} )?(?P<side>before|prior to|until|after) {_SPOKEN}",
)
_UNNAMED = re.sub(r"\?P<\w+>", "?:", _SPOKEN)
_BETWEEN = re.compile(  # "from 2017 until 2019", "between May 2017 and 2018", "2019/2020", "in 2016, 2018 and in 2021"
    rf"(?i)(?:\b(?:between|from|in|during) )?\b{_UNNAMED}(?:,(?: in)? {_UNNAMED})*\s*"
    rf"(?P<to>,? (?:and|or)(?: in)?|to|until|till|through|/|-|–)\s*{_UNNAMED}"
)
_DECADES = {"fifties": "195", "sixties": "196", "seventies": "197", "eighties": "198", "nineties": "199"}
_DECADE = re.compile(
    rf"(?i)(?:\b(?:in|during) )?\b(?:(?:the )?(?P<ten>[12]\d{{2}})0['’]?s|the (?P<called>{'|'.join(_DECADES)}))\b"
)
_ERA = re.compile(r"\b(?:AD|CE) ?(?P<after>\d{1,3})\b|\b(?P<year>\d{1,3}) (?:AD|CE)\b|\b\d+ (?P<before>BCE?)\b")


def check_date(date: str) -> str:
    """The date itself; UsageError for anything else."""
    try:
        if _DATE.fullmatch(date):
            datetime.date.fromisoformat(f"{date}-01-01"[:10] if len(date) == 4 else f"{date}-01"[:10])
            return date
    except ValueError:  # 31 February
        pass
    raise UsageError(f'"{date}" is no date; write 2020, 2020-03, 2020-03-01 or "March 2020".')


def as_iso(date: str) -> str:
    """A date as somebody writes it, "2021-05", "May 2021" or "3 May 2021", in ISO form; UsageError for anything else."""
    said = re.fullmatch(_SPOKEN, " ".join(date.split()), re.IGNORECASE)
    return check_date(_as_said(said) if said else date)


def begun(dates: Iterable[str], as_of: str | None) -> bool:
    """Whether what has these dates was there at a date: from the first of them on; what has none always was.

    As far as both are given: what is of 2020-03 was there in 2020.
    """
    first = min(dates, default="")
    return not as_of or first[: len(as_of)] <= as_of


def nearest_first(dates: Iterable[str], at: str | None) -> list[str]:
    """The different dates by how near they are to `at`: the last that had begun then, those before it, those after it.

    Without `at`, the last first.
    """
    latest_first = sorted(set(dates), reverse=True)
    then = [date for date in latest_first if begun([date], at)]
    return then + [date for date in reversed(latest_first) if date not in then]


def spoken(date: str | None) -> str:
    """An ISO date as it stands in a sentence: "2021", "March 2021", "3 March 2021"; nothing for None."""
    year, _, rest = (date or "").partition("-")
    month, _, day = rest.partition("-")
    return " ".join(part for part in (day.lstrip("0"), MONTHS[int(month) - 1] if month else "", year) if part)


def asked_as_of(question: str, date: str | None) -> str:
    """The question as one about that date, if any; one that names the year already, or is put at another, is about that."""
    if not date or date[:4] in question or put_at(question):
        return question
    first = question.split(maxsplit=1)[0] if question.strip() else ""
    inside = question[:1].lower() + question[1:] if first.lower() in _FIRST else question
    return f"As of {spoken(date)}, {inside}"


def put_at(question: str, today: datetime.date | None = None) -> str | None:
    """The ISO date that a question is put at, in what introduces it or at its end; None where it names none there.

    A date elsewhere is a part of what is asked. "last year" and the like are seen from `today`.
    """
    found = next(filter(None, (pattern.search(question) for pattern in _PUT_AT)), None)
    return _iso(found) if found else _seen_from(question, today or datetime.date.today())


def asked_at(question: str, today: datetime.date | None = None) -> str | None:
    """The ISO date that a question is put at, or the only one that it names; "before 2019" is 2018, and "after 2019" 2020.

    Of a question about several dates or about a time, "in 2017 and in 2019", "in the 2010s", the first and the last:
    "2017/2019".
    """
    if said := _BETWEEN.search(question):
        first, *_, last = sorted(_iso(found) for found in re.finditer(rf"\b{_SPOKEN}", said[0]))
        return f"{first}/{neighbouring(last, -1) if said['to'] in ('until', 'till') and last > first else last}"
    if said := _DECADE.search(question):
        ten = said["ten"] or _DECADES[said["called"].lower()]
        return f"{ten}0/{ten}9"
    if said := _ERA.search(question):
        return "0001" if said["before"] else f"{max(1, int(said['after'] or said['year'])):04}"
    if beside := _BESIDE.search(question):
        sign = 1 if beside["side"].lower() == "after" else -1
        return neighbouring(_iso(beside), sign) if not beside["count"] else _apart(beside, sign)
    return put_at(question, today) or only_date(question)


def _apart(said: re.Match[str], sign: int) -> str:
    """The date that "two years before 2020" is."""
    date, count, unit = _iso(said), sign * _count(said["count"]), said["of"].lower()
    year, month, day = [*date.split("-"), "01", "01"][:3]
    return _moved(datetime.date(int(year), int(month), int(day)), count, unit)


def neighbouring(date: str, step: int) -> str:
    """The year, month or day that is so many steps after a date, or before it."""
    year, month, day = ([int(part) for part in date.split("-")] + [0, 0])[:3]
    if day:
        return (datetime.date(year, month, day) + datetime.timedelta(days=step)).isoformat()
    if month:
        count = 12 * year + month - 1 + step
        return f"{count // 12:04}-{count % 12 + 1:02}"
    return f"{year + step:04}"


def only_date(question: str) -> str | None:
    """The ISO date that a question names anywhere, if it names one alone."""
    found = list(re.finditer(rf"\b{_SPOKEN}", question))
    return _iso(found[0]) if len(found) == 1 else None


def dateline(text: str) -> str | None:
    """The day that one of its first two lines gives a text: "Minutes of the Club, 12 May 2022", "OSLO, 3 May 2021 - ..."."""
    first = [line for line in text[:2000].split("\n") if line.strip()][:2]
    found = next(filter(None, map(_DATELINE.match, first)), None)
    return _iso(found) if found and (found["iso"] or found["month"]) else None


def _iso(found: re.Match[str]) -> str:
    return existing(_as_said(found))


def _as_said(found: re.Match[str]) -> str:
    if found["iso"]:
        return found["iso"]
    if not found["month"]:
        return found["year"]
    month = 1 + next(place for place, name in enumerate(MONTHS) if name[:3].lower() == found["month"][:3].lower())
    whole = f"{found['year']}-{month:02}"
    day = found["day"] or found["day_after"]
    return f"{whole}-{int(day):02}" if day else whole


def existing(date: str) -> str:
    """The date as far as there is one: 31 February 2020 is February 2020; UsageError for what has no year."""
    try:
        return check_date(date)
    except UsageError:
        if len(date) <= 4:
            raise
        return existing(date.rpartition("-")[0])


def _seen_from(question: str, today: datetime.date) -> str | None:
    """The date that "last year", "three years ago", "last May", "the week before last" or "yesterday" are."""
    said = _RELATIVE.search(question)
    if not said:
        return None
    if said["named"]:
        month = 1 + MONTHS.index(said["named"])
        return f"{today.year - (month >= today.month):04}-{month:02}"
    if said["ago"]:
        return _moved(today, -_count(said["ago"]), said["of"].lower())
    if said["twice"]:
        return _moved(today, -2, said["twice"].lower())
    count = {"last": -1, "this": 0, "next": 1}[(said["which"] or "last").lower()]
    return _moved(today, count, (said["unit"] or "day").lower())


def _moved(date: datetime.date, count: int, unit: str) -> str:
    """So many units later, as closely as the unit says: a year, a month, or a day."""
    if unit == "month":
        return neighbouring(f"{date:%Y-%m}", count)
    if unit in ("day", "week"):
        return (date + datetime.timedelta(days=count * (7 if unit == "week" else 1))).isoformat()
    return f"{min(9999, max(1, date.year + count * _YEARS.get(unit, 1))):04}"


def _count(said: str) -> int:
    tens, _, ones = said.lower().replace("-", " ").partition(" ")
    if tens in _TENS:
        return _TENS[tens] + _COUNTS.get(ones, 0)
    return _COUNTS[said.lower()] if said.lower() in _COUNTS else int(said)


def undated(question: str, date: str | None) -> str:
    """What a question says besides its date: where the date decides what counts, its words are not to be looked for."""
    if not date:
        return question
    if "/" in date:
        return _DECADE.sub(" ", _BETWEEN.sub(" ", question)).strip()
    said = rf"(?i)(\bas of )?\b({spoken(date)}|{date})\b,?"
    other = rf"(?i:\bas of )?\b{_SPOKEN},?"  # as it is said otherwise: "Mar 3, 2020"
    question = re.sub(other, lambda found: " " if _iso(found) == date else found[0], question)
    return re.sub(said, " ", question).strip()
