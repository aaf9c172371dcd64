"""Real text and real reading questions to measure on, and what a reader without understanding scores. No torch."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from accrete.data.real import pieces_of, rows, texts
from accrete.errors import DocumentError
from accrete.types import Probe

SEED = 4_711
PIECE = 1_200  # characters of a text that are scored at once
TEXTS = {"openstax": "text/openstax.jsonl.xz", "wikipedia": "text/wikipedia.jsonl.xz"}
QUESTIONS = {"fairytale": "qa/fairytale_val.jsonl.xz", "squad": "eval/squad_v1_dev_half.jsonl.xz"}
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s")


def check_folder(folder: Path) -> None:
    """Raises DocumentError when a set is missing."""
    if not folder.is_dir():
        raise DocumentError(f"There is no data folder at {folder}.")
    for name in (*TEXTS.values(), *QUESTIONS.values()):
        if not (folder / name).exists():
            raise DocumentError(f"The data folder {folder} has no {name}.")


def pieces(folder: Path, name: str, count: int) -> list[str]:
    """Pieces of the texts that training leaves out."""
    found = [piece for text in texts(folder / TEXTS[name], kept_back=True) for piece in pieces_of(text, PIECE)]
    random.Random(SEED).shuffle(found)
    return found[:count]


def questions(folder: Path, name: str, count: int) -> list[Probe]:
    """Questions with their passage as context and every accepted answer."""
    found = [row for row in rows(folder / QUESTIONS[name]) if row["answers"]]
    random.Random(SEED).shuffle(found)
    return [Probe(row["question"], tuple(row["answers"]), row["context"]) for row in found[:count]]


def first_sentences(probes: Sequence[Probe]) -> list[str]:
    """The first sentence of every passage, as an answer."""
    return [_SENTENCE_END.split(probe.context.strip(), maxsplit=1)[0] for probe in probes]


def random_spans(probes: Sequence[Probe]) -> list[str]:
    """Words in a row from anywhere in the passage, as many as the answer to some question of the set has."""
    draw = random.Random(SEED)
    spans = []
    for probe in probes:
        words = probe.context.split()
        length = min(len(words), len(draw.choice(probes).answers[0].split()))
        start = draw.randint(0, len(words) - length)
        spans.append(" ".join(words[start : start + length]))
    return spans
