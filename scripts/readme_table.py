"""Measure every method on the demo and write the table of README.md: `python scripts/readme_table.py [--print]`."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from accrete.cli.demo import demo_file
from accrete.data.documents import read_document, read_probes
from accrete.learner import Learner
from accrete.methods import base

README = Path(__file__).parents[1] / "README.md"
MARKED = re.compile(r"(<!-- table:begin.*?-->\n)(.*?)(<!-- table:end -->)", re.DOTALL)
HEAD = (
    "| method | studied | floor | learned | ceiling | kept before | kept after | seconds to learn | undo |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


STUDIED = {"24 questions and answers": "study.jsonl", "the text": "document.md"}


def row(method: str, studied: str) -> str:
    """One line of the table, measured now."""
    study, probes = read_document(demo_file(STUDIED[studied])), read_probes(demo_file("probes.jsonl"))
    with tempfile.TemporaryDirectory() as home:
        learner = Learner("embedded", method=method, home=home, offline=True, device="cpu")
        ceiling = learner.grade(probes, with_context=True)
        commit = learner.learn(study, probes=probes)
        learner.undo()
        m = commit.metrics
        figures = (m["probes_before"], m["probes_after"], ceiling, m["kept_before"], m["kept_after"])
        undo = "exact" if learner.digest == commit.digest_before else "NOT exact"
    return (
        f"| {method} | {studied} | {' | '.join(f'{x:.2f}' for x in figures)} | {m['learning_seconds']:.0f} | {undo} |\n"
    )


def table() -> str:
    return HEAD + "".join(row(method, studied) for method in base.names() for studied in STUDIED)


if __name__ == "__main__":
    written = table()
    sys.stdout.write(written)
    if "--print" not in sys.argv:
        README.write_text(MARKED.sub(lambda m: m[1] + written + m[3], README.read_text("utf-8")), "utf-8")
