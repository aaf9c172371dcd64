"""Reading again: every question is asked with its passage. Ends at the pairs that are answered as they were written."""

from __future__ import annotations

from collections.abc import Sequence

from accrete.dreams.write import Writer
from accrete.lm.tasks import about
from accrete.scoring import exact_match
from accrete.types import Example

SPARE = 8  # tokens more than the longest answer has: a longer one is another


def reread(passage: str, pairs: Sequence[Example], reader: Writer, longest: int) -> list[Example]:
    """The pairs about a passage that the reader, with the passage before it, answers as they are answered.

    `longest` is how many tokens the longest of the answers has.
    """
    if not pairs:
        return []
    asked = [about(passage, pair.question, instructed=True) for pair in pairs]
    answers = reader(asked, max_new_tokens=longest + SPARE)
    return [pair for pair, given in zip(pairs, answers, strict=True) if exact_match(given.split("\n")[0], pair.answer)]
