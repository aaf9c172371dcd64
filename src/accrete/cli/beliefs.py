"""The verbs about what is believed: facts, history, why, expect."""

import datetime
import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lesson_lines import nothing_believed, plain_table, silence
from accrete.cli.session import Session, verb
from accrete.dates import as_iso, spoken
from accrete.errors import DocumentError, ModelError, UsageError, did_you_mean
from accrete.types import Query

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.facts.statements import Statement
    from accrete.learner import Learner

SUBJECTS = 50  # that are listed


@verb
def facts(
    session: Session,
    subject: Annotated[str, typer.Argument(help="Of this one; else all subjects are listed.", show_default=False)] = "",
    as_of: Annotated[str | None, typer.Option(help="What held at a date, as in 2024-05 [what holds now].")] = None,
) -> None:
    """Show what is believed, with its dates and documents."""
    date = as_iso(as_of) if as_of is not None else datetime.date.today().isoformat()
    learner = session.learner()
    graph = learner.beliefs.graph
    learner.usage.recall(graph)
    if not subject and as_of is None:
        subjects = graph.subjects()
        session.print(
            [{"subject": name, "statements": count} for name, count in subjects],
            lambda console: _subjects(console, subjects, learner),
        )
        return
    known = _known(learner, subject) if subject else []
    first = min((one.valid_from or "" for one in known), default="")
    nothing = "nothing held then" if as_of else f"nothing holds now; accrete history {subject} shows what did"
    nothing = f"nothing was known of {subject} before {spoken(first)}" if first > date else nothing
    _print(session, learner, graph.at(date, subject or None), nothing)


@verb
def history(
    session: Session,
    subject: Annotated[str, typer.Argument(help="As in `accrete facts`.", show_default=False)],
    relation: Annotated[str, typer.Argument(help="One of its relations; else all.", show_default=False)] = "",
) -> None:
    """Show what was believed of a subject at any time, the earliest first."""
    learner = session.learner()
    learner.usage.recall(learner.beliefs.graph)
    known = _known(learner, subject)
    found = learner.beliefs.graph.history(subject, relation) if relation else known
    if not found:
        raise UsageError(
            f'Nothing is known of "{relation}" of {subject}.{did_you_mean(relation, {one.relation for one in known})}'
        )
    _print(session, learner, found)


@verb
def why(
    session: Session,
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    as_of: Annotated[str | None, typer.Option(help="A date that the question is about, as in 2024-05.")] = None,
) -> None:
    """Answer a question, and show which facts, documents and lessons stand behind the answer."""
    if not question.strip():
        raise DocumentError("The question is empty.")
    as_of = as_iso(as_of) if as_of is not None else None
    learner = session.learner()
    found = learner.why(question, as_of=as_of)
    learner.usage.recall(learner.beliefs.graph)
    rows = [
        _row(learner, learner.beliefs.graph[one.id]) for one in learner.beliefs.graph.with_beginnings(found.statements)
    ]
    result = {
        "question": question,
        "answer": found.answer.text,
        "as_of": found.date,
        "asked_as": found.question or None,
        "alike": None if found.alike is None else round(found.alike, 3),
        "backwards": found.backwards,
        "believed": list(found.believed),
        "of_another_time": found.otherwise,
        "since_unknown": list(found.since_unknown),
        "statements": rows,
    }

    def human(console: "Console") -> None:
        console.print(found.answer.text, markup=False)
        if not rows:
            console.print(f"   from: the base model; {silence(found)}", markup=False, style="dim")
            return
        date = f", as of {found.date.replace('/', ' to ')}" if found.date else ""
        console.print(f'   taken for: "{found.question}"{date}', markup=False, style="dim")
        if found.differs:
            console.print("   what is believed is not quite what was answered:", style="dim")
        for one in found.since_unknown:
            console.print(f"   nobody says since when: {one}", markup=False, style="dim")
        _table(console, rows)

    session.print(result, human)


@verb
def expect(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="Without one, all expectations are listed.", show_default=False)] = "",
    contains: Annotated[str, typer.Option(help="What the answer has in it.")] = "",
    not_contains: Annotated[str, typer.Option("--not-contains", help="What it has not.")] = "",
    judge: Annotated[str, typer.Option(help="What a teacher (the setting) judges true of it.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Expect nothing of this prompt any more.")] = False,
) -> None:
    """Say how the model must answer a prompt, whatever it learns: a lesson that loses it is refused."""
    from accrete.store.expectations import Expectation

    options = bool(contains or not_contains or judge)
    if not prompt.strip() and (options or remove):
        raise UsageError('Say of which prompt: accrete expect "PROMPT" ...')
    learner = session.learner()
    expectations = learner.expectations
    if remove:
        expectations.remove(prompt)
        session.print(
            {"removed": prompt}, lambda console: console.print(f'nothing is expected of "{prompt}"', markup=False)
        )
        return
    if options:
        expectations.add(Expectation(prompt, contains, not_contains, judge))
    expected = [one for one in expectations.all() if not prompt or one.prompt == prompt]
    if prompt and not expected:
        raise UsageError("Say what is expected: --contains TEXT, --not-contains TEXT or --judge CRITERION.")
    rows, judged, why_not = [], learner.believing.judge(expected), "no teacher"
    for one in expected:
        answer = learner.answer([Query(one.prompt)])[0].text
        try:
            met = one.met(answer, judged)
        except ModelError as error:
            met, why_not = one.met(answer, None), str(error)
        rows.append(asdict(one) | {"answer": answer, "met": met})

    def human(console: "Console") -> None:
        if not rows:
            console.print('Nothing is expected yet: accrete expect "PROMPT" --contains TEXT', markup=False)
        for one, row in zip(expected, rows, strict=True):
            state = {True: "met", False: "NOT MET", None: f"not judged ({why_not})"}[row["met"]]
            console.print(f'"{one.prompt}" {one}: {state}: {row["answer"]}', markup=False)

    session.print(rows, human)


# --- printing ----------------------------------------------------------------------------------------------------------


def _known(learner: "Learner", subject: str) -> "list[Statement]":
    """All statements about a subject; UsageError where there are none."""
    graph = learner.beliefs.graph
    if found := graph.history(subject):
        return found
    if not len(graph):
        raise UsageError(nothing_believed(learner))
    raise UsageError(f'Nothing is known about "{subject}".{did_you_mean(subject, [n for n, _ in graph.subjects()])}')


def _row(learner: "Learner", one: "Statement") -> dict[str, Any]:
    name, date = learner.beliefs.graph.document(one.document) or ("", None)
    lessons = {commit.sha256: commit.id for commit in learner.history.active()}
    return {
        "subject": one.subject,
        "relation": one.relation,
        "value": one.value,
        "from": one.since,
        "until": one.valid_until,
        "document": name,
        "stated_on": date,
        "start": one.start,
        "end": one.end,
        "lesson": lessons.get(one.lesson),
        "slot": one.slot,
        "asked": one.usage,
    }


def _print(session: Session, learner: "Learner", statements: "list[Statement]", nothing: str = "nothing") -> None:
    rows = [_row(learner, one) for one in statements]
    session.print(rows, lambda console: _table(console, rows, nothing))


def _table(console: "Console", rows: list[dict[str, Any]], nothing: str = "nothing") -> None:
    if not rows:
        console.print(nothing, style="dim", markup=False)
        return
    table = plain_table("subject", "relation", "value", "from", "until", "document", "characters", "lesson", "asked")
    for row, after in itertools.pairwise([*rows, {}]):
        where = "" if row["start"] is None else f"{row['start']}-{row['end']}"
        cells = [row[key] or "" for key in ("subject", "relation", "value", "from")]
        table.add_row(
            *cells, _until(row, after), row["document"] or "", where, row["lesson"] or "", str(row["asked"] or "")
        )
    console.print(table)


def _until(row: dict[str, Any], after: dict[str, Any]) -> str:
    """When it ended. What was followed when it began, or without any date, never counted: it is said again, or replaced."""
    if row["until"] is None or (row["until"] and row["until"] > (row["from"] or "")):
        return row["until"] or ""
    same = ("subject", "relation", "value", "from")
    if all(row[key] == after.get(key) for key in same):
        return "said again below"
    return "replaced at once" if row["until"] else "not believed any more"


def _subjects(console: "Console", subjects: list[tuple[str, int]], learner: "Learner") -> None:
    if not subjects:
        console.print(nothing_believed(learner), markup=False)
        return
    table = plain_table("subject", "statements")
    for name, count in subjects[:SUBJECTS]:
        table.add_row(name, f"{count:,}")
    console.print(table)
    if len(subjects) > SUBJECTS:
        console.print(f"and {len(subjects) - SUBJECTS:,} more subjects (--json)")
