"""What a lesson must leave as it was, besides the sentinels: its neighbours in the memory graph, and what is expected.

What is expected is asked when a watch is made, neighbours when they are known, and both again afterwards. Ends at figures
for the guard and for the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accrete.store.expectations import Expectation, Judge
from accrete.types import Probe


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
        self._met_before = self._met()
        self.look_at(())

    def look_at(self, near: Sequence[Probe]) -> None:
        """These are the neighbours."""
        self.near = near
        self._near_before = self._graded()

    def after(self) -> dict[str, Any]:
        """The share of neighbours answered before and now, and by their questions what was lost."""
        near, met = self._graded(), self._met()
        found: dict[str, Any] = {}
        if self.near:
            was, now = (sum(grades) / len(self.near) for grades in (self._near_before, near))
            lost = [probe.question for probe, a, b in zip(self.near, self._near_before, near, strict=True) if a > b]
            found = {"neighbours": len(self.near), "neighbours_before": was, "neighbours_after": now, "disturbed": lost}
        if self.expected:
            states = list(zip(self.expected, self._met_before, met, strict=True))
            found["expected"] = len(self.expected)
            found["expected_lost"] = [f'"{one.prompt}" {one}' for one, a, b in states if a and b is False]
            if unmet := [one.prompt for one, a, _ in states if a is False]:
                found["expected_unmet_before"] = unmet
        return found

    def _graded(self) -> list[float]:
        return list(self._grades(self.near)) if self.near else []

    def _met(self) -> list[bool | None]:
        said = self._answers([one.prompt for one in self.expected]) if self.expected else []
        return [one.met(text, self.judge) for one, text in zip(self.expected, said, strict=True)]
