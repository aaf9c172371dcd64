"""Everything that can go wrong in words a user can act on. Ends at the exception classes: the command line prints them.

AccreteError                     exit code 1
├── DocumentError                a document cannot be read: missing, empty, binary, wrong encoding, malformed line
├── ModelError                   a model cannot be loaded, or is of a kind that cannot be used here
├── HomeError                    the home directory cannot be read or written: read-only, full, damaged
│   └── LockedError              another process is learning into this home
├── HistoryError                 no such commit, nothing to undo, a state that does not fit this model or method
├── LessonError                  a lesson was taken back because it did harm; exit code 2
│   └── ForgettingError          it cost more of what was known than it may
├── OfflineError                 the network would be needed and is switched off
└── UsageError                   exit code 2: an unknown method, option or key
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AccreteError(Exception):
    """One sentence that says what is wrong and, where it can, what to do."""

    exit_code = 1


class DocumentError(AccreteError):
    pass


class ModelError(AccreteError):
    pass


class HomeError(AccreteError):
    pass


class LockedError(HomeError):
    pass


class HistoryError(AccreteError):
    pass


class LessonError(AccreteError):
    exit_code = 2


class ForgettingError(LessonError):
    pass


class OfflineError(AccreteError):
    pass


class UsageError(AccreteError):
    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean "x"?' for a near miss, else ' Known: a, b.'"""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f' Did you mean "{near[0]}"?'
    return f" Known: {', '.join(names)}." if names else ""
