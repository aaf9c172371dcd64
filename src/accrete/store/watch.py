"""What a lesson must leave as it was, besides the sentinels: its neighbours in the memory graph, and what is expected.

What is expected is asked when a watch is made, neighbours when they are known, and both again afterwards. Ends at figures
for the guard and for the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from accrete.errors import ModelError
from accrete.store.expectations import Expectation, Judge
from accrete.types import Probe

SHOWN = 80  # characters of an answer that is not as expected


class Watch:
    """`grades` grades the answers to probes, `answers` answers prompts; both as the model is when they are called."""

    def __init__(
        self,
        expected: Sequence[Expectation],
        grades: Callable[[Sequence[Probe]], Sequence[float]],
        answers: Callable[[Sequence[str]], Sequence[str]],
        judge: Judge | None = None,
    ):
        self.expected, self.judge = expected, judge
        self._grades, self._answers = grades, answers
        self._before = self._asked()
        self.look_at(())

    def look_at(self, near: Sequence[Probe]) -> None:
        """These are the neighbours."""
        self.near = near
        self._near_before = self._graded()

    def after(self) -> dict[str, Any]:
        """The share of neighbours answered before and now, and by their questions what was lost."""
        near, now_said = self._graded(), self._asked()
        found: dict[str, Any] = {}
        if self.near:
            was, now = (sum(grades) / len(self.near) for grades in (self._near_before, near))
            lost = [probe.question for probe, a, b in zip(self.near, self._near_before, near, strict=True) if a > b]
            found = {"neighbours": len(self.near), "neighbours_before": was, "neighbours_after": now, "disturbed": lost}
        if self.expected:
            states = list(zip(self.expected, self._before, now_said, strict=True))
            found["expected"] = len(self.expected)
            found["expected_lost"] = [
                _told(one, b.answer) for one, a, b in states if a.met is not False and b.met is False
            ]
            if unmet := [one.prompt for one, a, _ in states if a.met is False]:
                found["expected_unmet_before"] = unmet
        return found

    @property
    def unmet(self) -> list[str]:
        """What was not as expected when the watch was made, with the answer instead."""
        states = zip(self.expected, self._before, strict=True)
        return [_told(one, said.answer) for one, said in states if said.met is False]

    def _graded(self) -> list[float]:
        return list(self._grades(self.near)) if self.near else []

    def _asked(self) -> list[_Said]:
        answers = self._answers([one.prompt for one in self.expected]) if self.expected else []
        try:
            return [_Said(text, one.met(text, self.judge)) for one, text in zip(self.expected, answers, strict=True)]
        except ModelError as error:
            raise ModelError(f"What is expected cannot be judged (accrete expect lists it). {error}") from None


class _Said(NamedTuple):
    """An answer, and whether it is as expected; None where nobody can say."""

    answer: str
    met: bool | None


def _told(one: Expectation, answer: str) -> str:
    return f'"{one.prompt}" {one}, but the answer is "{" ".join(answer.split())[:SHOWN]}"'
