"""Who ends whom in one history: from what statements say of their beginning and end to the terms in which they held. No I/O.

A term begins when its statement says so and goes on until its own end, or until the next begins. A statement may say an end
alone, "In 2021, Bo stepped down": it begins with the last earlier statement of its value, whoever made that. Where nobody made
one, Bo held on the last day before 2021, and who held before him until then at the latest; from the last that was heard before
2021 on both may have held, and both are given.

    "Ada since 2018"   "Bo until 2021"                      Ada [2018, 2021)  Bo [2018, 2021), nobody after it
    "Ada since 2018"   "Bo since 2019"   "Bo until 2021"    Ada [2018, 2019)  Bo [2019, 2021)

Ends at terms, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Said(NamedTuple):
    """A statement of a history: the key of its value and the dates that it says; one `beside` others ends none."""

    id: int
    value: str
    since: str | None
    until: str | None
    stated_on: str | None
    beside: bool


class Term(NamedTuple):
    """The half-open interval [since, until) of a statement; `until` is empty where it never held.

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
    """A statement with its beginning; `at` is from when on who stood before it is over: an end if its beginning is unknown."""

    said: Said
    since: str | None
    begun_by: int | None
    at: str | None

    @property
    def order(self) -> tuple[bool, str, int]:
        """Those without a date first, by when they were stated; who ended on a day before who began on it, an end last."""
        if self.since:
            return True, self.at or "", (2 if self.begun_by else 1) * (self.at == self.since)
        return False, self.at or self.said.stated_on or "", 1 - bool(self.at)


def terms(history: Sequence[Said], several: bool) -> list[Term]:
    """The terms of a history whose statements are given as they were read. Of one date the later stated stands, then the later
    read. With `several` values at once each holds until its own end."""
    stated = sorted(history, key=lambda one: one.stated_on or "")
    placed = sorted((_placed(one, stated, several) for one in stated), key=lambda one: one.order)
    said_again = {one.begun_by: one.since for one in placed}  # by who says when it ended
    found = []
    for place, one in enumerate(placed):
        before = None if several or not place else placed[place - 1].said
        after = None if several else next((other for other in placed[place + 1 :] if not other.said.beside), None)
        ends = [date for date in (one.said.until, after and after.at, said_again.get(one.said.id)) if date]
        if after and not after.at and not ends:
            ends = [""]  # neither has a date: the later one stands, this never did
        other = before.id if before and before.value != one.said.value else None
        found.append(Term(one.said.id, one.since, min(ends, default=None), before and before.id, other, one.begun_by))
    return found


def _placed(one: Said, history: Sequence[Said], several: bool) -> _Placed:
    if one.since or not one.until:
        return _Placed(one, one.since, None, one.since)
    begun = [(other.since, place) for place, other in enumerate(history)
             if other.value == one.value and other.since and other.since < one.until]  # fmt: skip
    if begun:
        since, place = max(begun)
        return _Placed(one, since, history[place].id, since)
    if several:
        return _Placed(one, None, None, None)
    # "since 2021" is not before "until March 2021": it may well be who came after it
    at = min((other.since for other in history if other.since and one.until.startswith(other.since)), default=one.until)
    heard = [date for other in history if other is not one for date in (other.since, other.until) if date and date < at]
    return _Placed(one, max(heard, default=None), None, at)
