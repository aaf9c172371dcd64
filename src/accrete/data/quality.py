"""Leave out of a document what is not worth learning, and say what and why. Ends at the document with the rest, unchanged.

When in doubt it stays: a paragraph too many costs seconds, a paragraph missing is a fact that is never learned.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accrete.data.documents import is_code
from accrete.data.seen import Seen
from accrete.errors import DocumentError, UsageError
from accrete.types import Document

LONG_LINE = 160  # characters: a line longer than this is a paragraph of its own
LANGUAGE_FROM = 200  # characters: the language of less is guesswork
SURE = 0.99  # probability from which a language is believed
DOMINANT = 0.6  # share of the text in one language that makes it the language of the document


@dataclass(frozen=True)
class LeftOut:
    """A piece of a document that is not learned. `start` is its first character, or the number of the item from 0."""

    reason: str
    text: str
    start: int


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    code: bool


def clean(
    document: Document, seen: Seen | None = None, *, language: str | None = None
) -> tuple[Document, tuple[LeftOut, ...]]:
    """The document without near-duplicates, boilerplate, paragraphs in another language, and stray numbers and symbols.

    `seen` remembers paragraphs and items from one document to the next, by their source; `language` ("en") is the one
    expected, else it is the one that most of the document is in. What stays is unchanged and in order; source code stays
    whole. Raises DocumentError when nothing would be left, and then nothing of it is remembered.
    """
    if language is not None and language not in _identifier().labels:
        raise UsageError(f'No language has the code "{language}"; English is "en".')
    if is_code(document):
        return document, ()
    seen = Seen() if seen is None else seen
    name = document.source or document.name
    seen.forget(name)  # read again, it is no copy of itself
    try:
        items, repeated = _items(document, seen, name)
        spans = _spans(document, seen, name, language)
    except DocumentError:
        seen.forget(name)
        raise
    text = _without(document.text, [(start, end) for start, end, _ in spans])
    if not text.strip() and {reason for _, _, reason in spans} == {"too short"}:
        text, spans = document.text, []  # a short document is not an empty one
    left_out = [LeftOut(reason, document.text[start:end].rstrip(), start) for start, end, reason in spans] + repeated
    if left_out and not text.strip() and not items:
        seen.forget(name)
        raise DocumentError(f"Nothing of {name} is left to learn: {_counted(left_out)}.")
    return (replace(document, text=text, items=items) if left_out else document), tuple(left_out)


def _items(document: Document, seen: Seen, name: str) -> tuple[tuple[Any, ...], list[LeftOut]]:
    kept, repeated = [], []
    for number, item in enumerate(document.items):
        if before := seen.item(item, name):
            repeated.append(LeftOut(f"duplicate of {before}", f"{item.question} {item.answer}", number))
        else:
            kept.append(item)
    return tuple(kept), repeated


def _spans(document: Document, seen: Seen, name: str, language: str | None) -> list[tuple[int, int, str]]:
    """What to leave out: (start, end, reason) in order, the space that follows included."""
    text = document.text
    pieces = list(_pieces(text))
    foreign = _foreign(text, pieces, name, language)
    edges = dict(_edges(text, pieces)) if name.lower().endswith(".pdf") else {}
    spans: list[tuple[int, int, str]] = []
    for number, piece in enumerate(pieces):
        after = pieces[number + 1].start if number + 1 < len(pieces) else len(text)
        if piece.code:
            continue
        lines = edges.get(number, [])
        kept = _without(text[piece.start : piece.end], [(a - piece.start, b - piece.start) for a, b in lines])
        reason = ""
        if _is_boilerplate(kept):
            reason = "boilerplate"
        elif _is_too_short(kept) and not (number and text[pieces[number - 1].end - 1] in "?:"):  # an answer
            reason = "too short"
        elif number in foreign:
            reason = f"wrong language ({foreign[number]})"
        elif before := seen.paragraph(kept, name):
            reason = f"near-duplicate of {before}"
        if reason or not kept.strip():
            spans.append((piece.start, after, reason or "boilerplate"))
        else:
            spans += [(start, end, "boilerplate") for start, end in lines]
    return spans


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept, place = [], 0
    for start, end in spans:
        kept.append(text[place:start])
        place = end
    return "".join([*kept, text[place:]])


def _counted(left_out: list[LeftOut]) -> str:
    """'2 × near-duplicate, 1 × boilerplate'"""
    counts = Counter(re.sub(r" of .*", "", one.reason, flags=re.DOTALL) for one in left_out)
    return ", ".join(f"{count} × {reason}" for reason, count in counts.most_common())


def told(left_out: Sequence[LeftOut], most: int = 20) -> dict[str, Any]:
    """What was left out, in a form that can be kept: how many pieces of each kind, and how the first of them begin."""
    kinds = Counter(re.split(r" of | \(", one.reason)[0] for one in left_out)
    first = [{"reason": one.reason, "begins": " ".join(one.text[:200].split())[:80]} for one in left_out[:most]]
    return {"counts": dict(kinds), "first": first}


# --- paragraphs -----------------------------------------------------------------------------------------------------


def _pieces(text: str) -> Iterator[_Piece]:
    """Paragraphs: blank lines divide them, a long line is one by itself, and a fenced block is one as a whole."""
    start = end = -1  # of the paragraph that is open
    fence, code = "", False

    for match in re.finditer(r"[^\n]+", text):
        line = match[0]
        mark = line.lstrip()[:3]
        if fence:
            end = match.end()
            if mark == fence:
                yield _Piece(start, end, True)
                start, fence = -1, ""
            continue
        blank, fenced = not line.strip(), mark in {"```", "~~~"}
        alone = len(line) > LONG_LINE
        if start >= 0 and (blank or fenced or alone or text.find("\n\n", end, match.start()) >= 0):
            yield _Piece(start, end, code)
            start = -1
        if blank:
            continue
        indented = line.startswith(("    ", "\t"))
        if fenced:
            start, end, fence = match.start(), match.end(), mark
        elif alone:
            yield _Piece(match.start(), match.end(), indented)
        elif start < 0:
            start, end, code = match.start(), match.end(), indented
        else:
            end, code = match.end(), code and indented
    if start >= 0:
        yield _Piece(start, end, code or bool(fence))


# --- too short ------------------------------------------------------------------------------------------------------

_LONE = re.compile(r"[\W_]*(?:\d{1,4}[\W_]*)?", re.DOTALL)
_KEPT = re.compile(
    r"\s*(?:[-=~*_.^]{3,}+\s*$|.*[|:=$€£%]|(?:1\d{3}|20\d{2})\s*$|\d+[.)]\s|.*\n[-=~*^\"'`#]{2,}+\s*$|.*\d[.,]\d)"
)


def _is_too_short(paragraph: str) -> bool:
    """A lone number or symbols. A year may be a heading, a price an answer, and tables, formulas and rules are no strays."""
    return len(paragraph) <= 200 and bool(_LONE.fullmatch(paragraph)) and not _KEPT.match(paragraph)


# --- boilerplate ----------------------------------------------------------------------------------------------------

_LINES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\W*(?:copyright\s*)?(?:©|\(c\)|copyright(?=\s*\d{4}))\s*(?:\w.{0,80})?\b(?:19|20)\d\d\b.{0,80}",
        r"(?:.{0,100}[\W])?all rights reserved\W*",
        r"(?:page|seite)\s+\d{1,5}(?:\s*(?:of|/|von)\s*\d{1,5})?",
        r"(?:share|tweet|pin|like|follow|e-?mail|print)(?:\W+(?:this|it|us|on|via|to|by|with|your|friends|and|article|story|"
        r"post|page|share|tweet|pin|like|print|facebook|twitter|x|linkedin|whatsapp|pinterest|reddit|instagram|youtube|"
        r"telegram|e-?mail))+\W*",
        r"(?:click here to )?(?:subscribe to|sign up for|join) (?:our|the) (?:\w+ )?(?:newsletter|mailing list)s?\b.{0,60}",
        r"skip to (?:main )?(?:content|navigation)|(?:back|return) to (?:the )?top(?: of (?:the )?page)?|toggle navigation",
        r"(?:accept|reject|allow|manage) (?:all )?cookies|cookie (?:settings|preferences|policy)|advertisement|read more\W*",
        r"(?:proudly )?powered by (?:wordpress|drupal|jekyll|blogger|shopify|ghost|mediawiki)\W*",
    )
]
_COOKIES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:we|our partners|(?:this|our) (?:web ?)?site) (?:and our partners )?uses? (?:\w+ ){0,3}cookies",
        r"\b(?:you (?:accept|agree|consent)|by (?:continuing|clicking|using)|continu\w+ to (?:use|browse))",
        r"\b(?:browsing|user|your|best|better) experience|analy[sz]e (?:our )?traffic|personali[sz]ed? (?:ads|content)",
        r"\b(?:accept|reject) all\b|\b(?:privacy|cookie) (?:policy|notice|settings)|learn more\b|\bgot it\b",
    )
]
_MENU = """home|menu|search|about|about us|contact|contact us|login|log in|log out|sign in|sign up|register|privacy|cart
privacy policy|terms|terms of use|terms of service|terms & conditions|sitemap|site map|help|faq|faqs|careers|jobs|press|blog
news|shop|account|my account|subscribe|newsletter|next|previous|prev|support|products|services|legal|imprint|cookies|rss
accessibility|feedback|skip to content|facebook|twitter|instagram|linkedin|youtube"""
_ENTRIES = frozenset(_MENU.replace("\n", "|").split("|"))


def _is_boilerplate(paragraph: str) -> bool:
    """Cookie banners, copyright lines, page numbers, share buttons, menus: short, and nothing else beside them."""
    if len(paragraph) > 600:
        return False
    lines = [line.strip() for line in paragraph.split("\n") if line.strip()]
    if lines and all(len(line) <= 200 and any(p.fullmatch(line) for p in _LINES) for line in lines):
        return True
    whole = " ".join(lines)
    if "cookie" in whole.lower() and _COOKIES[0].search(whole) and sum(bool(p.search(whole)) for p in _COOKIES) >= 3:
        return True
    return _is_menu(lines)


def _is_menu(lines: list[str]) -> bool:
    """Whether these are the words of a navigation bar: at least four, and most of them known ones."""
    entries = [entry.strip(" -*\t").lower() for line in lines for entry in re.split(r"[|·•»›>]|\s{2,}|\t", line)]
    entries = [entry for entry in entries if entry]
    if len(entries) == 1:
        entries = entries[0].split()
    known = sum(entry in _ENTRIES for entry in entries)
    return len(entries) >= 4 and known >= 3 and known >= 0.6 * len(entries) and all(len(e) <= 30 for e in entries)


def _edges(text: str, pieces: list[_Piece]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The lines that a printed page carries above and below its text, of each paragraph that has some.

    A header that comes again is left out from its second time on: the first may be the title.
    """
    lines: dict[int, list[tuple[int, int]]] = {}
    places: dict[str, list[tuple[int, tuple[int, int], int]]] = {}
    for number, piece in enumerate(pieces):
        spans = [
            (m.start(), min(m.end() + 1, len(text)))
            for m in re.compile(r"[^\n]+").finditer(text, piece.start, piece.end)
        ]
        for span in dict.fromkeys(spans[:2] + spans[-2:]):
            line = text[slice(*span)].strip()
            numbers = re.findall(r"^\d{1,5}\b|\b\d{1,5}$", line)
            rest = re.sub(r"^\d{1,5}\b|\b\d{1,5}$", "#", line)
            if len(line) <= 120:
                places.setdefault(rest, []).append((number, span, int(numbers[0]) if numbers else -1))
    for rest, found in places.items():
        counted = [count for _, _, count in found]
        if len(found) < max(3, len(pieces) / 4):
            continue
        rising = all(a < b for a, b in itertools.pairwise(counted))
        words = len(re.findall(r"[^\W\d]{2,}", rest))
        if "#" not in rest or (rising and words >= 2):
            found = found[1:]
        elif not (rising and rest.strip("-–— ") == "#"):
            continue
        for number, span, _ in found:
            lines.setdefault(number, []).append(span)
    for number, spans in lines.items():
        yield number, sorted(set(spans))


# --- language -------------------------------------------------------------------------------------------------------

# Read as each other so often, and so close, that one in the other is no reason to leave a paragraph out.
_FAMILIES = ("no nn da sv", "hr sr bs sl mk bg", "cs sk", "id ms jv", "es ca gl pt an ext", "it la", "ru uk be",
             "zh wuu yue ja", "de lb", "nl af fy", "hi mr ne sa", "fr oc wa")  # fmt: skip
_WIDE = "ar bg cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _language(text: str) -> str:
    """The language of a paragraph; empty when it is too short, no prose, or not clearly one of the wide-spread ones."""
    sample = text[:2000]
    if len(sample) < LANGUAGE_FROM or sum(map(str.isalpha, sample)) < 0.6 * len(sample):
        return ""
    code, probability = _identifier().classify(sample)
    return code if probability >= SURE and code in _WIDE.split() else ""


def _foreign(text: str, pieces: list[_Piece], name: str, expected: str | None) -> dict[int, str]:
    """The paragraphs that are clearly in another language than `expected`, or than the document as a whole."""
    found, sizes, short = {}, Counter[str](), []
    for number, piece in enumerate(pieces):
        if piece.code:
            continue
        if piece.end - piece.start < LANGUAGE_FROM:
            short.append(text[piece.start : piece.end])
        elif code := _language(text[piece.start : piece.end]):
            found[number] = code
            sizes[code] += piece.end - piece.start
    if not found:
        return {}
    together = " ".join(short)  # of one alone nothing can be said
    if code := _language(together):
        sizes[code] += len(together)
    most, size = sizes.most_common(1)[0]
    dominant = most if size >= DOMINANT * sizes.total() else None
    if expected and dominant and not _close(dominant, expected):
        raise DocumentError(
            f'Nothing of {name} is left to learn: it is in another language ("{most}", not "{expected}").'
        )
    language = expected or dominant
    if language is None:
        return {}  # of two languages neither is the wrong one
    return {n: code for n, code in found.items() if not _close(code, language) and _is_still(text, pieces[n], code)}


def _close(one: str, other: str) -> bool:
    return one == other or any({one, other} <= set(family.split()) for family in _FAMILIES)


def _is_still(text: str, piece: _Piece, code: str) -> bool:
    """Whether it is that language without its names, too: a list of Polish players is no Polish."""
    words = " ".join(w for w in text[piece.start : piece.end][:4000].split() if w[:1].islower() or not w[:1].isascii())
    found, probability = _identifier().classify(words)
    return len(words) < 60 or (found == code and probability >= SURE)
