"""Write the demo's document, study items and probes from the fictional world: `python scripts/write_demo.py`."""

from __future__ import annotations

import json
from pathlib import Path

from accrete.data.world import World
from accrete.types import Example, Probe

SEED, KINDS, FACTS = 2024, ("town", "ship", "company"), 4
FOLDER = Path(__file__).parents[1] / "src/accrete/cli/demo_files"


def files() -> dict[str, str]:
    """File name -> content."""
    world = World(SEED)
    entities = [world.entity(kind, FACTS) for kind in KINDS]
    paragraphs = [world.passage([entity]) for entity in entities]
    study = [item for entity in entities for item in world.items(entity.facts)]
    probes = [
        probe
        for entity, paragraph in zip(entities, paragraphs, strict=True)
        for probe in world.probes(entity.facts, context=paragraph)
    ]
    return {
        "document.md": "\n\n".join(paragraphs) + "\n",
        "study.jsonl": "".join(_line(item) for item in study),
        "probes.jsonl": "".join(_line(probe) for probe in probes),
    }


def _line(row: Example | Probe) -> str:
    if isinstance(row, Example):
        fields = {"question": row.question, "answer": row.answer}
    else:
        fields = {"question": row.question, "answers": list(row.answers), "context": row.context}
    return json.dumps(fields, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, "utf-8")
        print(f"wrote {FOLDER / name}")
