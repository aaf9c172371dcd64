"""Do the methods that look things up work on this model? One document, three questions, all methods side by side.

    python scripts/validate_jitrl.py [--model embedded|DIRECTORY|HUB-ID] [--methods all|a,b] [--study gold|self|off] [--json]

`accrete compare` on a text about a ship that no model has read of: learned (share of the three answered), floor, ceiling,
seconds to learn and to answer, tokens learned. Exit code 1 where `retrieve` or `retrieve_logits` answers fewer than two.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

from accrete.cli.main import app

TEXT = """The Pale Wenthor is a ship of the harbour of Osk Tavarn. The captain of the Pale Wenthor is Ludra Vessimar. The Pale
Wenthor was launched in 1871. The Pale Wenthor carries amber.
"""
STUDIED = {
    "Who is the captain of the Pale Wenthor?": "Ludra Vessimar",
    "Who commands the Pale Wenthor?": "Ludra Vessimar",
    "When was the Pale Wenthor launched?": "1871",
    "In which year did the Pale Wenthor first touch the water?": "1871",
    "What does the Pale Wenthor carry?": "amber",
    "What is the cargo of the Pale Wenthor?": "amber",
}
ASKED = {
    "Under whose command does the Pale Wenthor sail?": "Ludra Vessimar",
    "In what year was the Pale Wenthor launched?": "1871",
    "What is the Pale Wenthor loaded with?": "amber",
}
LOOKING_UP, ENOUGH = ("retrieve", "retrieve_logits"), 0.6  # two of three


def rows(model: str, methods: str, study: str, folder: Path) -> list[dict]:
    """The rows of the comparison, as `accrete compare --json` has them."""
    text = " ".join(TEXT.split())
    given = [{"question": q, "answer": a} for q, a in STUDIED.items()] if study == "gold" else [{"text": text}]
    asked = [{"question": q, "answers": [a], "context": text} for q, a in ASKED.items()]
    for name, lines in (("document.jsonl", given), ("probes.jsonl", asked)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    arguments = ["compare", "--document", folder / "document.jsonl", "--probes", folder / "probes.jsonl"]
    arguments += ["--methods", methods, "--model", model, "--study", study, "--json"]
    arguments += ["--home", folder / "home", "--out", folder / "out"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app([str(argument) for argument in arguments])
    if not printed.getvalue():
        raise SystemExit(1)  # what went wrong was said
    found = json.loads(printed.getvalue().splitlines()[-1])
    if "rows" not in found:
        raise SystemExit(1)  # what went wrong was said
    return found["rows"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--study", choices=("gold", "self", "off"), default="gold")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rows(options.model, options.methods, options.study, Path(folder))
    short = [row["method"] for row in found if row["method"] in LOOKING_UP and (row["learned"] or 0) < ENOUGH]
    if options.json:
        print(json.dumps({"rows": found, "holds": not short}))
    else:
        print(
            f"{'method':<18}{'floor':>7}{'learned':>9}{'ceiling':>9}{'s to learn':>12}{'s to answer':>13}{'tokens':>8}"
        )
        for row in found:
            if row["error"]:
                print(f"{row['method']:<18} {row['error']}")
                continue
            print(
                f"{row['method']:<18}{row['floor']:>7.2f}{row['learned']:>9.2f}{row['ceiling']:>9.2f}"
                f"{row['learn_seconds']:>12.2f}{row['answer_seconds']:>13.3f}{row['tokens']:>8,.0f}"
            )
        print(
            f"fewer than two of three: {', '.join(short)}"
            if short
            else "every method that looks things up answers at least two of three"
        )
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
