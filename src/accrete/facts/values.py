"""When two values are the same: "1,200 metres" and "1.2 km", "3 March 2021" and "2021-03-03", "the Guild" and "guild".

A key is made of each, so that a database can compare them: of dates the ISO date, of quantities the number in the base unit of
their dimension, of everything else SQuAD's normal form. Ends at keys; equal keys are equal values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from accrete.dates import MONTHS
from accrete.scoring import normalise

# A unit's names, and how many of the base unit of its dimension it is. Units that are not here are compared by name.
_UNITS = {
    name.replace("_", " "): (base, Decimal(factor))
    for base, names, factor in (
        ("metre", "mm millimetre millimeter", "0.001"),
        ("metre", "cm centimetre centimeter", "0.01"),
        ("metre", "m metre meter", "1"),
        ("metre", "km kilometre kilometer", "1000"),
        ("metre", "inch inches in", "0.0254"),
        ("metre", "foot feet ft", "0.3048"),
        ("metre", "yard yd", "0.9144"),
        ("metre", "mile mi", "1609.344"),
        ("gram", "mg milligram", "0.001"),
        ("gram", "g gram gramme", "1"),
        ("gram", "kg kilogram kilo", "1000"),
        ("gram", "tonne", "1000000"),
        ("gram", "ounce oz", "28.349523125"),
        ("gram", "pound lb", "453.59237"),
        ("second", "s sec second", "1"),
        ("second", "min minute", "60"),
        ("second", "h hr hour", "3600"),
        ("second", "day", "86400"),
        ("second", "week", "604800"),
        ("litre", "ml millilitre milliliter", "0.001"),
        ("litre", "cl centilitre centiliter", "0.01"),
        ("litre", "l litre liter", "1"),
        ("square metre", "m² m2 square_metre square_meter", "1"),
        ("square metre", "hectare ha", "10000"),
        ("square metre", "km² km2 square_kilometre square_kilometer", "1000000"),
        ("percent", "% percent per_cent", "1"),
        ("euro", "€ euro eur", "1"),
        ("dollar", "$ dollar usd us$", "1"),
        ("pound sterling", "£ gbp pound_sterling pounds_sterling", "1"),
    )
    for name in names.split()
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_WORDS = {word: number for number, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve".split())}  # fmt: skip
_QUANTITY = re.compile(
    r"(?P<sign>[-−+]?)(?P<number>\d{1,3}(?:[ ,’'\u00a0\u202f]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)\s*"
    rf"(?P<scale>{'|'.join(_SCALES)})?\s*(?P<unit>[^\d\s].*)?",
    re.IGNORECASE,
)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
_DAY_FIRST = re.compile(rf"(?:(\d{{1,2}})(?:st|nd|rd|th)?\s+)?(?:of\s+)?({_MONTH})\.?,?\s+(\d{{4}})", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"({_MONTH})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})", re.IGNORECASE)
_ISO = re.compile(r"\d{4}-\d{2}(?:-\d{2})?")


def value_key(value: str) -> str:
    """What two values have in common if and only if they are taken for the same; empty for one that says nothing."""
    text = " ".join(value.split()).strip(" .;")
    return _date(text) or _quantity(text) or normalise(text) or text


def is_of_kind(value: str, known: Iterable[str]) -> bool:
    """Whether it may follow these values: where they are all names, mere words or a mere number may not, nor words numbers.

    "The mayor of Tolvane is angry" says nothing of who is mayor. Words with an article may be a name: "a tailor's workshop".
    """
    kinds, kind = {_kind(one) for one in known}, _kind(value)
    return (kinds, kind) not in (({"name"}, "words"), ({"name"}, "number"), ({"number"}, "words"))


def _kind(value: str) -> str:
    if re.fullmatch(r"[-−€$£]?\d[\d.,]*(?: .*)?", value):
        return "number"
    words = value.split()
    if value[:1].islower():
        return "words" if words[0] not in ("the", "a", "an") else "either"
    capitals = sum(
        word[0].isupper() for word in words
    )  # one alone may begin a sentence: "Sugar cane is the chief export"
    return "name" if capitals > 1 and words[-1][0].isupper() else "either"


def same_value(one: str, other: str) -> bool:
    return value_key(one) == value_key(other)


def _date(text: str) -> str | None:
    if _ISO.fullmatch(text):
        return text
    if found := _DAY_FIRST.fullmatch(text):
        day, month, year = found.groups()
    elif found := _MONTH_FIRST.fullmatch(text):
        month, day, year = found.groups()
    else:
        return None
    number = next(n for n, name in enumerate(MONTHS, 1) if name[:3].lower() == month[:3].lower())
    return f"{year}-{number:02}" + (f"-{int(day):02}" if day else "")


def _quantity(text: str) -> str | None:
    text = re.sub(r"^(US\$|[€$£])\s*(\d.*)$", r"\2 \1", text)  # "€49" is "49 euros"
    first, _, rest = text.partition(" ")
    if first.lower() in _WORDS and rest:
        text = f"{_WORDS[first.lower()]} {rest}"
    found = _QUANTITY.fullmatch(text)
    if not found:
        return None
    try:
        number = Decimal(re.sub(r"[ ,’'\u00a0\u202f]", "", found["number"])) * _SCALES.get(
            (found["scale"] or "").lower(), 1
        )
    except InvalidOperation:
        return None
    number *= -1 if found["sign"] in ("-", "−") else 1
    unit, factor = _unit(found["unit"] or "")
    return f"{(number * factor).normalize():f} {unit}".strip()


def _unit(name: str) -> tuple[str, Decimal]:
    """The base unit and how many of it this is; a name that is no unit stands for itself."""
    plain = name.strip(" .").replace("-", " ")
    lower = plain.lower() if len(plain) > 2 else plain  # M is no metre
    for candidate in (plain, lower, lower.removesuffix("s")):
        if candidate in _UNITS:
            return _UNITS[candidate]
    return normalise(name), Decimal(1)
