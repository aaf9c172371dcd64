"""The words of a text as the index sees them, and which of a question's words say what it is about. Ends at words."""

from __future__ import annotations

import functools
import re
import unicodedata

# Chinese and Japanese put no space between words: every character is one. Elsewhere a word is letters and digits.
_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\W_{_CHARACTERS}]+")
_ACCENT = re.compile("[\u0300-\u036f]+")
_WRITTEN = re.compile(r"\w+")
_LONGEST = 64  # characters; what is longer is no word, and its beginning names it


def words(text: str) -> list[str]:
    """The words of a text in their order: lower case, without accents and English endings; punctuation is none."""
    if text.isascii():
        found = _WORD.findall(text.lower())
    else:
        bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
        found = _WORD.findall(unicodedata.normalize("NFC", bare).casefold())
    return [_stem(word) for word in found]


@functools.lru_cache(maxsize=200_000)
def _stem(word: str) -> str:
    """What "approves", "approved" and "approving" have in common: plural, past and progressive without their endings.

    Few rules, and nothing known of exceptions: what they conflate wrongly, the rest of a question tells apart.
    """
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("es") and len(word) > 4 and word[-3] in "sxzho":
        word = word[:-2]
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ing") and len(word) > 6:
        word = word[:-3]
    elif word.endswith("ed") and len(word) > 4:
        word = word[:-2]
    return (word[:-1] if word.endswith("e") and len(word) > 3 else word)[:_LONGEST]


STOP_WORDS = frozenset(
    words(
        """a about above after again against all also am an and any are as at be because been before being below between both
    but by can could did do does doing down during each else few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just ll may me might more most must my myself no nor not now
    of off on once only or other our ours ourselves out over own re s same shall she should so some such t than that the
    their theirs them themselves then there these they this those through to too under until up upon ve very was we were
    what when where which while who whom whose why will with within without would you your yours yourself yourselves
    called give known many much name named say tell"""
    )
)


def telling(question: str) -> dict[str, int]:
    """Its different words without stop words, or all of them where nothing else is left; and of which name each is a part.

    0 for none, else 1, 2, ... A word of a name begins with a capital or a digit where no sentence begins ("the Both
    Thieves"); words of one name follow each other. Lower-case questions have none, and all their words count alike.
    """
    found: dict[str, int] = {}
    names, last = 0, -1  # so far, and where the last word of one ended
    for match in _WRITTEN.finditer(question):
        first, before = match[0][0], question[: match.start()].rstrip(" \t\"'“”‘’«»()[]¿¡*_")
        name = first.isdigit() or (first.isupper() and match[0] != "I" and before[-1:] not in ("", *".!?:…\n"))
        if name:
            names += not (last >= 0 and question[last : match.start()].isspace())
            last = match.end()
        for word in words(match[0]):
            found[word] = found.get(word, 0) or (names if name else 0)
    return {word: name for word, name in found.items() if name or word not in STOP_WORDS} or found
