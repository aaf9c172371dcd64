"""A lesson as token sequences, the same for every method and for measuring. Ends at what `fit` is fed."""

from __future__ import annotations

from accrete.lm.batch import Sequence
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence, text_sequences
from accrete.types import Lesson


def study_sequences(lm: LM, lesson: Lesson, window: int = 256) -> list[Sequence]:
    """The study items of a lesson with their answers as targets; without items its text, `window` tokens at a time."""
    if lesson.items:
        return [study_sequence(lm, item.question, item.answer, item.context) for item in lesson.items]
    return text_sequences(lm, lesson.document.text, window)
