"""What a model that brings no sentinels must keep: its own greedy answers to general prompts. Ends at `lm.sentinels`.

Made once, by the base model, and kept in the home: home/sentinels/<base digest>.jsonl. A third of the prompts guards, a third
is scored, a third is background for replay and KL: no prompt serves two purposes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accrete.data.general import general_prompts
from accrete.files import json_lines, read_json_lines, write_text
from accrete.lm import decode
from accrete.lm.model import LM
from accrete.scoring import SENTINEL_TOKENS
from accrete.store.home import plain_errors
from accrete.types import Query

_SPLITS = ("guard", "scored", "background")


def provide_sentinels(lm: LM, home: Path, progress: Callable[[int], None] = lambda done: None) -> None:
    """Give a model without sentinels its own; `lm` must be in its base state and the home held for writing."""
    if read_sentinels(lm, home):
        return
    path, rows = _path(lm, home), _make(lm, progress)
    with plain_errors(home):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_lines(rows))
    _take(lm, rows)


def read_sentinels(lm: LM, home: Path) -> bool:
    """Take up what was made in this home at an earlier time; False when the model still has no sentinels."""
    if not lm.sentinels and (rows := _read(_path(lm, home))):
        _take(lm, rows)
    return bool(lm.sentinels)


def _path(lm: LM, home: Path) -> Path:
    return home / "sentinels" / f"{lm.digest[:16]}.jsonl"


def _take(lm: LM, rows: list[dict[str, str]]) -> None:
    lm.sentinels = tuple((r["question"], (r["answer"],), r["split"]) for r in rows if r["split"] != "background")
    if not lm.background:
        lm.background = tuple((r["question"], r["answer"]) for r in rows if r["split"] == "background")


def _make(lm: LM, progress: Callable[[int], None], batch_size: int = 32) -> list[dict[str, str]]:
    prompts, rows = general_prompts(), []
    for start in range(0, len(prompts), batch_size):
        progress(start)
        asked = prompts[start : start + batch_size]
        answers = decode.answer(lm, [Query(prompt) for prompt in asked], max_new_tokens=SENTINEL_TOKENS)
        rows += [{"question": q, "answer": a.text} for q, a in zip(asked, answers, strict=True)]
    # An empty answer is nothing to keep. The list goes from topic to topic, so every third is a fair third.
    return [row | {"split": _SPLITS[i % 3]} for i, row in enumerate(rows) if row["answer"]]


def _read(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier time; none when the file is missing or damaged, and then they are made again."""
    rows, whole = read_json_lines(path)
    whole = whole and all(
        row.keys() == {"question", "answer", "split"}
        and all(isinstance(value, str) and value for value in row.values())
        for row in rows
    )
    return rows if whole and {row["split"] for row in rows} == set(_SPLITS) else []
