"""Any stream as plain files, for other tools and other eyes. No stream by itself; dated facts have files of their own
(`_temporal_files.py`), which can be read back.

Each an object a line, UTF-8:
  lessons.jsonl   name, document, text, items: [{question, answer, context}], dates: [...] of what it says, in the order in
                  which they are learned
  probes.jsonl    lesson (its name) or set (of what must be kept), question, answers: [...], context, kind, as_of, fact or
                  null; the one answer "" means that there is none
  texts.jsonl     text: held-out text, where the stream has any
and stream.json: name, score (by what an answer counts as learned), digest, about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accrete.errors import HomeError, UsageError
from accrete.evaluate.streams import Stream, Task, _temporal_files, digest
from accrete.evaluate.streams._files import shown
from accrete.files import write_atomically
from accrete.types import Probe


def write(stream: Stream, folder: Path) -> list[str]:
    """Write the stream into a new or empty folder; returns the names of the files.

    Raises UsageError where the folder holds something, and HomeError where nothing can be written.
    """
    try:
        if folder.exists() and next(folder.iterdir(), None) is not None:
            raise UsageError(f"{shown(folder)} holds files already; name a new folder.")
        if _is_dated(stream):
            _temporal_files.write(stream, folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            for name, rows in _tables(stream).items():
                _save(folder / name, "".join(map(_line, rows)))
    except OSError as error:
        raise HomeError(f"Cannot write into {shown(folder)}: {error.strerror}.") from None
    return sorted(path.name for path in folder.iterdir())


def _is_dated(stream: Stream) -> bool:
    """Whether the files of `temporal` hold all of it."""
    probes = [probe for task in stream.tasks for probe in task.probes]
    return stream.name == "temporal" and not stream.keep and all(probe.fact and probe.as_of for probe in probes)


def _tables(stream: Stream) -> dict[str, Iterable[Mapping[str, Any]]]:
    about = {"name": stream.name, "score": stream.score, "digest": digest(stream), "about": dict(stream.about)}
    texts = {"texts.jsonl": [{"text": text} for text in stream.texts]} if stream.texts else {}
    return {
        "stream.json": [about],
        "lessons.jsonl": map(_lesson, stream.tasks),
        "probes.jsonl": _probes(stream),
        **texts,
    }


def _lesson(task: Task) -> dict[str, Any]:
    document = task.document
    items = [asdict(item) for item in document.items]
    return {
        "name": task.name,
        "document": document.name,
        "text": document.text,
        "items": items,
        "dates": list(task.dates),
    }


def _probes(stream: Stream) -> Iterator[dict[str, Any]]:
    for task in stream.tasks:
        yield from ({"lesson": task.name} | _probe(probe) for probe in task.probes)
    for name, probes in stream.keep.items():
        yield from ({"set": name} | _probe(probe) for probe in probes)


def _probe(probe: Probe) -> dict[str, Any]:
    return {
        "question": probe.question,
        "answers": list(probe.answers),
        "context": probe.context,
        "kind": probe.kind,
        "as_of": probe.as_of,
        "fact": asdict(probe.fact) if probe.fact else None,
    }


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _save(path: Path, text: str) -> None:
    write_atomically(path, lambda new: _write(new, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
