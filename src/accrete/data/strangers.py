"""A lesson about somebody else: its own sentences with other names, which say what all such sentences have in common.

"Who owns Pitholm Mill?" becomes "Who owns Aldby Mill?". What is read there as well is not what tells Pitholm Mill apart, and a
lesson that writes there is heard by every question of the same form. No list of names is needed: a word is a name here if no
general question or answer has it, and what takes its place are words that only one of them has; a capital stands for a
capital. So a rare verb is taken for a name too, numbers and single letters are not, and where general questions and lessons
are not of one language, or a script has no capitals, little is said about anybody. Ends at lessons.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from accrete.types import Document, Example, Lesson

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def strangers(lesson: Lesson, general: Sequence[tuple[str, str]], count: int, draw: random.Random) -> list[Lesson]:
    """So many such lessons, each with names of its own; none where no general question has a name to lend.

    `general` has questions with their answers. A name stays the same within one of the lessons.
    """
    counts = Counter(word for row in general for word in set(_WORD.findall(" ".join(row))))
    rare = [word for word, n in counts.items() if n == 1 and len(word) > 1]
    names = {True: [word for word in rare if word[0].isupper()], False: [word for word in rare if word[0].islower()]}
    if not names[True]:
        return []
    return [_with_other_names(lesson, counts, names, draw) for _ in range(count)]


def _with_other_names(lesson: Lesson, known: Counter[str], names: dict[bool, list[str]], draw: random.Random) -> Lesson:
    others: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        word = match[0]
        of_its_kind = names[word[0].isupper()]
        if word in known or len(word) == 1 or not of_its_kind:
            return word
        return others.setdefault(word, draw.choice(of_its_kind))

    def said(text: str) -> str:
        return _WORD.sub(other, text)

    return replace(
        lesson,
        document=Document(lesson.document.name, said(lesson.document.text)),
        items=tuple(Example(said(one.question), said(one.answer), said(one.context)) for one in lesson.items),
        restatements=tuple(said(text) for text in lesson.restatements),
    )
