"""The verbs of everyday: learn, ask, log, show, undo."""

import functools
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.desk import Desk, Source, short, sources
from accrete.cli.lesson_lines import (
    change,
    lesson_json,
    not_as_expected,
    plain_table,
    print_lesson,
    print_log,
    reported,
    silence,
    unmet_now,
)
from accrete.cli.session import Session, Ticker, verb
from accrete.dates import as_iso, spoken
from accrete.errors import DocumentError, LessonError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.facts.contradiction import Contradiction, OnConflict


@verb
def learn(
    session: Session,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Text, Markdown, PDF, HTML, code, .jsonl, folders of these, or pages (https://...).",
            show_default=False,
        ),
    ],
    probes: Annotated[
        Path | None, typer.Option(help="Questions asked before and after, never taught (.jsonl).")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="What it belongs to; some methods keep domains apart.")] = None,
    date: Annotated[
        str | None, typer.Option(help="Of its content, as in 2024-05: from then on it counts for `ask --as-of`.")
    ] = None,
    importance: Annotated[float, typer.Option(help="How much it matters, 1 being normal; it weighs in replay.")] = 1.0,
    max_forgetting: Annotated[
        float | None, typer.Option(help="Share of the guard questions a lesson may cost; more is refused [0.05].")
    ] = None,
    replay_general: Annotated[
        float | None, typer.Option(help="General material, as a share of a full batch, for methods that replay it.")
    ] = None,
    clean: Annotated[
        bool | None, typer.Option("--clean/--keep-all", help="Leave out doubles, boilerplate, other languages [clean].")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The language expected, as in en; else the document's own.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch pages from private and loopback addresses too.")
    ] = False,
    study: Annotated[
        str | None,
        typer.Option(help="Whose questions are studied: auto (given ones, else self-made), gold, self, off [auto]."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="URL[#MODEL]",
            help="An OpenAI-compatible endpoint that writes them; ACCRETE_TEACHER_KEY is its key.",
        ),
    ] = None,
    facts: Annotated[
        str | None, typer.Option(help="Who reads what they state: auto, model, rules, off [auto: as the method needs].")
    ] = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(help="What a new value makes of an old one: supersede, branch (both), ask, reject [supersede]."),
    ] = None,
) -> None:
    """Learn documents: each is one lesson, measured and committed; one that costs too much is refused.

    A folder is learned file by file; stopped and called again, it goes on where it was.
    """
    from accrete.data.documents import read_probes

    if replay_general is not None:
        session = replace(session, set=[*(session.set or []), f"replay_general={replay_general}"])
    dates = [as_iso(date)] if date is not None else []  # wrong ones are told before the model is loaded
    settings = session.settings(domain=domain, clean=clean).settings
    asked = read_probes(probes) if probes else ()
    queue = sources(paths, settings.offline)
    desk = Desk(settings.clean, language, settings.offline, allow_private)
    learner = session.learner(
        max_forgetting=max_forgetting, study=study, teacher=teacher, facts=facts, on_conflict=on_conflict
    )
    counts: Counter[str] = Counter()
    worst = 0
    for number, path in enumerate(queue, 1):
        place = f"[{number}/{len(queue)}] " if len(queue) > 1 else ""
        ticker = learner.progress = Ticker(f"{place}{short(path)}", bool(session.json))
        learner.believing.ask = functools.partial(ask_about, ticker)
        if place and not ticker.live:
            print(f"{place}{short(path)}", file=sys.stderr, flush=True)
        try:
            document, left_out = desk.read(path)
            commit = learner.learn(
                document,
                probes=asked,
                domain=settings.domain,
                importance=importance,
                dates=dates,
                left_out=left_out,
            )
        except (DocumentError, LessonError) as error:
            if len(queue) == 1:
                raise
            desk.forget(path)
            worst = max(worst, error.exit_code)
            counts["refused" if isinstance(error, LessonError) else "not read"] += 1
            ticker.done()
            _report_failure(session, path, error)
            continue
        finally:
            ticker.done()
        counts["known already" if commit.already else "learned"] += 1
        session.print(lesson_json(commit), functools.partial(print_lesson, commit=commit))
    if len(queue) > 1 and not session.json:
        print(f"{len(queue)} documents: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    if worst:
        raise typer.Exit(worst)


def _report_failure(session: Session, path: Source, error: Exception) -> None:
    if session.json:
        print(json.dumps({"document": str(path), "error": str(error)}, ensure_ascii=False), flush=True)
    print(f"accrete: {error}", file=sys.stderr)


@verb
def ask(
    session: Session,
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    context: Annotated[Path | None, typer.Option(help="A text to read before answering.")] = None,
    domain: Annotated[str | None, typer.Option(help="The domain to read from; see `accrete domains`.")] = None,
    as_of: Annotated[str | None, typer.Option(help="A date that the question is about, as in 2024-05.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How long the answer may be.", min=1)] = 64,
) -> None:
    """Ask the model as it is now; with --context it reads a text first."""
    from accrete.data.documents import read_document
    from accrete.types import Query

    if not question.strip():
        raise DocumentError("The question is empty.")
    as_of = as_iso(as_of) if as_of is not None else None
    passage = read_document(context).text if context else ""
    learner = session.learner()
    found = learner.why(question, context=passage, domain=domain, as_of=as_of, max_new_tokens=max_new_tokens)
    answer = found.answer
    status = learner.history.active()
    read, whole = learner.reader.tokens_read(Query(question, passage), max_new_tokens)
    if read < whole:
        print(f"{context} is longer than the model reads: the first {read:,} of {whole:,} tokens", file=sys.stderr)
    result = {
        "question": question,
        "answer": answer.text,
        "tokens": answer.tokens,
        "sources": [{"document": p.document, "start": p.start, "end": p.end} for p in answer.sources],
        "believed": list(found.believed),
        "of_another_time": found.otherwise,
        "since_unknown": list(found.since_unknown),
        "commit": status[-1].id if status else None,
        "lessons": len(status),
    }

    def human(console: "Console") -> None:
        console.print(answer.text, markup=False)
        for p in answer.sources:
            where = f", characters {p.start} to {p.end}" if p.end else ", a given answer"
            said = f"read: {p.document}{where}" if p.text else f"from: {p.document}"
            console.print(f"   {said}", markup=False, style="dim")
        if found.differs:
            console.print(f"   what is believed: {'; '.join(found.believed)}", markup=False, style="dim")
        for one in found.since_unknown:
            console.print(f"   nobody says since when: {one}", markup=False, style="dim")
        if not answer.sources and getattr(learner.method, "cites", False):
            console.print(f"   from: the base model; {silence(found)}", markup=False, style="dim")

    session.print(result, human)


@verb
def log(session: Session) -> None:
    """List the lessons of this model and method, newest first."""
    learner = session.learner()
    commits = learner.log()[::-1]

    session.print(
        [lesson_json(commit) | {"undone": commit.undone} for commit in commits],
        lambda console: print_log(console, learner, commits),
    )


@verb
def show(
    session: Session, commit: Annotated[str, typer.Argument(help="The beginning of its id.", show_default=False)]
) -> None:
    """Show one lesson whole."""
    found = session.learner().show(commit)
    result = lesson_json(found) | {
        "parent": found.parent,
        "time": found.time,
        "domain": found.domain,
        "bytes": found.bytes,
        "undone": found.undone,
        "config": dict(found.config),
    }

    def human(console: "Console") -> None:
        print_lesson(console, found)
        table = plain_table("", "")
        table.show_header = False
        for key in ("parent", "time", "domain", "bytes", "undone", "digest_before", "digest_after", "config"):
            value = result[key]
            text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
            table.add_row(key, str("-" if text is None else text))
        console.print(table)

    session.print(result, human)


@verb
def forget(
    session: Session,
    document: Annotated[str, typer.Argument(help="Its file, its name in the log, or its commit.", show_default=False)],
    probes: Annotated[Path | None, typer.Option(help="Questions asked before and after (.jsonl).")] = None,
) -> None:
    """Take one document out of what was learned, for methods that can; this is a commit, and undo takes it back."""
    from accrete.data.documents import read_probes

    asked = read_probes(probes) if probes else ()
    learner = session.learner()
    learner.progress = ticker = Ticker(short(Path(document)), bool(session.json))
    try:
        commit = learner.forget(document, probes=asked)
    finally:
        ticker.done()
    changes = [f"{name} {change(commit.metrics.get(f'{name}_before'), commit.metrics.get(f'{name}_after'))}"
               for name in ("kept", "probes") if commit.metrics.get(f"{name}_after") is not None]  # fmt: skip
    said = f"{commit.document}: {commit.id}" + (f" ({', '.join(changes)})" if changes else "")
    said += f"\n{told}" if (told := reported(commit.metrics)) else ""
    unmet, name = unmet_now(learner), commit.document.removeprefix("without ")
    same = [held[3] for held in commit.metrics["holds"] if held[2] == name]
    lines = [said, *(f"   another lesson of {name} is still there: {one}" for one in same), *not_as_expected(unmet)]
    session.print(
        lesson_json(commit) | {"expected_unmet": unmet},
        lambda console: console.print("\n".join(lines), markup=False),
    )


@verb
def undo(session: Session) -> None:
    """Take the last lesson back, bit for bit."""
    learner = session.learner()
    undone = learner.undo()
    unmet, head = unmet_now(learner), learner.history.active()[-1:]
    result = {"undone": undone.id, "document": undone.document, "digest": learner.digest}
    state = f"after {head[0].id}, the lesson of {head[0].document}" if head else "before any lesson"
    said = f"undone: {undone.document} ({undone.id}); the state is again that {state}, bit for bit"
    session.print(
        result | {"commit": head[0].id if head else None, "expected_unmet": unmet},
        lambda console: console.print("\n".join([said, *not_as_expected(unmet)]), markup=False),
    )


def ask_about(ticker: Ticker, found: "Contradiction") -> "OnConflict":
    """Ask whoever sits there what a contradiction means, until it is said."""
    if not sys.stdin.isatty():
        raise UsageError("--on-conflict ask needs a terminal; say supersede, branch or reject.")
    ticker.done()
    since = spoken(found.new.valid_from)
    print(f"{found}\n   new: {found.new.value}" + (f", from {since} on" if since else ""), file=sys.stderr)
    while True:
        chosen: str = typer.prompt("supersede, branch (both hold) or reject", default="supersede", err=True)
        for known in ("supersede", "branch", "reject"):
            if chosen.strip().lower() == known:
                return known
        print(f'"{chosen}" is none of them.', file=sys.stderr)
