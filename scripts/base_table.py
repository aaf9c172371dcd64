"""Write the table of what the embedded model can do, from the JSON of a run of `accrete evaluate-base`.

    accrete evaluate-base --data DIR --json > figures.json && python scripts/base_table.py figures.json
    python scripts/base_table.py --check

The figures are kept beside the weights; the table stands between two marks in README.md and in the model card. `--check`
says what does not agree: a table with the figures, or the figures with the weights.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from accrete.evaluate.base import BARS

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "src/accrete/lm/embedded/figures.json"
DOCUMENTS = (ROOT / "README.md", ROOT / "src/accrete/lm/embedded/README.md")
MARKED = re.compile(r"(<!-- base-table -->\n)(.*?)(<!-- /base-table -->)", re.DOTALL)
HEAD = "| what | value | 95 % interval | bar, trained on CPU | bar | n | beside it |\n|---|---|---|---|---|---|---|\n"

TAUGHT = "in wordings of the training"
TRIVIAL = ("first sentence", "random span")
# What is told, its figure, and what stands beside it.
ROWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "answers read in a passage (exact match)",
        "in_context",
        {TAUGHT: "in_context_taught", "without the passage": "in_context_without_passage"},
    ),
    (
        'says "not stated" where the passage does not say (F1)',
        "not_stated_f1",
        {"precision": "not_stated_precision", "recall": "not_stated_recall"},
    ),
    ("question/answer pairs it writes that are right", "questions_right", {"reverse questions": "reverse_right"}),
    ("facts of the passage that those ask", "questions_covered", {"reverse questions": "reverse_covered"}),
    ("sentences said in other words with every fact kept", "restating", {}),
    (
        "facts listed (F1 over whole lines)",
        "extraction_f1",
        {"undated": "extraction_undated_f1", "dated": "extraction_dated_f1"},
    ),
    ("facts known by heart (exact match)", "closed_book", {TAUGHT: "closed_book_taught"}),
    ("what held when, read in a passage (exact match)", "time_scoped", {TAUGHT: "time_scoped_taught"}),
    (
        "bits per byte of English it never saw",
        "bits_per_byte",
        {"OpenStax": "bits_per_byte_openstax", "Wikipedia": "bits_per_byte_wikipedia"},
    ),
    *(
        (f"{title} ({mark.upper()})", f"{name}_{mark}", {t: f"{name}_{t.replace(' ', '_')}_{mark}" for t in TRIVIAL})
        for title, name, mark in (
            ("FairytaleQA, validation", "fairytale", "em"),
            ("FairytaleQA, validation", "fairytale", "f1"),
            ("SQuAD 1.1, half of dev", "squad", "em"),
            ("SQuAD 1.1, half of dev", "squad", "f1"),
        )
    ),
)


def missing(figures: dict[str, Any]) -> list[str]:
    """The figures that the table needs and a run does not have."""
    needed = [key for _, figure, beside in ROWS for key in (figure, *beside.values())]
    return [key for key in needed if key not in figures]


def table(figures: dict[str, Any]) -> str:
    """The Markdown table of a run."""
    return HEAD + "".join(_row(figures, *row) for row in ROWS)


def _row(figures: dict[str, Any], what: str, key: str, beside: dict[str, str]) -> str:
    between = figures["interval"].get(key)
    bars = [f"{bar:.2f}" for bar in BARS[key]] if key in BARS else ["", ""]
    said = ", ".join(f"{name} {figures[other]:.3f}" for name, other in beside.items())
    shown = f"{between[0]:.3f} to {between[1]:.3f}" if between else ""
    return f"| {what} | {figures[key]:.3f} | {shown} | {bars[0]} | {bars[1]} | {figures['n'][key]:,} | {said} |\n"


def stale(digest: str | None = None) -> list[str]:
    """What does not agree, a sentence each; with the digest of the weights, whether the figures are theirs."""
    if not FIGURES.exists():
        return [f"There are no figures at {FIGURES.relative_to(ROOT)}."]
    figures, wrong = json.loads(FIGURES.read_text("utf-8")), []
    if lacking := missing(figures):
        return [f"The figures lack {', '.join(lacking)}."]
    for document in DOCUMENTS:
        found = MARKED.findall(document.read_text("utf-8"))
        if not found or any(written != table(figures) for _, written, _ in found):
            reason = "does not hold the table of the stored figures" if found else "has no mark for the table"
            wrong.append(f"{document.relative_to(ROOT)} {reason}.")
    if digest is not None and figures["base_digest"] != digest:
        wrong.append("The stored figures were measured on other weights than those of the package.")
    return wrong


def write(figures: dict[str, Any]) -> None:
    """Keep the figures and put their table into both documents."""
    kept = {key: value for key, value in figures.items() if key != "model"}  # the place it had on some machine
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        document.write_text(MARKED.sub(lambda m: m[1] + table(figures) + m[3], text), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="what `accrete evaluate-base --json` printed")
    parser.add_argument("--check", action="store_true", help="write nothing; say what is stale")
    options = parser.parse_args()
    if options.check:
        from accrete.lm.load import load

        wrong = stale(load("embedded", device="cpu", offline=True).digest)
    elif options.run is None:
        parser.error("name the JSON of a run, or --check")
    else:
        figures = json.loads(options.run.read_text("utf-8"))
        if lacking := missing(figures):
            sys.exit(f"This run is not whole; it lacks {', '.join(lacking)}.")
        write(figures)
        wrong = stale()
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
