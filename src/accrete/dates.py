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
_SPOKEN = (
    r"(?:(?P<iso>\d{4}-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)|"
    rf"(?:(?:(?P<day>\d{{1,2}}) )?(?P<month>{'|'.join(MONTHS)}) )?(?P<year>[12]\d{{3}}))\b"
)
_AT = r"(?i:\b(?:of|in|on|at|by|to|for|is|now|with) )"
_PUT_AT = (  # "[2020] The ...", "As of March 2020, who ...", "Who was ... in 2020?"
    re.compile(rf"^\s*\[{_SPOKEN}\]"),
    re.compile(rf"^[^,:?\d]*?{_AT}{_SPOKEN}[^,:?\d]*[,:]"),
    re.compile(rf"{_AT}{_SPOKEN}[?.]?\s*$"),
)
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_RELATIVE = re.compile(
    rf"(?i)\b(?:last (?P<unit>year|month)|(?P<ago>\d{{1,3}}|{'|'.join(_COUNTS[1:])}|an?) years? ago|yesterday)\b"
)


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
    return check_date(_iso(said) if said else date)


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
    """The question as one about that date, if any; one that names the year already is about it."""
    if not date or date[:4] in question:
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


def only_date(question: str) -> str | None:
    """The ISO date that a question names anywhere, if it names one alone."""
    found = list(re.finditer(rf"\b{_SPOKEN}", question))
    return _iso(found[0]) if len(found) == 1 else None


def _iso(found: re.Match[str]) -> str:
    if found["iso"]:
        return found["iso"]
    month = f"-{1 + MONTHS.index(found['month'].capitalize()):02}" if found["month"] else ""
    return found["year"] + month + (f"-{int(found['day']):02}" if found["day"] else "")


def _seen_from(question: str, today: datetime.date) -> str | None:
    """The date that "last year", "three years ago", "last month" or "yesterday" are."""
    said = _RELATIVE.search(question)
    if not said:
        return None
    if said["ago"]:
        return f"{today.year - (_count(said['ago'])):04}"
    unit = said["unit"].lower() if said["unit"] else "yesterday"
    if unit == "year":
        return f"{today.year - 1:04}"
    day = today - datetime.timedelta(days=1 if unit == "yesterday" else today.day)
    return day.isoformat() if unit == "yesterday" else f"{day:%Y-%m}"


def _count(said: str) -> int:
    return 1 if said.lower() in ("a", "an") else _COUNTS.index(said.lower()) if said.lower() in _COUNTS else int(said)


def undated(question: str, date: str | None) -> str:
    """What a question says besides its date: where the date decides what counts, its words are not to be looked for."""
    return re.sub(rf"(?i)(\bas of )?\b({spoken(date)}|{date})\b,?", " ", question).strip() if date else question
