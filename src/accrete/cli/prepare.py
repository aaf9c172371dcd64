"""The verbs that prepare a method before its lessons: calibrate, retrofit."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.session import Session, Ticker, verb
from accrete.errors import DocumentError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from accrete.cli.desk import Desk, Source
    from accrete.types import Document

TEXTS = 2_000
TOKENS = 64  # of a text: a few sentences


@verb
def calibrate(
    session: Session,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, pages, or folders of them; without any, the sentences that came with the model."),
    ] = None,
    texts: Annotated[int, typer.Option(min=8, help="At most so many texts, drawn evenly.")] = TEXTS,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch pages from private and loopback addresses too.")
    ] = False,
) -> None:
    """Show a method what is general, so that lessons leave it alone; this is a commit, and undo takes it back."""
    from accrete.cli.desk import Desk, sources
    from accrete.data.chunks import chunks

    files, desk = sources(paths or []), Desk(offline=session.settings().settings.offline, allow_private=allow_private)
    learner = session.learner()
    if files:
        count = learner.lm.count_tokens
        found = [p.text for document in _readable(desk, files) for p in chunks(document, TOKENS, count)]
    else:
        found = [f"{question} {answer}" for question, answer in learner.lm.background]
    if not found:
        raise DocumentError(f"{learner.lm.name} came with no sentences of its own: name a text or a folder.")
    chosen = [found[i * len(found) // min(texts, len(found))] for i in range(min(texts, len(found)))]
    commit = learner.calibrate(chosen)
    about = learner.status()["method"]["about"]
    result = {"commit": commit.id, "texts": len(chosen), "of": len(found), "about": about}
    told = f"calibrated on {len(chosen):,} of {len(found):,} texts; commit {commit.id}, `accrete undo` takes it back"
    session.print(result, lambda console: console.print(told, markup=False))


def _readable(desk: "Desk", files: "Sequence[Source]") -> "Iterator[Document]":
    """The documents of files, one by one; of several, those that cannot be read are told and left out."""
    for file in files:
        try:
            yield desk.read(file)[0]
        except DocumentError as error:
            if len(files) == 1:
                raise
            print(f"accrete: {error}", file=sys.stderr)


@verb
def retrofit(
    session: Session,
    out: Annotated[Path, typer.Argument(help="Where the run lives; resumed when it exists.", show_default=False)],
) -> None:
    """Train a method's new parts before any lesson, the model frozen; its options are given with --set.

    What comes out lies beside a model of its own, as NAME.start.safetensors, or is named by the method's option `start`.
    """
    from accrete.config import build
    from accrete.lm.load import load
    from accrete.methods import base
    from accrete.settings import parse_value
    from accrete.store.home import plain_errors

    settings = session.settings().settings
    method = base.find(settings.method)
    train = getattr(method, "retrofit", None)
    if train is None:
        raise UsageError(f"{settings.method} has nothing to retrofit; `accrete methods` says which methods have.")
    pairs = (text.removeprefix(f"{settings.method}.").partition("=") for text in session.set or [])
    given = {key: parse_value(value, key) for key, _, value in pairs}
    config = build(method.RetrofitConfig, given, f"what {settings.method} is retrofitted with")  # type: ignore[attr-defined]
    lm = load(settings.model, device=settings.device, dtype=settings.dtype, offline=settings.offline)
    ticker, started = Ticker("retrofit", bool(session.json)), time.monotonic()
    try:
        with plain_errors(out, "the folder"):
            file, figures = train(lm, out, config, lambda step, loss, *_: ticker("learning", step, loss))
    finally:
        ticker.done()
    result = {"file": str(file), "method": settings.method, "seconds": round(time.monotonic() - started, 1)} | figures
    keep = "; ".join(_to_keep(str(settings.method), file, config, method.Config()))
    told = [f"wrote {file}; use it with {' '.join(_to_use(file, config, method.Config()))}", f"or keep it: {keep}"]
    told += _told(figures)
    session.print(result, lambda console: console.print("\n".join(told), markup=False))


def _to_use(file: Path, made: "BaseModel", usual: "BaseModel") -> Iterator[str]:
    yield from (f"--set {name}={value}" for name, value in _in_lessons(file, made, usual))


def _to_keep(method: str, file: Path, made: "BaseModel", usual: "BaseModel") -> Iterator[str]:
    yield from (f"accrete config set {method}.{name} {value}" for name, value in _in_lessons(file, made, usual))


def _in_lessons(file: Path, made: "BaseModel", usual: "BaseModel") -> Iterator[tuple[str, Any]]:
    """What lessons are to be told: the file, and what it was made for where lessons would do otherwise."""
    yield "start", file
    for name in getattr(made, "as_in_lessons", ()):
        if (value := getattr(made, name)) != getattr(usual, name):
            yield name, ",".join(map(str, value)) if isinstance(value, tuple) else value


def _told(figures: Mapping[str, Any]) -> Iterator[str]:
    """Figures by name, of each layer, a line each: "before, layer 4: top 1 percent 0.16, entropy 0.90"; and what they mean."""
    if done := figures.get("steps_before"):
        over = done >= figures["steps"]
        yield f"{done:,} steps were done before" + (
            ": nothing was left to train" if over else "; it went on from there"
        )
    for name in ("before", "after"):
        for layer, found in figures.get(name, {}).items():
            said = ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in found.items())
            yield f"{name}, layer {layer}: {said}"
    for name, meaning in figures.get("meaning", {}).items():
        yield f"{name}: {meaning}"
