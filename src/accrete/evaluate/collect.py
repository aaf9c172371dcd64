"""results.json from the lines of all jobs: what was compared, where, with what, and a row for every method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accrete.evaluate import results
from accrete.evaluate.machine import machine, source, together, utc
from accrete.evaluate.record import BASE, lines
from accrete.files import write_text

if TYPE_CHECKING:
    from accrete.evaluate.compare import Comparison


def collect(
    comparison: Comparison, out: Path, failures: Mapping[tuple[str, int], str], started: float = 0.0
) -> dict[str, Any]:
    """Write and return the results of the jobs in `out`; `failures` say why jobs did not end, by method and seed.

    `run` of a row says when its last line was measured, on what and by which commit, all of them where they were several;
    `started` stands for a row without lines.
    """
    seeds = comparison.seeds
    bases = {seed: lines(out / f"seed-{seed}" / f"{BASE}.jsonl")[0] for seed in seeds}
    stream, model = bases[seeds[0]]["stream"], bases[seeds[0]]["model"]
    rows = []
    for job in comparison.jobs:
        name = job.method or BASE
        config = effective(name, job.config, seeds)
        errors = [failures[name, seed] for seed in seeds if (name, seed) in failures]
        runs = [[bases[s], *lines(out / f"seed-{s}" / f"{name}.jsonl")] for s in seeds]
        whole = all(len(run) == len(run[0]["stream"]["tasks"]) + 1 for run in runs)
        if errors or not whole:
            why = (errors or ["it was not finished"])[0]
            rows.append(results.failed(name, config, why, list(bases.values()), stream["score"]))
        else:
            rows.append(results.row(name, config, runs, stream["score"]))
        of_lines = [line["run"] for run in runs for line in run[1:] if "run" in line]
        here = {"measured": utc(started), "machine": machine(model["device"]), **source()}
        last = max((run["measured"] for run in of_lines), default=here["measured"])
        rows[-1]["run"] = {**together(of_lines or [here]), "measured": last, "command": comparison.command}
    first = comparison.jobs[0]
    found = {
        "schema": results.SCHEMA,
        "digest": comparison.digest,
        "stream": stream
        | {
            "content": first.content,
            "options": first.options.model_dump(mode="json", exclude_none=True, exclude={"data", "probes"}),
        },
        "lessons": len(stream["tasks"]),
        "model": model["name"],
        "base_digest": model["base_digest"],
        "dtype": first.dtype,
        "study": first.study,
        "teacher": first.teacher,
        "full_matrix": first.full_matrix,
        "seeds": list(seeds),
        "command": comparison.command,
        **together([{key: row["run"][key] for key in ("commit", "machine", "versions")} for row in rows]),
        "measured": max(row["run"]["measured"] for row in rows),
        "rows": rows,
    }
    write_text(out / "results.json", json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return found


def effective(method: str, given: Mapping[str, Any], seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The options that a method ran with, its defaults filled in; as given for one that is none of ours."""
    from accrete.methods import base

    if method not in base.names():
        return dict(given)
    try:
        config = base.find(method).Config(**given).model_dump(mode="json")
    except ValueError:  # then its row has that as its error
        return dict(given)
    if "seed" in config and "seed" not in given:
        config["seed"] = seeds[0] if len(seeds) == 1 else list(seeds)
    return config
