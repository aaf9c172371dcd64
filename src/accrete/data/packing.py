"""Documents of tokens laid into rows of one length, whole wherever they fit. Ends at arrays of ids.

A document cut in two leaves questions without their passage, and a model that is taught to invent the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

OPEN_ROWS = 128  # how many rows wait for a document that fills them; more waste less and mix better


def pack(documents: Iterable[Sequence[int]], length: int, end: int) -> Iterator[list[int]]:
    """Rows of exactly `length` ids; every document is closed by `end`, and `end` fills what is left.

    A document goes to the fullest row that has room for it. One longer than a row is cut off. Rows come when they are full
    or when nothing has fitted them for long; those that are still open at the end are not given out.
    """
    open_rows: list[list[int]] = []
    for document in documents:
        ids = [*document[: length - 1], end]
        fitting = [row for row in open_rows if len(row) + len(ids) <= length]
        if fitting:
            chosen = max(fitting, key=len)
            chosen.extend(ids)
        else:
            if len(open_rows) == OPEN_ROWS:
                fullest = max(open_rows, key=len)
                open_rows.remove(fullest)
                yield fullest + [end] * (length - len(fullest))
            open_rows.append(chosen := ids)
        if len(chosen) >= length - 2:
            open_rows = [row for row in open_rows if row is not chosen]
            yield chosen + [end] * (length - len(chosen))
