"""What every lesson studied, whole, so that it can be studied again when another lesson is taken out. Ends at its sequences.

Replay keeps a sample, of a bounded size, for lessons to come; this is a record that only forgetting reads. A commit brings the
tokens of its own lesson: about ten kilobytes for eighty questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accrete.data.replay import question_of
from accrete.errors import HistoryError
from accrete.lm import batch


class Studied:
    """Lesson by lesson, in their order, the token sequences that each studied."""

    def __init__(self) -> None:
        self.lessons: dict[str, tuple[batch.Sequence, ...]] = {}

    def add(self, lesson: str, sequences: Sequence[batch.Sequence]) -> None:
        self.lessons.pop(lesson, None)
        self.lessons[lesson] = tuple(sequences)

    def drop(self, lesson: str) -> None:
        self.lessons.pop(lesson, None)

    def of(self, lesson: str) -> list[batch.Sequence]:
        """What a lesson studied, but for questions that a later one answers anew: what was said last stands."""
        names = list(self.lessons)
        if lesson not in self.lessons:
            return []
        anew = {question_of(one) for name in names[names.index(lesson) + 1 :] for one in self.lessons[name]}
        return [one for one in self.lessons[lesson] if question_of(one) not in anew]

    def state_dict(self) -> dict[str, Any]:
        """The lessons in their order; of each its tokens, end to end, and a row (length, target_from) for each sequence."""
        state: dict[str, Any] = {"lessons": list(self.lessons)}
        for lesson, sequences in self.lessons.items():
            state[f"{lesson}/tokens"] = torch.tensor([t for one in sequences for t in one.ids], dtype=torch.int32)
            rows = [(len(one.ids), one.target_from) for one in sequences]
            state[f"{lesson}/rows"] = torch.tensor(rows, dtype=torch.int32).reshape(-1, 2)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly this; nothing where a home was written before there was such a record."""
        self.lessons = {lesson: _sequences(state, lesson) for lesson in state.get("lessons", [])}


def _sequences(state: Mapping[str, Any], lesson: str) -> tuple[batch.Sequence, ...]:
    tokens, rows = state.get(f"{lesson}/tokens"), state.get(f"{lesson}/rows")
    if not isinstance(tokens, Tensor) or not isinstance(rows, Tensor) or int(rows[:, 0].sum()) != len(tokens):
        raise HistoryError("The saved state does not fit: what a lesson studied is not whole.")
    parts = torch.split(tokens, rows[:, 0].tolist()) if len(rows) else ()
    return tuple(
        batch.Sequence(tuple(part.tolist()), first) for part, first in zip(parts, rows[:, 1].tolist(), strict=True)
    )
