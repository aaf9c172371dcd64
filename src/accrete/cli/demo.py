"""The verb that shows everything in two minutes: fail, learn, answer, keep, undo."""

import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    text = read_document(demo_file("document.md")).text
    study = read_document(demo_file("study.jsonl"))
    probes = read_probes(demo_file("probes.jsonl"))
    learner = session.learner()

    console.print("[bold]A document about things nobody has heard of[/]\n")
    console.print(text.strip(), markup=False)
    console.print(f"\n[bold]1. {learner.lm.name} is asked about it before, and with the text in front of it[/]\n")
    before, ceiling = _answers(learner, probes), _answers(learner, probes, with_context=True)
    floor_grade, ceiling_grade = learner.grade(probes), learner.grade(probes, with_context=True)

    console.print(
        f"\n[bold]2. It studies {len(study.items)} questions and answers about it ({learner.method_name})[/]\n"
    )
    ticker = learner.progress = Ticker("studying", bool(session.json))
    commit = learner.learn(study, probes=probes)
    ticker.done()
    after = _answers(learner, probes)
    console.print(_answer_table(probes, before, after, ceiling))

    console.print("[bold]3. What it learned, kept and cost[/]\n")
    metrics = commit.metrics
    console.print(_result_table(metrics, floor_grade, ceiling_grade))

    console.print("[bold]4. Undo[/]\n")
    learner.undo()
    exact = learner.digest == commit.digest_before
    console.print(f"   the state is {'again' if exact else 'NOT'} {commit.digest_before[:16]}..., bit for bit\n")
    _where_next(console)
    result = {
        "floor": floor_grade,
        "learned": metrics["probes_after"],
        "ceiling": ceiling_grade,
        "undo_exact": exact,
        **metrics,
    }
    if session.json:
        session.print(result, lambda _: None)


def _answers(learner: "Learner", probes: tuple["Probe", ...], with_context: bool = False) -> list[str]:
    from accrete.types import Query

    queries = [Query(probe.question, probe.context if with_context else "") for probe in probes]
    return [answer.text for answer in learner.answer(queries, max_new_tokens=24)]


def _answer_table(probes: tuple["Probe", ...], before: list[str], after: list[str], ceiling: list[str]) -> Any:
    from rich.text import Text

    from accrete.cli.lessons import _table
    from accrete.scoring import grade

    table = _table("asked in words it did not study", "before", "after", "with the text in front of it")
    for probe, *answers in zip(probes, before, after, ceiling, strict=True):
        cells = [Text(a, style="green" if grade(a, probe.answers) >= 0.5 else "red") for a in answers]
        table.add_row(Text(probe.question), *cells)
    return table


def _result_table(metrics: Any, floor: float | None, ceiling: float | None) -> Any:
    from accrete.cli.lessons import _figure, _table

    table = _table("", "before", "after", "ceiling", "")
    table.add_row(
        "learned", _figure(floor), _figure(metrics["probes_after"]), _figure(ceiling), "share of the questions above"
    )
    table.add_row(
        "kept",
        _figure(metrics["kept_before"]),
        _figure(metrics["kept_after"]),
        "",
        "what it knew before, 200 questions",
    )
    table.add_row("loss", _figure(metrics["loss_before"]), _figure(metrics["loss_after"]), "", "nats per token studied")
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
