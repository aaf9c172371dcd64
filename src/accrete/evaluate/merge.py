"""Results of one comparison that was measured in several places, as one. Ends at the terms of results.json.

Runs belong together when they taught and asked the same, of the same base, with the same options and seeds. Seconds and
memory are those of the machine that each row was measured on: `run` of a row says which.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError, UsageError
from accrete.evaluate import results
from accrete.evaluate.machine import together

Results = Mapping[str, Any]
RUN = ("measured", "command", "machine", "versions", "commit")  # of a run, kept in each of its rows


def read(folder: Path) -> dict[str, Any]:
    """The results of one run: `folder`/results.json. DocumentError when there are none or they cannot be merged."""
    path = folder / "results.json"
    if not path.is_file():
        raise DocumentError(f"There is no {path}: a comparison writes it when it ends.")
    try:
        found = json.loads(path.read_text("utf-8"))
        whole = all(isinstance(row["method"], str) and "error" in row for row in found["rows"]) and found["base_digest"]
        content = found["stream"].get("content")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentError(f"{path} holds no results of a comparison: {type(error).__name__}, {error}.") from None
    if found.get("schema") != results.SCHEMA:
        raise DocumentError(f"{path} is of schema {found.get('schema')}; this version merges schema {results.SCHEMA}.")
    if not whole or not content:
        raise DocumentError(f"{path} does not say what was taught and asked (stream.content); measure it again.")
    return found


def merge(runs: Mapping[str, Results], command: str = "") -> dict[str, Any]:
    """One results.json of those of `runs`, a name for each (its folder); of the same method and settings the newer row.

    A row with figures goes before one with an error. UsageError, one sentence, when two runs do not belong together.
    """
    if not runs:
        raise UsageError("Name the folders that are to be merged.")
    (first_name, first), *others = runs.items()
    for name, other in others:
        if reason := difference(first, other):
            raise UsageError(f"{first_name} and {name} cannot be merged: {reason}.")
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows(runs.values()):
        key = row["method"], json.dumps(row.get("config"), sort_keys=True)
        if key not in chosen or _rank(row) >= _rank(chosen[key]):
            chosen[key] = row
    everything = list(runs.values())
    return {
        **first,
        "digest": _digest(first, sorted(chosen)),
        "command": command,
        "measured": min((str(run["measured"]) for run in everything if run.get("measured")), default=None),
        **together([{key: run.get(key) for key in ("machine", "versions", "commit")} for run in everything]),
        "rows": list(chosen.values()),
    }


def difference(one: Results, other: Results) -> str:
    """Why two runs are not of the same comparison, or nothing."""
    for what, mine, theirs in zip(_SAME, _same(one), _same(other), strict=True):
        if mine != theirs:
            return f"{what} ({_short(mine)} and {_short(theirs)})"
    return ""


_SAME = (
    "they are of different streams",
    "their streams were made with different options",
    "their streams do not hold the same",
    "their base models differ",
    "their seeds differ",
    "their study items differ",
    "their teachers differ",
    "one has the full matrix and the other has not",
    "their weights are of different types",
    "they were measured by different versions of accrete",
)


def _same(run: Results) -> tuple[Any, ...]:
    """What must agree, in the order of _SAME."""
    stream = run["stream"]
    return (
        stream.get("name"),
        stream.get("options"),
        stream["content"],
        run["base_digest"],
        run.get("seeds"),
        run.get("study"),
        run.get("teacher"),
        bool(run.get("full_matrix")),
        run.get("dtype"),
        (run.get("versions") or {}).get("accrete"),
    )


def _short(value: Any) -> str:
    """A value as it stands in a sentence; of a digest the beginning."""
    if isinstance(value, str):
        return value[:10] if len(value) == 64 else value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return json.dumps(value)


def _rows(runs: Iterable[Results]) -> Iterator[dict[str, Any]]:
    """All rows, each with the run that it comes from; one that was merged before knows it."""
    for run in runs:
        origin = {key: run[key] for key in RUN if run.get(key) is not None}
        for row in run["rows"]:
            yield {**row, "run": row.get("run") or origin}


def _rank(row: Results) -> tuple[bool, str]:
    return row["error"] is None, str(row["run"].get("measured", ""))


def _digest(run: Results, methods: Sequence[tuple[str, str]]) -> str:
    """What was measured, in a word: the same rows of the same comparison have the same, wherever they come from."""
    return hashlib.sha256(json.dumps([_same(run), methods], sort_keys=True).encode()).hexdigest()
