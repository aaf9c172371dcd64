"""The verbs that look: status, methods, domains, forgetting, doctor."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lesson_lines import figure, nothing_yet, plain_table, reported
from accrete.cli.session import Session, Ticker, verb

if TYPE_CHECKING:
    from rich.console import Console


@verb
def status(session: Session) -> None:
    """Show the model, the method's state and the home."""
    found = session.learner().status()

    def human(console: "Console") -> None:
        layers, parameters, method = found["layers"], found["parameters"], found["method"]
        rows = {
            "model": f"{found['model']} ({found['base_digest'][:12]}) on {found['device']}, {found['dtype']}"
            + (" (learning multiplies in bfloat16)" if found["mixed"] else ""),
            "layers": f"{layers['total']} total, {layers['modified']} modified, {layers['frozen']} frozen",
            "parameters": f"{parameters['total']:,} total, {parameters['trainable']:,} trainable",
            "method": method["name"],
            "options": ", ".join(f"{key}={value}" for key, value in method["config"].items()),
            **{key.replace("_", " "): _told(value) for key, value in method["about"].items()},
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


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one:,}" for key, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


@verb
def methods(
    session: Session,
    name: Annotated[str, typer.Argument(help="The options of this one.", show_default=False)] = "",
) -> None:
    """List the ways of learning, or the options of one of them, which --set changes."""
    from accrete.methods import DEFAULT, base

    if name:
        _options(session, base.find(name))
        return
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


def _options(session: Session, method: Any) -> None:
    """Of learning, and of its retrofit where it has one."""
    from accrete.config import options_of

    schemas = {"learn": method.Config} | (
        {"retrofit": method.RetrofitConfig} if hasattr(method, "RetrofitConfig") else {}
    )
    found = {step: [vars(option) for option in options_of(schema)] for step, schema in schemas.items()}

    def human(console: "Console") -> None:
        for step, options in found.items():
            table = plain_table(f"{step} --set", "default", "may be", "meaning")
            for one in options:
                default = list(one["default"]) if isinstance(one["default"], tuple) else one["default"]
                table.add_row(one["name"], json.dumps(default), one["values"], one["meaning"])
            console.print(table)

    session.print(found, human)


@verb
def domains(session: Session) -> None:
    """List what was taught, by domain."""
    learner = session.learner()
    rows = learner.domains()

    def human(console: "Console") -> None:
        if not rows:
            console.print(nothing_yet(learner), markup=False)
            return
        table = plain_table("domain", "lessons", "kept", "parameters", "last document")
        for row in rows:
            own = "shared" if row["parameters"] is None else f"{row['parameters']:,}"
            table.add_row(row["domain"], str(row["lessons"]), figure(row["kept"]), own, row["last"] or "-")
        console.print(table)

    session.print(rows, human)


@verb
def forgetting(
    session: Session,
    measure: Annotated[bool, typer.Option("--measure", help="Ask the guard and the scored questions now.")] = False,
) -> None:
    """Show what the lessons cost, as last measured: kept at birth and now, by domain."""
    from accrete.store.indicators import forgetting as indicators

    learner = session.learner()
    found = indicators(learner.log()) | {"max_forgetting": learner.max_forgetting}
    if measure:
        names = [row["domain"] for row in found["domains"]] or [None]
        found["measured"] = [
            {"domain": name, "guard": learner.kept(name), "scored": learner.kept(name, "scored")} for name in names
        ]

    def human(console: "Console") -> None:
        if not found["lessons"]:
            console.print(
                "No lessons yet: nothing was forgotten." if not found["since"] else "No lessons of its own yet."
            )
        for row in found["domains"]:
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.1%}"
            console.print(
                f"{row['domain']}: {row['lessons']} lessons, guard questions kept {figure(row['kept_at_birth'])} ->"
                f" {figure(row['kept_now'])}, forgetting ratio {ratio}",
                markup=False,
            )
        if found["lessons"] and not found["domains"]:
            console.print(f"{found['lessons']} lessons; this model brought no guard questions to measure them by")
        for row in found["since"]:
            console.print(f"since then: {row['what']} ({row['commit']}), guard {figure(row['kept'])}", markup=False)
        for row in found.get("measured", []):
            console.print(
                f"measured now, {row['domain'] or 'base'}: guard {figure(row['guard'])}, scored {figure(row['scored'])}",
                markup=False,
            )
        if worst := found["worst"]:
            console.print(f"dearest lesson: {worst['document']} ({worst['commit']}), {worst['cost']:.3f}", markup=False)
        told = reported(found["last"])
        refused = f"refused lessons: {found['refused']} (max_forgetting {found['max_forgetting']:g})"
        console.print(f"{refused}; {told}" if told else refused)

    session.print(found, human)


@verb
def doctor(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="The model to look at; without it that of the settings.")
    ] = None,
) -> None:
    """Say which methods work on a model here, how long a lesson takes and how much memory it needs.

    Every method takes a lesson of a few steps in a process of its own; nothing is kept.
    """
    from accrete import doctor as checks

    settings = (replace(session, model=name) if name else session).settings().settings
    ticker = Ticker("doctor", bool(session.json))
    try:
        found = checks.examine(
            settings.model,
            settings.device,
            settings.dtype,
            settings.offline,
            progress=lambda what: ticker(what, 0, 0.0),
        )
    finally:
        ticker.done()

    def human(console: "Console") -> None:
        facts = plain_table("", "")
        facts.show_header = False
        for key, value in found["model"].items():
            facts.add_row(key.replace("_", " "), str(value))
        console.print(facts)
        table = plain_table("method", "works", "a step", "20 questions", "memory")
        for row in found["methods"]:
            if row["works"]:
                cells = (f"{row['seconds_a_step']:.2f} s", f"about {row['seconds_expected']:.0f} s")
                table.add_row(row["method"], "yes", *cells, f"{row['memory_gb']:.1f} GB")
            else:
                table.add_row(row["method"], f"no: {row['reason']}", "-", "-", "-")
        console.print(table)

    session.print(found, human)
    if not any(row["works"] for row in found["methods"]):
        raise typer.Exit(1)
