"""Keeps what was written about a document in a folder, for the next that studies the same one. Ends at a `Studied`.

Writing and reading again takes minutes a lesson and depends on the base model and the document alone: methods that are
compared on one base share it. The seconds that it took are kept with it, so that every lesson still counts them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accrete.dreams.study import Options, Studied
from accrete.files import write_text
from accrete.types import Document, Example


class Written:
    """A folder with a file for each document, of one base model and one writer: who gives the folder answers for that."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, document: Document, options: Options) -> Studied | None:
        """What was written about this document under these options; None where nothing was, or the file is damaged."""
        try:
            kept: dict[str, Any] = json.loads(self._path(document, options).read_text("utf-8"))
            items = tuple(Example(**item) for item in kept.pop("items"))
            left_out = tuple((str(reason), int(count)) for reason, count in kept.pop("left_out"))
            return Studied(items, tuple(kept.pop("restatements")), left_out=left_out, **kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, document: Document, options: Options, studied: Studied) -> None:
        """Write it down, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._path(document, options), json.dumps(asdict(studied), ensure_ascii=False, indent=1) + "\n")

    def _path(self, document: Document, options: Options) -> Path:
        mark = hashlib.sha256(f"{document.sha256} {options.model_dump_json()}".encode()).hexdigest()
        return self.folder / f"{mark[:24]}.json"
