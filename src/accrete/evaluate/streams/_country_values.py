"""Values of The World Factbook as answers: tidy, with other forms that are right as well; and whether two are the same.

Pure; no stream by itself. A value that does not fit the form of its relation has no answers and is not asked about.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from accrete.scoring import normalise

PEOPLE = ("chief of state", "head of government")
LABELS = {  # what the line of a country's document begins with that states the value
    "chief of state": "Executive branch - chief of state: ",
    "head of government": "Executive branch - head of government: ",
    "capital": "Capital - name: ",
    "population": "Population: ",
    "government type": "Government type: ",
    "national holiday": "National holiday: ",
    "independence": "Independence: ",
}
_OFFICE = (
    r"(?:(?:interim|acting|transitional) )?(?:president|prime minister|premier|king|queen|sultan|amir|prince"
    r"|chief executive|chief minister|governor|commissioner|administrator|taoiseach)(?: \(prime minister\))?"
)
_OF = r"(?: of (?:the )?(?:republic|swiss confederation|government|territorial (?:council|assembly)))?"
_PERSON = re.compile(rf"({_OFFICE}(?: and {_OFFICE})?{_OF}) (?!of |or |vice )([^,;:(\[\d]+)", re.IGNORECASE)
_CAPITAL = re.compile(r"([^\d,;()]+?)(?: \((?!on |[^()]*capital\))([^()]+)\)| \([^()]*\))?")
_DATE = re.compile(
    r"(?<![-\d])\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_GOVERNMENT = re.compile(r"republic|monarch|democracy|federation|communist")
_ALIKE = 0.7  # two names this alike may be one person spelt in two ways, or two of one family


def answers(relation: str, value: str) -> tuple[str, ...]:
    """The value as it is said, then in other forms; empty when it has no tidy form."""
    return _FORMS[relation](value.strip()) if relation in _FORMS else ()


def same(relation: str, before: tuple[str, ...], after: tuple[str, ...]) -> bool | None:
    """Whether two values agree: a form of both, or words of one among those of the other. None: it cannot be told."""
    if {normalise(form) for form in before} & {normalise(form) for form in after}:
        return True
    old, new = normalise(before[-1]), normalise(after[-1])
    if set(old.split()) <= set(new.split()) or set(new.split()) <= set(old.split()):
        return True
    alike = relation in PEOPLE and difflib.SequenceMatcher(None, old, new).ratio() >= _ALIKE
    return None if alike else False


def _person(value: str) -> tuple[str, ...]:
    """With the office, and without it. The Factbook writes family names in capitals: without any it is no name."""
    found = _PERSON.match(value)
    name = found[2].split(" of ")[0].strip() if found else ""
    shouted = any(len(part) > 1 and part.isupper() for part in re.split(r"[\s-]", name))
    return (f"{found[1]} {name}", name) if found and shouted and len(name.split()) <= 6 else ()


def _capital(value: str) -> tuple[str, ...]:
    found = _CAPITAL.fullmatch(value)
    return (found[1], *re.split(r"[/,] ?", found[2] or "")) if found and found[2] else (found[1],) if found else ()


def _population(value: str) -> tuple[str, ...]:
    return (value,) if re.fullmatch(r"\d{1,3}(,\d{3})*", value) else ()


def _government(value: str) -> tuple[str, ...]:
    plain = " ".join(re.sub(r"\([^()]*\)", "", value).split())
    tidy = _GOVERNMENT.search(plain) and len(plain.split()) <= 8 and not re.search(r"[;:,]", plain)
    return tuple(dict.fromkeys((value, plain))) if tidy else ()


def _holiday(value: str) -> tuple[str, ...]:
    days = set(_DATE.findall(value))
    return tuple(days) if len(days) == 1 else ()


def _independence(value: str) -> tuple[str, ...]:
    found = re.match(rf"{_DATE.pattern} \d{{4}}\b", value)
    return (found[0],) if found else ()


_FORMS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "chief of state": _person,
    "head of government": _person,
    "capital": _capital,
    "population": _population,
    "government type": _government,
    "national holiday": _holiday,
    "independence": _independence,
}
