"""Real text and real reading questions for pretraining, with what must stay unseen left out. Ends at strings.

One text in fifty, chosen by the hash of its id, is held out for measuring; questions that occur in an evaluation set, and
passages that do, are dropped.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError
from accrete.lm.tasks import CONTINUE, NOT_STATED, about, prompt
from accrete.lm.tokenizer import chatml

HELD_OUT_ONE_IN = 50
_SHINGLE = 12  # words in a row that two texts share only when one was copied from the other
_WORD = re.compile(r"\w+")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.xz file; any other file is one object with its text."""
    if not path.exists():
        raise DocumentError(f"There is no text at {path}: set the folder of the texts, or drop it from the recipe.")
    name = path.name.removesuffix(".xz")
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        if name.endswith(".jsonl"):
            yield from (json.loads(line) for line in file)
        else:
            yield {"text": file.read()}


def held_out(identity: str) -> bool:
    """Whether the text of this id is kept for measuring: one in fifty."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


def texts(path: Path, kept_back: bool = False) -> Iterator[str]:
    """The texts of a file: those to train on, or those held out. Plain files and rows without an id are never held out."""
    for row in rows(path):
        identity = row.get("id")
        if (identity is not None and held_out(str(identity))) == kept_back:
            yield row["text"]


def real_text(paths: Sequence[Path], seed: int = 0, piece: int = 1_500) -> Iterator[str]:
    """Pieces of at most `piece` characters, from every file in turn while it lasts; each once."""
    draw = random.Random(seed)
    piles = []
    for path in paths:
        pieces = [piece_of for text in texts(path) for piece_of in pieces_of(text, piece)]
        draw.shuffle(pieces)
        piles.append(pieces)
    while piles := [pile for pile in piles if pile]:
        text = draw.choice(piles).pop()
        yield _to_continue(text, draw) if draw.random() < 0.04 else text


def pieces_of(text: str, size: int) -> Iterator[str]:
    """A text cut before spaces into pieces of at most `size` characters; tails under 200 are left out."""
    start = 0
    while start < len(text):
        end = len(text) if start + size >= len(text) else text.rfind(" ", start + 1, start + size)
        end = end if end > start else start + size
        if end - start > 200:
            yield text[start:end].strip()
        start = end


def _to_continue(text: str, draw: random.Random) -> str:
    cut = text.find(" ", draw.randint(len(text) // 4, len(text) // 2))
    return chatml([(prompt(CONTINUE, text[:cut]), text[cut:].strip())]) if cut > 0 else text


# --- questions ------------------------------------------------------------------------------------------------------


class Unseen:
    """What an evaluation asks and reads, so that training rows which repeat it can be dropped."""

    def __init__(self, paths: Iterable[Path]):
        self._questions: dict[tuple[str, ...], list[list[str]]] = {}  # by their first words
        self._shingles: set[int] = set()
        for path in paths:
            for row in rows(path):
                asked = _words(row["question"])
                self._questions.setdefault(tuple(asked[:3]), []).append(asked)
                self._shingles.update(_shingles(_words(row.get("context", ""))))

    def overlaps(self, text: str) -> bool:
        """Whether the text holds one of the questions, or twelve words in a row of one of the passages."""
        words = _words(text)
        if not self._shingles.isdisjoint(_shingles(words)):
            return True
        return any(
            words[i : i + len(question)] == question
            for i in range(len(words) - 2)
            for question in self._questions.get(tuple(words[i : i + 3]), ())
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shingles(words: list[str]) -> set[int]:
    return {hash(tuple(words[i : i + _SHINGLE])) for i in range(len(words) - _SHINGLE + 1)}


def real_questions(paths: Sequence[Path], unseen: Unseen, seed: int = 0, longest: int = 1_700) -> Iterator[str]:
    """Reading questions and prompted tasks as conversations, shuffled; rows longer than `longest` characters are left out.

    Rows of `context, question, answers` are gathered by passage; one question in eight is put to another passage, which
    does not state its answer. Rows of `prompt, completion` are taken as they are.
    """
    draw, documents = random.Random(seed), []
    for path in paths:
        asked: dict[str, list[tuple[str, str]]] = {}
        for row in rows(path):
            if "completion" in row:
                user, reply = row["prompt"].strip(), row["completion"].strip()
                if reply and len(user) + len(reply) <= longest and not unseen.overlaps(f"{user}\n{reply}"):
                    documents.append(chatml([(user, reply)]))
            elif row["answers"] and not held_out(str(row.get("doc_id", ""))):
                asked.setdefault(row["context"], []).append((row["question"], row["answers"][0]))
        documents += list(_readings(asked, unseen, draw, longest))
    draw.shuffle(documents)
    yield from documents


def _readings(
    asked: dict[str, list[tuple[str, str]]], unseen: Unseen, draw: random.Random, longest: int
) -> Iterator[str]:
    asked = {
        context: [(question, reply) for question, reply in turns if not unseen.overlaps(question)]
        for context, turns in asked.items()
        if not unseen.overlaps(context)
    }
    everywhere = [(context, question) for context, turns in asked.items() for question, _ in turns]
    for context, turns in asked.items():
        for start in range(0, len(turns), 4):
            chosen = turns[start : start + 4]
            drawn = [draw.choice(everywhere) for _ in chosen if draw.random() < 0.14]
            chosen += [(question, NOT_STATED) for place, question in drawn if place != context]
            draw.shuffle(chosen)
            if len(context) + sum(len(q) + len(a) for q, a in chosen) <= longest:
                abstains = any(answer == NOT_STATED for _, answer in chosen)
                first = about(context, chosen[0][0], instructed=abstains or draw.random() < 0.35)
                yield chatml([(first, chosen[0][1]), *chosen[1:]])


def mixed(first: Iterator[str], second: Iterator[str], share: float, seed: int = 0) -> Iterator[str]:
    """Documents of both, `share` of the CHARACTERS from `second` while it lasts.

    On average at most one of `second` follows one of `first`: where they are much shorter, their share stays smaller.
    """
    draw, written = random.Random(seed), [1, 0]
    for document in first:
        while draw.random() < 0.5 and written[1] < share / (1 - share) * written[0]:
            if (extra := next(second, None)) is None:
                break
            written[1] += len(extra)
            yield extra
        written[0] += len(document)
        yield document
