"""The verbs of everyday: learn, ask, log, show, undo, status, methods."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.session import Session, Ticker, verb
from accrete.errors import DocumentError

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.store.journal import Commit


@verb
def learn(
    session: Session,
    paths: Annotated[
        list[Path], typer.Argument(help="Text, or .jsonl lines of question and answer.", show_default=False)
    ],
    probes: Annotated[
        Path | None, typer.Option(help="Questions asked before and after, never taught (.jsonl).")
    ] = None,
    domain: Annotated[str, typer.Option(help="What the document belongs to; kept with the lesson.")] = "default",
    importance: Annotated[float, typer.Option(help="How much it matters, 1 being normal; kept with the lesson.")] = 1.0,
) -> None:
    """Learn documents: each is one lesson, measured and committed."""
    from accrete.data.documents import read_document, read_probes

    asked = read_probes(probes) if probes else ()
    documents = [
        read_document(path) for path in paths
    ]  # before the first lesson: a typo in the last path costs nothing
    learner = session.learner()
    for document in documents:
        ticker = learner.progress = Ticker(document.name, bool(session.json))
        try:
            commit = learner.learn(document, probes=asked, domain=domain, importance=importance)
        finally:
            ticker.done()
        session.print(lesson_json(commit), functools.partial(print_lesson, commit=commit))


@verb
def ask(
    session: Session,
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    context: Annotated[Path | None, typer.Option(help="A text to read before answering.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How long the answer may be.", min=1)] = 64,
) -> None:
    """Ask the model as it is now; with --context it reads a text first."""
    from accrete.data.documents import read_document

    if not question.strip():
        raise DocumentError("The question is empty.")
    passage = read_document(context).text if context else ""
    learner = session.learner()
    answer = learner.ask(question, context=passage, max_new_tokens=max_new_tokens)
    status = learner.journal.active(learner.base, learner.method_name)
    result = {
        "question": question,
        "answer": answer.text,
        "tokens": answer.tokens,
        "sources": [{"document": p.document, "start": p.start, "end": p.end} for p in answer.sources],
        "commit": status[-1].id if status else None,
        "lessons": len(status),
    }
    session.print(result, lambda console: console.print(answer.text, markup=False))


@verb
def log(session: Session) -> None:
    """List the lessons of this model and method, newest first."""
    learner = session.learner()
    commits = learner.log()[::-1]

    def human(console: "Console") -> None:
        from rich.text import Text

        if not commits:
            console.print(
                f"No lessons yet: {learner.method_name} has taught {learner.lm.name} nothing in {learner.home}."
            )
            return
        table = plain_table("commit", "day", "document", "loss", "kept", "probes")
        for column in table.columns:
            column.no_wrap, column.overflow = column.header != "document", "ellipsis"  # a narrow screen cuts names only
        for commit in commits:
            m = commit.metrics
            changes = [_change(m.get(f"{name}_before"), m.get(f"{name}_after")) for name in ("loss", "kept", "probes")]
            name = Text.assemble(("undone ", "dim") if commit.undone else "", commit.document)
            table.add_row(commit.id, commit.time[:10], name, *changes)
        console.print(table)

    session.print([lesson_json(commit) | {"undone": commit.undone} for commit in commits], human)


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


@verb
def status(session: Session) -> None:
    """Show the model, the method's state and the home."""
    found = session.learner().status()

    def human(console: "Console") -> None:
        layers, parameters, method = found["layers"], found["parameters"], found["method"]
        rows = {
            "model": f"{found['model']} ({found['base_digest'][:12]}) on {found['device']}, {found['dtype']}",
            "layers": f"{layers['total']} total, {layers['modified']} modified, {layers['frozen']} frozen",
            "parameters": f"{parameters['total']:,} total, {parameters['trainable']:,} trainable",
            "method": method["name"],
            "options": ", ".join(f"{key}={value}" for key, value in method["config"].items()),
            "state": ", ".join(f"{part}: {entries} entries" for part, entries in method["parts"].items()),
            "lessons": f"{found['lessons']} (head {found['head'] or '-'})",
            "digest": found["digest"],
            "home": f"{found['home']} ({found['bytes'] / 1e6:.1f} MB)",
        }
        table = plain_table("", "")
        table.show_header = False
        for key, value in rows.items():
            table.add_row(key, value)
        console.print(table)

    session.print(found, human)


@verb
def methods(session: Session) -> None:
    """List the ways of learning."""
    from accrete.methods import DEFAULT, base

    rows: list[dict[str, Any]] = [
        {"name": name, "summary": base.summary(name), "capabilities": base.capabilities(name)} for name in base.names()
    ]

    def human(console: "Console") -> None:
        table = plain_table("method", "what it does", "also")
        for row in rows:
            mark = " (default)" if row["name"] == DEFAULT else ""
            table.add_row(row["name"] + mark, row["summary"], ", ".join(row["capabilities"]))
        console.print(table)

    session.print(rows, human)


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
    if commit.already:
        console.print(f"{commit.document} was learned before (commit {commit.id}); nothing was changed", markup=False)
        return
    cost = f"{m['tokens']:,} tokens, {m['steps']} steps, {m['seconds']:.1f} s" if "tokens" in m else "loaded"
    console.print(f"learned {commit.document} as {commit.id} ({cost})", markup=False)
    table = plain_table("", "before", "after", "")
    rows = (
        ("loss", "nats per token of what was studied", "loss_before", "loss_after"),
        ("kept", "share of the guard questions answered", "kept_before", "kept_after"),
        ("probes", f"grade over {m.get('probes', 0)} probe questions", "probes_before", "probes_after"),
    )
    for name, meaning, before, after in rows:
        if m.get(after) is not None:
            table.add_row(name, figure(m.get(before)), figure(m[after]), meaning)
        elif name == "kept":
            table.add_row(name, "-", "-", "not measured: this model brings no guard questions")
    console.print(table)
    if m.get("stopped_at_limit"):
        console.print(
            "the lesson ended at its step limit before its loss fell to the mark; --set max_steps=N gives it more"
        )


def figure(value: float | None) -> str:
    """A share or a loss for a person."""
    return "-" if value is None else f"{value:.2f}"


def _change(before: float | None, after: float | None) -> str:
    return "" if after is None else f"{figure(before)}>{figure(after)}"


def plain_table(*headings: str) -> Any:
    """A table without a frame."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
