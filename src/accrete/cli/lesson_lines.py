"""How lessons are shown: tables, figures and what is said of one. Ends at strings and a console."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accrete.dates import spoken
from accrete.errors import ModelError

SHOWN = 4  # pieces that were left out

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.believing import Reason
    from accrete.learner import Learner
    from accrete.store.journal import Commit


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
        changes = [change(m.get(f"{name}_before"), m.get(f"{name}_after")) for name in ("loss", "kept", "probes")]
        state = "refused " if "refused" in m else "undone " if commit.undone else ""
        name = Text.assemble((state, "dim"), commit.document)
        table.add_row(commit.id, commit.time[:10], name, *changes)
    console.print(table)


def nothing_yet(learner: "Learner") -> str:
    return f"No lessons yet: {learner.method_name} has taught {learner.lm.name} nothing in {learner.home}."


def nothing_believed(learner: "Learner") -> str:
    return f"Nothing is believed yet: {learner.method_name} has read no facts here (learn --facts model reads them)."


def silence(found: "Reason") -> str:
    """Why the base model answers."""
    if found.otherwise:
        return f"nothing is known of that time; of another: {found.otherwise}"
    return "nothing that was learned says it"


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
        stated = metrics.get("stated", [])
        yield from (f"   {one}" for one in stated)
        if stated and (more := metrics["facts"] - len(stated)):
            yield f"   and {more:,} more (accrete facts)"
        if metrics.get("dates"):
            yield f"   what has no date of its own counts from {spoken(metrics['dates'][0])} on, as was said (--date)"
        if since := metrics.get("facts_since_file"):
            yield f"   none of them has a date, so from {spoken(since)} on, when the file was written (--date says otherwise)"
        if unread := metrics.get("unread"):
            yield f"   sentences of which nothing was read: {unread['count']:,}, the first: {unread['first'][0][:80]}"
    against = metrics.get("contradictions", [])
    yield from against[:SHOWN]
    if len(against) > SHOWN:
        yield f"and {len(against) - SHOWN} more contradictions (--json)"
    if several := metrics.get("several"):
        yield f"several values at once from now on: {'; '.join(several[:SHOWN])}{' ...' * (len(several) > SHOWN)}"
    if "neighbours" in metrics:
        share = f"{figure(metrics['neighbours_before'])}>{figure(metrics['neighbours_after'])}"
        yield f"neighbours: {share} is right of what was asked about what stands next to its facts ({metrics['neighbours']})"
        yield from (f"   disturbed: {question}" for question in metrics["disturbed"][:SHOWN])
    yield from (
        f"   was not as expected before either: {prompt}" for prompt in metrics.get("expected_unmet_before", [])
    )


def unmet_now(learner: "Learner") -> list[str]:
    """What is not as expected after a change that nothing guards; a teacher that is away is told and no reason to fail."""
    try:
        return learner.watch().unmet
    except ModelError as error:
        print(error, file=sys.stderr)
        return []


def not_as_expected(unmet: Sequence[str]) -> list[str]:
    """What is to be said after a change that nothing guards; see `Watch.unmet`."""
    return [f"   not as expected now: {one}" for one in unmet]


def reported(metrics: Mapping[str, Any]) -> str:
    """What the method told of itself, as "ewc penalty 0.013, replay diversity 0.42"."""
    own = {key.replace("_", " "): metrics[key] for key in metrics.get("reported", [])}
    told = {key: f"{v:.3g}" if isinstance(v, float) else v for key, v in own.items() if isinstance(v, float | str)}
    return ", ".join(f"{key} {value}" for key, value in told.items())


def figure(value: float | None) -> str:
    """A share or a loss for a person."""
    return "-" if value is None else f"{value:.2f}"


def change(before: float | None, after: float | None) -> str:
    return "" if after is None else f"{figure(before)}>{figure(after)}"


def plain_table(*headings: str) -> Any:
    """A table without a frame."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
