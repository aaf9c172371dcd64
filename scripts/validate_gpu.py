"""Does test-time training work on this model and machine? Four milestones, each PASS or FAIL with its figures.

    python scripts/validate_gpu.py [--model embedded|DIRECTORY|HUB-ID] [--device auto] [--dtype auto] [--json]
                                   [--url URL [--ask QUESTION] [--expect TEXT]]

1 architecture   twins beside the MLPs of the last quarter of the blocks (7 of Qwen2.5-1.5B), silent at birth
2 learning       a text that is read, without any question, changes weights of the twins and of nothing else, and its own loss
                 falls
3 gates          calibrated; documents of two domains are learned from questions and answers, which are then answered, and of
                 the scored guard questions less than 0.15 is lost since birth: a figure that counts only beside the first
4 a page         a documentation page is fetched (of --url, or one that this script serves itself), learned, and asked about

Exit code 1 where one fails. On a model that brings no guard questions making them is part of 3 and takes a while.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from accrete import Document, Learner, Probe
from accrete.data.web import read_page
from accrete.data.world import World
from accrete.errors import AccreteError
from accrete.scoring import contains

LEARNED, LOST = 0.8, 0.15  # at least, of the questions asked; less than, of what was known
SENTENCES = 8


def architecture(learner: Learner) -> tuple[bool, dict[str, Any]]:
    layers = learner.lm.layers
    found = learner.status()["layers"]
    ids = torch.arange(5, 29, device=learner.lm.device)[None]
    with torch.no_grad():
        now = learner.lm.model(input_ids=ids).logits
        with learner.method.adapter.off():
            base = learner.lm.model(input_ids=ids).logits
    wanted = layers - 3 * layers // 4
    silent = bool(torch.equal(now, base))
    return found["modified"] == wanted and silent, {
        "layers": layers,
        "modified": found["modified"],
        "wanted": wanted,
        "silent_at_birth": silent,
    }


def learning(learner: Learner) -> tuple[bool, dict[str, Any]]:
    world = World(51)
    text = "\n\n".join(world.passage([world.entity()]) for _ in range(SENTENCES))
    frozen = {name: p.detach().clone() for name, p in learner.lm.model.named_parameters() if not p.requires_grad}
    learner.study.setting = "off"  # the text alone: what is measured is reading
    metrics = learner.learn(Document("a text that is read", text)).metrics
    learner.study.setting = "auto"
    now = dict(learner.lm.model.named_parameters())
    same = all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    moved = sum(learner.status()["method"]["about"]["neurons_taught"].values())
    before, after = metrics["loss_before"], metrics["loss_after"]
    return same and moved > 0 and after < before, {
        "loss_before": before,
        "loss_after": after,
        "neurons_taught": moved,
        "frozen_weights_unchanged": same,
        "tokens": metrics["text_tokens"],
        "seconds": metrics["learning_seconds"],
    }


def gates(learner: Learner, known: float | None) -> tuple[bool, dict[str, Any]]:
    """`known`: the share of the scored guard questions that was answered before anything was learned."""
    world = World(52)
    if not learner.method.gate.texts:
        learner.calibrate([f"{question} {answer}" for question, answer in learner.lm.background])
    floors, learned = [], []
    for kind in ("town", "company"):
        entities = [world.entity(kind) for _ in range(3)]
        asked = [p for e in entities for p in world.probes(e.facts)]
        document = world.document(f"three of the kind {kind}", entities)
        metrics = learner.learn(Document(document.name, items=document.items), probes=asked).metrics
        floors.append(metrics["probes_before"])
        learned.append(metrics["probes_after"])
    kept = learner.kept(split="scored")
    lost = (known - kept) / known if known and kept is not None else None
    figures = {
        "gate": learner.status()["method"]["about"]["gate"],
        "calibrated_on": learner.method.gate.texts,
        "floor": sum(floors) / 2,
        "learned": sum(learned) / 2,
        "known_before": known,
        "known_after": kept,
        "forgetting_ratio": lost,
    }
    protected = figures["calibrated_on"] > 0 and lost is not None and lost < LOST
    return protected and figures["learned"] >= LEARNED, figures


def page(
    learner: Learner, url: str | None, question: str = "What is this page about?", expected: str | None = None
) -> tuple[bool, dict[str, Any]]:
    """Without `expected` an answer counts when it is another than before; it is shown for a person to judge."""
    if url:
        document = read_page(url, offline=False)
        before = learner.ask(question).text
        metrics = learner.learn(document).metrics
        after = learner.ask(question).text
        answered = after != before if expected is None else contains(after, (expected,))
        return answered and metrics["loss_after"] < metrics["loss_before"], {
            "url": url,
            "loss_before": metrics["loss_before"],
            "loss_after": metrics["loss_after"],
            "asked": question,
            "answered_before": before,
            "answered": after,
        }
    world = World(53)
    entities = [world.entity() for _ in range(3)]
    probes = [p for e in entities for p in world.probes(e.facts)]
    paragraphs = "".join(f"<p>{html.escape(world.passage([e]))}</p>" for e in entities)
    written = f"<html><head><title>Three things</title></head><body><main>{paragraphs}</main></body></html>"
    with served(written) as address:
        document = read_page(address, offline=False, allow_private=True)
    asked = tuple(Probe(p.question, p.answers, document.text) for p in probes)
    ceiling = learner.grade(asked, with_context=True)
    metrics = learner.learn(document, probes=asked).metrics
    figures = {
        "characters": len(document.text),
        "loss_before": metrics["loss_before"],
        "loss_after": metrics["loss_after"],
        "floor": metrics["probes_before"],
        "learned": metrics["probes_after"],
        "ceiling": ceiling,
    }
    return metrics["loss_after"] < metrics["loss_before"] and figures["learned"] > figures["floor"], figures


@contextmanager
def served(written: str) -> Iterator[str]:
    """A page on this machine's own address, for as long as it lasts."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = written.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/three-things.html"
    finally:
        server.shutdown()
        server.server_close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--url", help="a documentation page to fetch instead of one that is served here")
    parser.add_argument("--ask", default="What is this page about?", help="what to ask about the page of --url")
    parser.add_argument("--expect", help="what its answer has to contain")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        try:
            learner = Learner(
                options.model, method="ttt", home=home, device=options.device, dtype=options.dtype, max_forgetting=1.0
            )
        except AccreteError as error:
            print(f"validate_gpu: {error}", file=sys.stderr)
            return error.exit_code
        learner._provide_sentinels()
        known = learner.kept(split="scored")
        milestones = {
            "architecture": lambda: architecture(learner),
            "learning": lambda: learning(learner),
            "gates": lambda: gates(learner, known),
            "page": lambda: page(learner, options.url, options.ask, options.expect),
        }
        for name, milestone in milestones.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                passed, figures = milestone()
            except AccreteError as error:
                passed, figures = False, {"error": str(error)}
            results[name] = {"passed": passed} | figures
            if not options.json:
                said = ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
                print(f"{'PASS' if passed else 'FAIL'}  {name}: {said}", flush=True)
    holds = all(result["passed"] for result in results.values())
    if options.json:
        print(json.dumps({"model": options.model, "holds": holds} | results))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
