"""What a model of the fictional world can do: `python scripts/measure_embedded.py [--model DIR] [--json]`.

Closed-book on persistent facts, reading on entities it never saw (in probe and in held-out phrasings), two entities in one
passage, dated facts, and the loss on real text when --text names files.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from accrete.data.corpus import WorldCorpus, real_text
from accrete.data.study import text_sequences
from accrete.data.world import HELD_OUT, PROBE, World
from accrete.lm import decode
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.scoring import exact_match
from accrete.types import Document, Probe, Query


def share_right(lm: LM, probes: Sequence[Probe], reading: bool) -> float:
    """Exact match, as a share from 0 to 1."""
    queries = [Query(probe.question, probe.context if reading else "") for probe in probes]
    answers = decode.answer(lm, queries, max_new_tokens=24)
    right = [exact_match(a.text, p.answers[0]) for a, p in zip(answers, probes, strict=True)]
    return round(sum(right) / len(right), 3)


def measure(lm: LM, texts: Sequence[Path] = ()) -> dict[str, float]:
    """Every figure of the model card. `texts` are files of text the model was not trained on."""
    corpus, world = WorldCorpus(0, 600), World(4_711)
    guard, scored = corpus.sentinels()
    entities = world.entities(48)
    passages = {entity.name: world.passage([entity]) for entity in entities}
    alone = [(e, phrasing) for e in entities for phrasing in (PROBE, HELD_OUT)]
    pairs = list(zip(entities[::2], entities[1::2], strict=True))
    both = [p for a, b in pairs for e in (a, b) for p in world.probes(e.facts, context=world.passage([a, b]))]
    dated = []
    for entity in entities:
        if facts := world.timeline(entity, [2018, 2022], share=0.8):
            dated += world.probes(facts, context=" ".join(world.statement(fact) for fact in facts))

    def read(phrasing: int) -> list[Probe]:
        return [p for e, ph in alone if ph == phrasing for p in world.probes(e.facts, ph, passages[e.name])]

    found = {
        "closed_book": share_right(lm, [*guard, *scored], reading=False),
        "closed_book_held_out_phrasing": share_right(
            lm, corpus.world.probes([p.fact for p in scored], HELD_OUT), False
        ),
        "unknown_closed_book": share_right(lm, read(PROBE), reading=False),
        "reading": share_right(lm, read(PROBE), reading=True),
        "reading_held_out_phrasing": share_right(lm, read(HELD_OUT), reading=True),
        "reading_two_entities": share_right(lm, both, reading=True),
        "reading_dated": share_right(lm, dated, reading=True),
    }
    if texts:
        pieces = list(itertools.islice(real_text(texts), 100))
        sequences = [sequence for piece in pieces for sequence in text_sequences(lm, Document("piece", piece), 256)]
        nats = sum(total for total, _ in lm.score(sequences))
        found["real_text_bits_per_byte"] = round(nats / 0.6931 / sum(len(piece.encode()) for piece in pieces), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--text", type=Path, nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(load(options.model, offline=True), options.text)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):<32}{value:.3f}")


if __name__ == "__main__":
    main()
