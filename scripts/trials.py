"""Small recipes side by side: vocabulary, depth against width, mixture, at equal arithmetic. Ends at a table.

    ACCRETE_DATA=path/to/data python scripts/trials.py [--tokens 2_000_000] [--out runs/trials] [NAME ...]

Each is `recipes/embedded.yaml` with one thing changed, and as many tokens as cost what `--tokens` of the unchanged one do
(six operations a token and parameter, the output layer counted, the embedding not). A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from accrete.lm.allocator import keep_freed_memory
from accrete.recipe import Recipe, read_recipe, run

# name: (fields of the model, share of the characters that is real text and questions)
DEEP = {"num_hidden_layers": 14, "hidden_size": 192, "intermediate_size": 576}
WIDE = {"num_hidden_layers": 4, "hidden_size": 384, "intermediate_size": 1_024}
TRIALS: dict[str, tuple[dict[str, int], float | None]] = {
    "embedded": ({}, None),
    "vocabulary-2k": ({"vocab_size": 2_048}, None),
    "vocabulary-8k": ({"vocab_size": 8_192}, None),
    "deep": (DEEP | {"num_attention_heads": 3, "num_key_value_heads": 3}, None),
    "wide": (WIDE | {"num_attention_heads": 6, "num_key_value_heads": 2}, None),
    "half-real": ({}, 0.55),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TRIALS))
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(TRIALS):
        sys.exit(f"There is no trial {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}.")
    if not os.environ.get("ACCRETE_DATA"):
        sys.exit("Name the folder of the real text in ACCRETE_DATA.")
    keep_freed_memory()
    whole = read_recipe(Path(__file__).parent.parent / "recipes" / "embedded.yaml")
    budget = options.tokens * weights_used(whole.model)
    print("| recipe | parameters | tokens | minutes | loss | reading, nats | exact | by heart, nats | bits a byte |")
    print("|" + "---|" * 9)
    for name in options.names or TRIALS:
        row = tried(varied(whole, name, budget), options.out / name)
        print(f"| {name} | " + " | ".join(f"{value:,}" for value in row.values()) + " |", flush=True)


def varied(whole: Recipe, name: str, budget: int) -> Recipe:
    """The recipe of a trial, with as many tokens as its `budget` of operations allows."""
    fields, share = TRIALS[name]
    model = whole.model | fields
    train = whole.train.model_copy(update={"tokens": budget // weights_used(model), "decay": 0.4})
    text = whole.text.model_copy(update={"share": whole.text.share if share is None else share})
    return whole.model_copy(update={"model": model, "train": train, "text": text})


def weights_used(fields: dict[str, Any]) -> int:
    """Parameters that one token is multiplied with."""
    from accrete.lm.presets import preset

    config = preset("nano", **fields)
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    attention = 2 * width * width + 2 * width * head * config.num_key_value_heads
    block = attention + 3 * width * config.intermediate_size
    return config.num_hidden_layers * block + config.vocab_size * width


def tried(recipe: Recipe, out: Path) -> dict[str, float]:
    """Train it, or go on, and measure it; what was measured is kept in the folder."""
    kept = out / "measured.json"
    if kept.exists():
        return json.loads(kept.read_text("utf-8"))
    started, last = time.monotonic(), [0.0]

    def progress(now: Any) -> None:
        last[0] = now.loss
        if now.step % 50 == 0:
            print(
                f"{out.name}: {now.step}/{now.steps}, loss {now.loss:.3f}, {now.tokens_per_second:.0f}/s",
                file=sys.stderr,
            )

    folder = run(recipe, out, progress, lambda line: print(line, file=sys.stderr))
    minutes = (time.monotonic() - started) / 60
    row = {"tokens": recipe.train.tokens, "minutes": round(minutes, 1), "loss": round(last[0], 3)} | measured(folder)
    row = {"parameters": row.pop("parameters")} | row
    kept.write_text(json.dumps(row), "utf-8")
    return row


def measured(folder: Path) -> dict[str, float]:
    """Reading held-out worlds in held-out wordings, the persistent world by heart (nats a character), and real text."""
    from accrete.data.corpus import WorldCorpus
    from accrete.evaluate import worlds
    from accrete.evaluate.base import evaluate
    from accrete.lm.load import load
    from accrete.lm.prompts import study_sequence

    lm = load(str(folder), offline=True)
    asked = worlds.questions(200, True)
    guard, _ = WorldCorpus(0, 600).sentinels()

    def nats(probes: Any) -> float:
        scored = lm.score([study_sequence(lm, p.question, p.answers[0], p.context) for p in probes])
        return round(sum(nats for nats, _ in scored) / sum(len(p.answers[0]) for p in probes), 3)

    figures = evaluate(lm, Path(os.environ["ACCRETE_DATA"]), 200, ["in_context", "bits_per_byte"])
    return {
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "reading_nats": nats(asked),
        "in_context": figures["in_context"],
        "by_heart_nats": nats(guard),
        "bits_per_byte": figures["bits_per_byte"],
    }


if __name__ == "__main__":
    main()
