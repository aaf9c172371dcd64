"""What was taught in the forms of others: a Hugging Face model directory, a PEFT adapter. Ends at files on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from accrete.errors import HistoryError, UsageError
from accrete.files import replace_directory
from accrete.lm.model import LM
from accrete.methods.base import Method
from accrete.store.home import plain_errors

FORMATS = ("hf", "peft")


def export(lm: LM, method: Method, directory: Path, form: str, domains: Sequence[str]) -> Path:
    """Write `domains` together into `directory`, which must not hold anything yet; several domains become one.

    Raises UsageError for an unknown format or a method that has none of it, HistoryError when the directory is in use.
    """
    write = _writer(lm, method, form, domains)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HistoryError(f"{directory} exists and is not empty; choose another place.")
    with plain_errors(directory.parent, "the directory"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists():
            directory.rmdir()
        replace_directory(directory, write)
        mask = os.umask(0)
        os.umask(mask)
        for file in directory.iterdir():  # safetensors lets only its owner read what it writes
            file.chmod(0o666 & ~mask)
    return directory


def _writer(lm: LM, method: Method, form: str, domains: Sequence[str]) -> Callable[[Path], None]:
    if form not in FORMATS:
        raise UsageError(f'Unknown format "{form}"; choose hf or peft.')
    capability = {"hf": "fuse", "peft": "save_adapter"}[form]
    write = getattr(method, capability, None)
    if write is None:
        raise UsageError(
            f'This method cannot be exported as "{form}": `accrete methods` says which can ({capability}).'
        )
    if form == "peft":
        return lambda folder: write(domains, folder)
    return lambda folder: _hugging_face(lm, write(domains), folder)


def _hugging_face(lm: LM, weights: dict, folder: Path) -> None:
    """A model that loads anywhere; sentinels and background go with it, so that it is measured here as before."""
    lm.model.save_pretrained(folder, state_dict=weights)
    lm.tokenizer.save_pretrained(folder)
    sentinels = [{"question": q, "answers": list(a), "split": s} for q, a, s in lm.sentinels]
    background = [{"question": q, "answer": a} for q, a in lm.background]
    for name, rows in (("sentinels", sentinels), ("background", background)):
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, "utf-8")
