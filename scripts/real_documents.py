"""Teach real documents by command line and print what happened: `python scripts/real_documents.py DATA [--method M]`.

DATA is a folder with eval/tofu_full.jsonl.xz and eval/world_factbook_documents_2020-11-27.jsonl.xz. One author of TOFU
(20 questions and answers; long answers are graded by token F1) and one country's document (learned as text) are learned,
asked about, undone and learned again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def rows(path: Path) -> Iterator[dict]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_documents(data: Path, folder: Path, author: int, country: str) -> tuple[Path, Path]:
    """The author's questions and answers as .jsonl, the country's document as .txt."""
    pairs = [row for row in rows(data / "eval/tofu_full.jsonl.xz") if row["author_id"] == author]
    items = folder / f"tofu_author_{author}.jsonl"
    items.write_text(
        "".join(json.dumps({"question": r["question"], "answer": r["answer"]}) + "\n" for r in pairs), "utf-8"
    )
    (document,) = [
        r for r in rows(data / "eval/world_factbook_documents_2020-11-27.jsonl.xz") if r["entity"] == country
    ]
    text = folder / f"factbook_{country.lower()}.txt"
    text.write_text(document["text"], "utf-8")
    return items, text


def accrete(*words: object) -> dict:
    """Run a verb with --json and show the command."""
    command = ["accrete", *map(str, words), "--json", "--offline"]
    print("$", " ".join(command), flush=True)
    ran = subprocess.run([sys.executable, "-m", "accrete.cli.main", *command[1:]], capture_output=True, text=True)
    print(ran.stdout.strip() or ran.stderr.strip(), flush=True)
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--author", type=int, default=0)
    parser.add_argument("--country", default="Iceland")
    parser.add_argument("--method", default="full_finetune")
    parser.add_argument("--model", default="embedded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        items, text = write_documents(options.data, Path(folder), options.author, options.country)
        first = json.loads(items.read_text("utf-8").splitlines()[0])
        for path, probes in ((items, ("--probes", items)), (text, ())):
            home = Path(folder) / f"home of {path.stem}"
            common = ("--home", home, "--method", options.method, "--model", options.model)
            learned = accrete("learn", path, *probes, *common)
            if probes:
                print("truth:", first["answer"])
                accrete("ask", first["question"], *common)
            undone = accrete("undo", *common)
            assert undone["digest"] == learned["digest_before"], "undo was not exact"
            again = accrete("learn", path, *probes, *common)
            same = again["digest_after"] == learned["digest_after"]
            print(f"learned again: {'the same state, bit for bit' if same else 'ANOTHER state'}\n", flush=True)


if __name__ == "__main__":
    main()
