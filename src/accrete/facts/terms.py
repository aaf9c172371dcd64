"""Who ends whom in one history: from what statements say of their beginning and end to the terms in which they held. No I/O.

A term is one value, said by one statement or by several one after the other; it begins with the first and ends where the one
that was stated last says an end, or where the next value begins:

    "Ada 2018 to 2020"   "Ada in 2019"              Ada [2018, 2019) [2019, 2020), nobody after it
    "Ada 2018 to 2020"   "Ada in 2021"              Ada [2018, 2020), nobody, Ada [2021, ...)

A statement may say an end alone, "In 2021, Bo stepped down". It belongs to the term of Bo that was not over by then, whoever
said that. Where nobody did, Bo held on the last day before 2021, and who held before him until then at the latest; from the
last date that was heard of before 2021 on both may have held, and both are given:

    "Ada since 2018"   "Bo until 2021"              Ada [2018, 2021)  Bo [2018, 2021), nobody after it
    "Ada since 2018"   "Bo since 2019"   "Bo until 2021"       Ada [2018, 2019)  Bo [2019, 2021), nobody after it

Ends at terms, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = ""  # the end of what never held


class Said(NamedTuple):
    """A statement of a history: the key of its value and the dates that it says; one `beside` others ends none."""

    id: int
    value: str
    since: str | None
    until: str | None
    stated_on: str | None
    beside: bool


class Term(NamedTuple):
    """The half-open interval [since, until) of a statement; `until` is NEVER where it never held.

    `parent` is the statement before it; `contradicts` the same where its value is another; `begun_by` the one whose beginning
    it has, where it says none itself.
    """

    id: int
    since: str | None
    until: str | None
    parent: int | None
    contradicts: int | None
    begun_by: int | None


class _Placed(NamedTuple):
    """A statement with its beginning, and when who stood before it is over: then, or by its end if that is all it says."""

    said: Said
    since: str | None
    over: str | None
    begun_by: int | None = None
    beside: bool = False

    @property
    def ends_alone(self) -> bool:
        """Whether nobody says when it began."""
        return self.said.since is None and self.said.until is not None and self.begun_by is None

    @property
    def order(self) -> tuple[bool, str, int]:
        """What has no date comes first, by when it was stated. On one day who ended comes before who began, and before the
        ends of who began."""
        rank = 0 if self.ends_alone else 2 if self.begun_by else 1
        if self.since:
            return True, self.over or "", rank
        return False, (self.said.until if self.ends_alone else self.said.stated_on) or "", rank


@dataclass
class _Chain:
    """The statements of one term so far, as places in the order, and the end that was stated last."""

    places: list[int] = field(default_factory=list)
    stated: tuple[str, int] = ("", 0)
    end: str | None = None

    def is_over(self, one: _Placed) -> bool:
        """Whether it had ended when this statement begins, or was made, if it has no date."""
        when = one.since or one.said.stated_on
        return bool(self.end and when and self.end <= when and not one.begun_by)

    def take(self, place: int, one: Said) -> None:
        self.places.append(place)
        if one.until and (stated := (one.stated_on or "", one.id)) >= self.stated:
            self.stated, self.end = stated, one.until


def terms(history: Sequence[Said], several: bool) -> list[Term]:
    """The terms of a history whose statements are given as they were read. Of one date the later stated stands, then the later
    read. With `several` values at once none ends another."""
    stated = sorted(history, key=lambda one: one.stated_on or "")
    placed = sorted((_placed(one, stated, several) for one in stated), key=lambda one: one.order)
    ends = _own_ends(placed, several)
    found = []
    for place, one in enumerate(placed):
        before = None if several or not place else placed[place - 1].said
        after = None if several else next((other for other in placed[place + 1 :] if not other.beside), None)
        own = ends[place]
        if after and after.over:
            own = min(own, after.over) if own is not None else after.over
        elif after and own is None:
            own = NEVER  # neither has a date: the later one stands
        other = before.id if before and before.value != one.said.value else None
        found.append(Term(one.said.id, one.since, own, before and before.id, other, one.begun_by))
    return found


def _own_ends(placed: Sequence[_Placed], several: bool) -> list[str | None]:
    """Of each where it is said again, of the last of a term the end of that."""
    chains: dict[str, _Chain] = {}
    ends: list[str | None] = [None] * len(placed)
    finished = []
    for place, one in enumerate(placed):
        if not (several or one.beside):  # another value ends the terms before it
            finished += [chains.pop(value) for value in list(chains) if value != one.said.value]
        chain = chains.get(one.said.value)
        if chain is None or chain.is_over(one) or one.ends_alone:
            finished += [chain] if chain else []
            chain = chains[one.said.value] = _Chain()
        chain.take(place, one.said)
    for chain in [*finished, *chains.values()]:
        for place, again in zip(chain.places, [*chain.places[1:], None], strict=True):
            ends[place] = chain.end if again is None else placed[again].since or NEVER
    return ends


def _placed(one: Said, history: Sequence[Said], several: bool) -> _Placed:
    if one.since or not one.until:
        return _Placed(one, one.since, one.since, beside=one.beside)
    if begun := _beginning(one, history, several):
        return _Placed(one, begun.since, begun.since, begun.id, begun.beside)
    if several:
        return _Placed(one, None, None, beside=one.beside)
    # "since 2021" is not before "until March 2021": it may well be who came after it
    over = min(
        (other.since for other in history if other.since and one.until.startswith(other.since)), default=one.until
    )
    dates = (date for other in history if other is not one for date in (other.since, other.until))
    heard = max((date for date in dates if date and date < over), default=None)
    return _Placed(one, heard, over, beside=one.beside)


def _beginning(end: Said, history: Sequence[Said], several: bool) -> Said | None:
    """The last statement of the value of an end alone, if its term was not over before that end: by its own, or another's."""
    assert end.until is not None
    begun = [one for one in history if one.value == end.value and (one.since or not one.until)
             and (one.since or "") < end.until and not (one.until and one.until < end.until)]  # fmt: skip
    last = max(begun, key=lambda one: one.since or "", default=None)
    if last is None or several:
        return last
    others = (one.since for one in history if one.value != end.value and one.since and not one.beside)
    return None if any((last.since or "") < other < end.until for other in others) else last
