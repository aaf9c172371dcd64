"""What a stream is: tasks in order, each a document and its probes, and what must not be lost meanwhile. Ends at plain data.

Every other file of this package is one stream, found by its name: a docstring whose first line says what it is, OPTIONS (what
of `Options` it goes by, and what that means there), and `make(options) -> Stream`. A stream is drawn or read whole; the same
options give the same stream.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from accrete.config import Config
from accrete.errors import UsageError, did_you_mean
from accrete.types import Document, Probe

ABSTAINED = ""  # the one accepted answer of a question that has none (SQuAD 2.0): "not stated", or nothing


@dataclass(frozen=True)
class Task:
    """One lesson of a stream. The items of `document` are its given study items, in other wordings than the probes.

    A probe is asked closed-book; its `context` is the passage that answers it, shown for the ceiling alone.
    `dates` (ISO) are those of what the document says, for methods that can be asked "as of" a date.
    """

    name: str
    document: Document
    probes: tuple[Probe, ...]
    dates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """Tasks in the order in which they are learned.

    keep: named sets of probes that no task teaches, asked with their context before them where they have one.
    texts: what no task teaches either; drift and perplexity are measured on it, beside the sentinels.
    score: by what an answer counts as learned: "contains", "exact_match", "token_f1" or "grade" (scoring.py), the best over
    the accepted answers.
    about: what it was made of, in JSON's terms (files, facts, whose protocol), for the report.
    """

    name: str
    tasks: tuple[Task, ...]
    keep: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    score: str = "contains"
    about: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()


class Options(Config):
    """What a caller may ask of any stream. None is the stream's own default."""

    seed: int = 0
    lessons: int | None = Field(None, ge=1)
    facts: int | None = Field(None, ge=1)  # world: a lesson; temporal: in all
    limit: int | None = Field(None, ge=1)  # at most so many facts (or questions) are asked about in all
    data: Path | None = None  # a file or folder of the stream's own format
    probes: Path | None = None  # documents: the questions to ask


def names() -> list[str]:
    """Every stream there is: the modules of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def make(name: str, options: Options) -> Stream:
    """The stream of that name. UsageError for one that there is not or an option that it does not go by, DocumentError
    for data that cannot be read."""
    check_options(name, [key for key in Options.model_fields if key != "seed" and getattr(options, key) is not None])
    stream: Stream = _module(name).make(options)
    return stream


def check_name(name: str) -> str:
    """`name` itself when there is such a stream; else UsageError."""
    if name not in names():
        raise UsageError(f'There is no stream "{name}".{did_you_mean(name, names())}')
    return name


def options_of(name: str) -> Mapping[str, str]:
    """The options that a stream goes by, each with what it means there."""
    found: Mapping[str, str] = _module(name).OPTIONS
    return found


def check_options(name: str, given: Iterable[str]) -> None:
    """UsageError where one of the options that were given changes nothing about the stream."""
    known = options_of(name)
    for key in given:
        if key not in known:
            takes = ", ".join(f"--{option}" for option in known)
            raise UsageError(f'The stream "{name}" has no use for --{key}; it takes {takes}.')


def digest(stream: Stream) -> str:
    """sha256 over everything that is taught and asked; not over the place of the files, which differs by machine."""
    taught = [(task.name, task.document.text, task.document.items, task.probes, task.dates) for task in stream.tasks]
    return hashlib.sha256(repr((taught, sorted(stream.keep.items()), stream.score, stream.texts)).encode()).hexdigest()


def summary(name: str) -> str:
    """The first line of the stream's docstring."""
    return description(name).splitlines()[0]


def description(name: str) -> str:
    """All of the stream's docstring: what is taught, asked and kept."""
    return (_module(name).__doc__ or "").strip()


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{check_name(name)}")
