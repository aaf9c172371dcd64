"""Keeps what was written about a document in a folder, for the next that studies the same one. Ends at a `Studied`.

Writing and reading again takes minutes a lesson and depends on the base model and the document alone: methods that are
compared on one base share it. The seconds that it took are kept with it, so that every lesson still counts them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accrete.dreams.study import Options, Studied
from accrete.files import in_turn, write_text
from accrete.types import Document, Example


class Written:
    """A folder with a file for each document, of one base model and one writer: who gives the folder answers for that."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, document: Document, options: Options, write: Callable[[], Studied]) -> Studied:
        """What was written about this document under these options, by whoever was first; else by `write`, now.

        While another process writes about it, this one waits.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = hashlib.sha256(f"{document.sha256} {options.model_dump_json()}".encode()).hexdigest()[:24]
        path = self.folder / f"{mark}.json"
        with in_turn(path.with_suffix(".lock")):
            if known := _read(path):
                return known
            studied = write()
            write_text(path, json.dumps(asdict(studied), ensure_ascii=False, indent=1) + "\n")
            return studied


def _read(path: Path) -> Studied | None:
    """None where there is no file, or a damaged one."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        items = tuple(Example(**item) for item in kept.pop("items"))
        left_out = tuple((str(reason), int(count)) for reason, count in kept.pop("left_out"))
        return Studied(items, tuple(kept.pop("restatements")), left_out=left_out, **kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
