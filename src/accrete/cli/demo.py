"""The verb that shows everything in two minutes: fail, learn, answer, keep, undo."""

import functools
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lesson_lines import figure, plain_table, studied
from accrete.cli.session import Session, Ticker, verb

if TYPE_CHECKING:
    from accrete.learner import Learner
    from accrete.types import Probe


@verb
def demo(
    session: Session,
    keep: Annotated[
        bool, typer.Option("--keep", help="Use the home and keep the lesson, instead of a scratch home.")
    ] = False,
) -> None:
    """Teach the embedded model a document it cannot know; show what it learned, kept and cost."""
    if keep:
        _demo(session)
        return
    with tempfile.TemporaryDirectory(prefix="accrete-demo-") as scratch:
        _demo(replace(session, home=Path(scratch)))


def demo_file(name: str) -> Path:
    """A file of the demo that ships with the package: document.md, study.jsonl or probes.jsonl."""
    return Path(str(resources.files("accrete.cli").joinpath("demo_files", name)))


def _demo(session: Session) -> None:
    from rich.console import Console

    from accrete.data.documents import read_document, read_probes

    console = Console(highlight=False, quiet=bool(session.json))
    document = read_document(demo_file("document.md"))
    probes = read_probes(demo_file("probes.jsonl"))
    learner = session.learner()

    say = functools.partial(console.print, markup=False)
    console.print("[bold]A document about things nobody has heard of[/]\n")
    say(document.text.strip())
    console.print("\n[bold]1. Before[/]\n")
    before = _answers(learner, probes)
    ceiling = _answers(learner, probes, with_context=True)
    say(
        f"   {learner.lm.name} answers {_right(probes, before)} of {len(probes)} questions about it from memory, the floor,"
    )
    say(f"   and {_right(probes, ceiling)} with the text in front of it, the ceiling.")

    console.print(f"\n[bold]2. A lesson: the text alone ({learner.method_name})[/]\n")
    ticker = learner.progress = Ticker("studying", bool(session.json))
    commit = learner.learn(document, probes=probes)
    ticker.done()
    if line := studied(commit.metrics.get("study")):
        say(f"   {line}\n")
    console.print(_answer_table(probes, before, _answers(learner, probes)))

    console.print("[bold]3. What it learned, kept and cost[/]\n")
    result: dict[str, Any] = {
        "floor": commit.metrics["probes_before"],
        "learned": commit.metrics["probes_after"],
        "ceiling": _right(probes, ceiling) / len(probes),
    }
    console.print(_result_table(commit.metrics, result))

    console.print("[bold]4. Undo[/]\n")
    learner.undo()
    result["undo_exact"] = learner.digest == commit.digest_before
    word = "again" if result["undo_exact"] else "NOT"
    say(f"   the state is {word} {commit.digest_before[:16]}, bit for bit; nothing of it is left\n")
    _where_next(console)
    if session.json:
        session.print(result | dict(commit.metrics), lambda _: None)


def _answers(learner: "Learner", probes: tuple["Probe", ...], with_context: bool = False) -> list[str]:
    from accrete.types import Query

    queries = [Query(probe.question, probe.context if with_context else "") for probe in probes]
    return [answer.text for answer in learner.answer(queries, max_new_tokens=24)]


def _right(probes: tuple["Probe", ...], answers: list[str]) -> int:
    from accrete.scoring import grade

    return sum(grade(answer, probe.answers) >= 0.5 for probe, answer in zip(probes, answers, strict=True))


def _answer_table(probes: tuple["Probe", ...], before: list[str], after: list[str]) -> Any:
    from rich.text import Text

    table = plain_table("asked in other words than those of the text", "before", "after")
    for probe, *answers in zip(probes, before, after, strict=True):
        cells = [Text(answer, style="green" if _right((probe,), [answer]) else "red") for answer in answers]
        table.add_row(Text(probe.question), *cells)
    return table


def _result_table(metrics: Any, result: dict[str, Any]) -> Any:
    table = plain_table("", "before", "after", "ceiling", "")
    learned = [figure(result[key]) for key in ("floor", "learned", "ceiling")]
    kept = [figure(metrics[key]) for key in ("kept_before", "kept_after")]
    loss = [figure(metrics[key]) for key in ("loss_before", "loss_after")]
    table.add_row("learned", *learned, "share of the questions above")
    table.add_row("kept", *kept, "", "share of what it knew before")
    table.add_row("loss", *loss, "", "nats per token studied")
    table.add_row("cost", "", f"{metrics['learning_seconds']:.1f} s", "", f"{metrics['steps']} steps on this machine")
    return table


def _where_next(console: Any) -> None:
    console.print("[bold]Where to go next[/]\n")
    for command, meaning in (
        ("accrete learn FILE", "a text, or .jsonl lines of question and answer"),
        ('accrete ask "QUESTION"', "from what it has learned"),
        ("accrete log", "every lesson with what it taught, kept and cost"),
        ("accrete undo", "the last lesson, exactly"),
        ("accrete methods", "the ways of learning"),
    ):
        console.print(f"   {command:<26}{meaning}", markup=False)
    console.print()
