"""How long a document takes to be studied, and what comes of it: seconds, pairs right, facts covered.

    python benchmarks/study.py [--words 300] [--json]

The limit beside it is one forward pass over the document, in the same run. The document is of a held-out world, so that a
judge knows which pairs are right by it and which of its facts they ask for.
"""

from __future__ import annotations

import argparse
import json
import time

from accrete.data.pieces import pieces, sentence_texts
from accrete.dreams.study import Study
from accrete.evaluate import judge, worlds
from accrete.lm.batch import Sequence
from accrete.lm.load import load
from accrete.types import Document, Fact


def text_of(words: int) -> tuple[Document, list[Fact]]:
    """A document of at least so many words, and the facts it states."""
    texts: list[str] = []
    facts: list[Fact] = []
    for reading in worlds.passages(words):
        texts.append(reading.text)
        facts += reading.facts
        if sum(len(text.split()) for text in texts) >= words:
            break
    return Document("study", "\n\n".join(texts)), facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lm = load("embedded", offline=True)
    document, facts = text_of(options.words)
    study = Study(lm, "self")
    passages = pieces(document, study.passage_tokens, lm.count_tokens)
    ids = [tuple(lm.tokenizer(passage.text, add_special_tokens=False)["input_ids"]) for passage in passages]
    started = time.monotonic()
    lm.score([Sequence(row) for row in ids])
    forward = time.monotonic() - started
    made = study.write(document, passages, sentence_texts, lambda stage, done, loss: None)
    asked = [judge.fact_asked(p, facts) or judge.fact_asked(p, facts, reverse_only=True) for p in made.items]
    found = {
        "words": len(document.text.split()),
        "passages": len(passages),
        "seconds": round(made.seconds, 2),
        "forward_passes": round(made.seconds / forward, 1),
        "written": made.written,
        "kept": made.kept,
        "right": round(sum(fact is not None for fact in asked) / max(1, len(asked)), 3),
        "covered": round(len({fact for fact in asked if fact}) / len(facts), 3),
    }
    print(json.dumps(found) if options.json else "\n".join(f"{key:>15}  {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
