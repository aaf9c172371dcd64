"""What was taught in the forms of others: a Hugging Face model directory, a PEFT adapter. Ends at files on disk, read back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from accrete.errors import HistoryError, UsageError
from accrete.files import replace_directory
from accrete.lm.batch import collate
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.methods.base import Method
from accrete.store.home import plain_errors
from accrete.types import Query

FORMATS = ("hf", "peft")
COMPARED = 8  # general questions with their answers
LEAST = 0.9  # share of first choices in which a model and what was written of it agree: numbers are rounded, no more


class Compared(NamedTuple):
    """A model read back beside the one that was written: the largest difference of a logit, the share of equal choices."""

    difference: float
    agreement: float
    tokens: int


def export(lm: LM, method: Method, directory: Path, form: str, domains: Sequence[str]) -> Compared | None:
    """Write `domains` together into `directory`, which must not hold anything yet; several domains become one.

    A whole model is loaded again before the directory gets its name, and asked what the taught one is asked; None where there
    is nothing to compare: an adapter, several domains, a model without background.
    Raises UsageError for an unknown format or a method that has none of it, HistoryError when the directory is in use or what
    was written does not answer like the taught model.
    """
    write = _writer(lm, method, form, domains)
    compared: list[Compared] = []

    def checked(folder: Path) -> None:
        write(folder)
        if form == "hf" and len(domains) < 2 and lm.background:
            compared.append(_compared(lm, method, folder, domains))

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HistoryError(f"{directory} exists and is not empty; choose another place.")
    with plain_errors(directory.parent, "the directory"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists():
            directory.rmdir()
        replace_directory(directory, checked)
        mask = os.umask(0)
        os.umask(mask)
        for file in directory.iterdir():  # safetensors lets only its owner read what it writes
            file.chmod(0o666 & ~mask)
    return compared[0] if compared else None


@torch.no_grad()
def _compared(lm: LM, method: Method, folder: Path, domains: Sequence[str]) -> Compared:
    """What was written, loaded as anybody would load it, beside the taught model."""
    batch = collate([study_sequence(lm, *row) for row in lm.background[:COMPARED]], lm.device, lm.pad)
    with _reading(method, *domains):
        ours_NV = lm.logits(batch)[batch.mask_BT].float()
    again = load(str(folder), device=str(lm.device), dtype=str(lm.dtype).removeprefix("torch."), offline=True)
    theirs_NV = again.logits(batch)[batch.mask_BT].float()
    agreement = float((ours_NV.argmax(-1) == theirs_NV.argmax(-1)).float().mean())
    found = Compared(float((ours_NV - theirs_NV).abs().max()), agreement, len(ours_NV))
    if not agreement >= LEAST:
        raise HistoryError(
            f"The written model answers otherwise than the taught one: {1 - agreement:.0%} of the tokens."
        )
    return found


@contextlib.contextmanager
def _reading(method: Method, domain: str | None = None) -> Iterator[None]:
    """As the method reads what is asked of a domain."""
    condition = getattr(method, "condition", None)
    if condition is None:
        yield
        return
    with condition([Query("", domain=domain)])[0].within():
        yield


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

    def whole(folder: Path) -> None:
        weights, changes = write(domains)
        _hugging_face(lm, weights, changes, folder)

    return whole


def _hugging_face(lm: LM, weights: dict[str, torch.Tensor], changes: dict[str, Any], folder: Path) -> None:
    """A model that loads anywhere; sentinels and background go with it, so that it is measured here as before."""
    lm.model.save_pretrained(folder, state_dict=weights)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | changes, indent=2) + "\n", "utf-8")
    lm.tokenizer.save_pretrained(folder)
    sentinels = [{"question": q, "answers": list(a), "split": s} for q, a, s in lm.sentinels]
    background = [{"question": q, "answer": a} for q, a in lm.background]
    for name, rows in (("sentinels", sentinels), ("background", background)):
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, "utf-8")
