"""The verbs of everyday: learn, ask, log, show, undo."""

import functools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.desk import Desk, Source, short, sources
from accrete.cli.session import Session, Ticker, check_choice, verb
from accrete.errors import DocumentError, LessonError, UsageError

SHOWN = 4  # pieces that were left out

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.facts.contradiction import Contradiction, OnConflict
    from accrete.learner import Learner
    from accrete.store.journal import Commit


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
    settings = session.settings(domain=domain, clean=clean).settings
    asked = read_probes(probes) if probes else ()
    queue = sources(paths, settings.offline)
    desk = Desk(settings.clean, language, settings.offline, allow_private)
    learner = session.learner(
        max_forgetting=max_forgetting, study=study, teacher=teacher, facts=facts, on_conflict=on_conflict
    )
    learner.believing.ask = ask_about
    counts: Counter[str] = Counter()
    worst = 0
    for number, path in enumerate(queue, 1):
        place = f"[{number}/{len(queue)}] " if len(queue) > 1 else ""
        ticker = learner.progress = Ticker(f"{place}{short(path)}", bool(session.json))
        if place and not ticker.live:
            print(f"{place}{short(path)}", file=sys.stderr, flush=True)
        try:
            document, left_out = desk.read(path)
            commit = learner.learn(
                document,
                probes=asked,
                domain=settings.domain,
                importance=importance,
                dates=[date] if date else [],
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
    passage = read_document(context).text if context else ""
    learner = session.learner()
    answer = learner.ask(question, context=passage, domain=domain, as_of=as_of, max_new_tokens=max_new_tokens)
    status = learner.history.active()
    read, whole = learner.reader.tokens_read(Query(question, passage), max_new_tokens)
    if read < whole:
        print(f"{context} is longer than the model reads: the first {read:,} of {whole:,} tokens", file=sys.stderr)
    result = {
        "question": question,
        "answer": answer.text,
        "tokens": answer.tokens,
        "sources": [{"document": p.document, "start": p.start, "end": p.end} for p in answer.sources],
        "commit": status[-1].id if status else None,
        "lessons": len(status),
    }

    def human(console: "Console") -> None:
        console.print(answer.text, markup=False)
        for p in answer.sources:
            where = f", characters {p.start} to {p.end}" if p.end else ", a given answer"
            said = f"read: {p.document}{where}" if p.text else f"from: {p.document}"
            console.print(f"   {said}", markup=False, style="dim")
        if not answer.sources and getattr(learner.method, "cites", False):
            console.print("   from: the base model; nothing that was learned says it", style="dim")

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
    commit = session.learner().forget(document, probes=asked)
    changes = [f"{name} {_change(commit.metrics.get(f'{name}_before'), commit.metrics.get(f'{name}_after'))}"
               for name in ("kept", "probes") if commit.metrics.get(f"{name}_after") is not None]  # fmt: skip
    said = f"{commit.document}: {commit.id}" + (f" ({', '.join(changes)})" if changes else "")
    said += f"\n{told}" if (told := reported(commit.metrics)) else ""
    session.print(lesson_json(commit), lambda console: console.print(said, markup=False))


@verb
def undo(session: Session) -> None:
    """Take the last lesson back, bit for bit."""
    learner = session.learner()
    undone = learner.undo()
    result = {"undone": undone.id, "document": undone.document, "digest": learner.digest}
    session.print(
        result,
        lambda console: console.print(
            f"undone: {undone.document} ({undone.id}); the state is again {learner.digest[:12]}, bit for bit",
            markup=False,
        ),
    )


def print_log(console: "Console", learner: "Learner", commits: "Sequence[Commit]") -> None:
    """Lessons as a table, in the order given."""
    from rich.text import Text

    if not commits:
        console.print(nothing_yet(learner), markup=False)
        return
    table = plain_table("commit", "day", "document", "loss", "kept", "probes")
    for column in table.columns:
        column.no_wrap, column.overflow = column.header != "document", "ellipsis"  # a narrow screen cuts names only
    for commit in commits:
        m = commit.metrics
        changes = [_change(m.get(f"{name}_before"), m.get(f"{name}_after")) for name in ("loss", "kept", "probes")]
        state = "refused " if "refused" in m else "undone " if commit.undone else ""
        name = Text.assemble((state, "dim"), commit.document)
        table.add_row(commit.id, commit.time[:10], name, *changes)
    console.print(table)


def nothing_yet(learner: "Learner") -> str:
    return f"No lessons yet: {learner.method_name} has taught {learner.lm.name} nothing in {learner.home}."


def lesson_json(commit: "Commit") -> dict[str, Any]:
    """A lesson as `learn --json` prints it."""
    return {
        "commit": commit.id,
        "document": commit.document,
        "already_learned": commit.already,
        "digest_before": commit.digest_before,
        "digest_after": commit.digest_after,
        **commit.metrics,
    }


def print_lesson(console: "Console", commit: "Commit") -> None:
    """A lesson for a person: what it taught, what it kept, what it cost."""
    m = commit.metrics
    if "refused" in m:
        console.print(m["refused"], markup=False)
    elif commit.already:
        console.print(f"{commit.document} was learned before (commit {commit.id}); nothing was changed", markup=False)
        console.print("to study it in another way, forget it first, or undo it where forget cannot", style="dim")
        return
    counted = (
        "" if "learned_from" in m else f"{m.get('tokens', 0):,} tokens, "
    )  # a method that counts for itself says it below
    cost = f"{counted}{m['steps']} steps, {m['seconds']:.1f} s" if "tokens" in m else "loaded"
    if "refused" not in m:
        console.print(f"learned {commit.document} as {commit.id} ({cost})", markup=False)
    table = plain_table("", "before", "after", "")
    measured = "the whole text" if m.get("text_tokens_left_out") else "what was studied"
    rows = (
        ("loss", f"nats per token of {measured}", "loss_before", "loss_after"),
        ("kept", "share of the guard questions answered", "kept_before", "kept_after"),
        ("probes", f"grade over {m.get('probes', 0)} probe questions", "probes_before", "probes_after"),
    )
    for name, meaning, before, after in rows:
        if m.get(after) is not None:
            table.add_row(name, figure(m.get(before)), figure(m[after]), meaning)
        elif name == "kept":
            table.add_row(name, "-", "-", "nothing is guarded: this model brings no guard questions and answers none")
    console.print(table)
    for line in ("" if m.get("facts") else studied(m.get("study")), reported(m), *believed(m)):
        if line:
            console.print(line, markup=False)
    if m.get("left_out"):
        counts, first = m["left_out"]["counts"], m["left_out"]["first"]
        console.print("left out: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()), markup=False)
        for piece in first[:SHOWN]:
            console.print(f"   {piece['reason']}: {piece['begins']}", markup=False, overflow="ellipsis", no_wrap=True)
        if (more := sum(counts.values()) - SHOWN) > 0:
            console.print(f"   and {more} more (--json, --keep-all)", markup=False)
    if m.get("stopped_at_limit"):
        console.print(
            "the lesson ended at a limit before its loss fell to the mark; --set max_steps=N or max_epochs=N gives it more"
        )


def studied(figures: Mapping[str, Any] | None) -> str:
    """How the study items came about, where they were written rather than given; else nothing."""
    if not figures:
        return ""
    if not figures["by"]:
        return "no questions were given: the text itself was learned" if figures["source"] == "text" else ""
    took = f"({figures['seconds']:.1f} s)"
    if figures["source"] == "text":
        wrote = f"{figures['written']} questions, of which none could be kept" if figures["written"] else "no questions"
        return f"{figures['by']} wrote {wrote} {took}: the text itself was studied"
    return (
        f"studied {figures['kept']} of {figures['written']} questions ({figures['share']:.0%}) that {figures['by']} wrote"
        f" and answered alike on reading again {took}"
    )


def believed(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a document contradicts, and what its lesson did to what is known next to it."""
    if metrics.get("facts"):
        yield f"facts that were read: {metrics['facts']:,}"
    against = metrics.get("contradictions", [])
    yield from against[:SHOWN]
    if len(against) > SHOWN:
        yield f"and {len(against) - SHOWN} more contradictions (--json)"
    if "neighbours" in metrics:
        share = f"{figure(metrics['neighbours_before'])}>{figure(metrics['neighbours_after'])}"
        yield f"neighbours: {share} of {metrics['neighbours']} questions about what stands next to its facts"
        yield from (f"   disturbed: {question}" for question in metrics["disturbed"][:SHOWN])
    yield from (
        f"   was not as expected before either: {prompt}" for prompt in metrics.get("expected_unmet_before", [])
    )


def ask_about(found: "Contradiction") -> "OnConflict":
    """Ask whoever sits there what a contradiction means."""
    if not sys.stdin.isatty():
        raise UsageError("--on-conflict ask needs a terminal; say supersede, branch or reject.")
    print(f"{found}\n   new: {found.new.value}", file=sys.stderr)
    chosen: OnConflict = typer.prompt("supersede, branch or reject", default="supersede", err=True)
    check_choice("the answer", chosen, ("supersede", "branch", "reject"))
    return chosen


def reported(metrics: Mapping[str, Any]) -> str:
    """What the method told of itself, as "ewc penalty 0.013, replay diversity 0.42"."""
    own = {key.replace("_", " "): metrics[key] for key in metrics.get("reported", [])}
    told = {key: f"{v:.3g}" if isinstance(v, float) else v for key, v in own.items() if isinstance(v, float | str)}
    return ", ".join(f"{key} {value}" for key, value in told.items())


def figure(value: float | None) -> str:
    """A share or a loss for a person."""
    return "-" if value is None else f"{value:.2f}"


def _change(before: float | None, after: float | None) -> str:
    return "" if after is None else f"{figure(before)}>{figure(after)}"


def plain_table(*headings: str) -> Any:
    """A table without a frame."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
