"""A lesson as token sequences, the same for every method and for measuring. Ends at what `fit` is fed."""

from __future__ import annotations

from accrete.data.chunks import chunks
from accrete.lm.batch import Sequence
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.types import Document, Lesson

CONTEXT = 32  # tokens of the text before it that a passage sees: what a pronoun at its beginning stands for
SLACK = 4  # a passage is counted sentence by sentence, and may come out a few tokens longer


def study_sequences(lm: LM, lesson: Lesson, window: int = 256) -> list[Sequence]:
    """The study items of a lesson with their answers as targets; without items its text, `window` tokens at a time.

    What is said in other words is read with the text, as texts of its own.
    """
    if lesson.items:
        return [study_sequence(lm, item.question, item.answer, item.context) for item in lesson.items]
    texts = [lesson.document, *(Document(lesson.document.name, other) for other in lesson.restatements)]
    return [sequence for text in texts for sequence in text_sequences(lm, text, window)]


def text_sequences(lm: LM, document: Document, window: int, context: int | None = None) -> list[Sequence]:
    """A text as passages of whole sentences, each after the last `context` tokens of the one before; at most `window` tokens.

    Every token but the very first is a target of exactly one sequence. Without `context` it is CONTEXT, or a quarter of a
    small window; with nearly all of the window it slides.
    """
    window = min(window, lm.context_length)
    before = max(1, min(CONTEXT, window // 4) if context is None else min(context, window - 2 * SLACK))
    limit = window - before

    def ids_of(text: str) -> list[int]:
        return list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])

    sequences: list[Sequence] = []
    seen: list[int] = []
    last = 0
    for passage in chunks(document, max(1, limit - SLACK), lambda text: len(ids_of(text))):
        ids = ids_of(document.text[last : passage.end])  # with the space before it
        last = passage.end
        for start in range(0, len(ids), limit):
            piece = ids[start : start + limit]
            sequences.append(Sequence((*seen, *piece), target_from=len(seen)))
            seen = (seen + piece)[-before:]
    return [sequence for sequence in sequences if sequence.targets > 0]
