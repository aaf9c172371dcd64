"""What was lost so far, as the journal has it: pure functions of commits. Ends at numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accrete.errors import HistoryError, did_you_mean
from accrete.store.journal import Commit


def forgetting(commits: Sequence[Commit]) -> dict[str, Any]:
    """The last known indicators of a history (oldest first, undone and refused commits among them).

    kept: share of the guard sentinels, at birth and now, by domain; `ratio` = (birth - now) / birth; `worst` is the lesson
    that cost most; `last` holds what the last lesson measured of itself. A commit that loaded a state or took a document
    out is no lesson and has no such figures: `since` lists those after the last lesson, with what was kept then.
    """
    active = [c for c in commits if c.undone is None]
    lessons = [c for c in active if not _taken_up(c)]
    measured = [c for c in lessons if None not in (c.metrics.get("kept_before"), c.metrics.get("kept_after"))]
    by_domain: dict[str, list[Commit]] = {}
    for commit in measured:
        by_domain.setdefault(commit.domain, []).append(commit)
    domains = [
        {
            "domain": domain,
            "lessons": len(history),
            "kept_at_birth": (birth := history[0].metrics["kept_before"]),
            "kept_now": (now := history[-1].metrics["kept_after"]),
            "ratio": (birth - now) / birth if birth else None,
        }
        for domain, history in by_domain.items()
    ]
    worst = max(measured, key=_cost, default=None)
    return {
        "lessons": len(lessons),
        "refused": sum("refused" in c.metrics for c in commits),
        "domains": domains,
        "worst": {"commit": worst.id, "document": worst.document, "cost": _cost(worst)} if worst else None,
        "last": dict(lessons[-1].metrics) if lessons else {},
        "since": [
            {"commit": c.id, "what": c.document, "kept": c.metrics.get("kept_after")}
            for c in itertools.takewhile(_taken_up, reversed(active))
        ][::-1],
    }


def _taken_up(commit: Commit) -> bool:
    """Whether it is no lesson: a state was loaded, or a document taken out."""
    return "holds" in commit.metrics


class Held(NamedTuple):
    """Something that the present state was taught, and by which commit, as far as that is known."""

    sha256: str
    domain: str
    document: str
    commit: str = ""


def held(active: Sequence[Commit]) -> dict[Held, Commit]:
    """What the state after these commits was taught, and by which; a state that was loaded says itself what it holds.

    The commit is that of the lesson where it is one of these, else the one that loaded it.
    """
    lessons = {commit.id: commit for commit in active}
    known: dict[Held, Commit] = {}
    for commit in active:
        if "holds" in commit.metrics:
            rows = [Held(*row) for row in commit.metrics["holds"]]
            known = {row: lessons.get(row.commit, commit) for row in rows}
        else:
            known[Held(commit.sha256, commit.domain, commit.document, commit.id)] = commit
    return known


def earlier(active: Sequence[Commit], sha256: str, domain: str | None) -> Commit | None:
    """The commit by which the present state knows this very content, in `domain` where domains are kept apart."""
    for known, commit in held(active).items():
        if known.sha256 == sha256 and domain in (None, known.domain):
            return commit
    return None


def named(active: Sequence[Commit], names: Sequence[str]) -> Held:
    """What the present state knows by the first of the names that fits anything.

    A name is the sha256 of its content, the document's name, or the beginning of its lesson's id (of a state that was
    loaded, of what loaded it). HistoryError when nothing is called so, or more than one document.
    """
    known = held(active)
    for name in names:
        every = [one for one in known if name in (one.sha256, one.document)]
        every = every or [one for one, c in known.items() if len(name) >= 4 and (one.commit or c.id).startswith(name)]
        if len({one.sha256 for one in every}) > 1:
            ids = ", ".join(dict.fromkeys(one.commit or known[one].id for one in every))
            raise HistoryError(f'More than one document is called "{name}"; name it by its lesson ({ids}).')
        if every:
            return every[-1]
    there = did_you_mean(names[-1], [one.document for one in known])
    raise HistoryError(f'Nothing that is known here is called "{names[-1]}".{there}')


def by_domain(active: Sequence[Commit], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What was taught in each domain. `sizes` has the parameters of a domain's own adapter, where it has one."""
    documents: dict[str, list[str]] = {}
    for known in held(active):
        documents.setdefault(known.domain, []).append(known.document)
    for domain in sizes:  # an adapter may come from elsewhere
        documents.setdefault(domain, [])
    kept = {c.domain: c.metrics.get("kept_after") for c in active if not _taken_up(c)}
    return [
        {
            "domain": domain,
            "lessons": len(names),
            "last": names[-1] if names else None,
            "kept": kept.get(domain),
            "parameters": sizes.get(domain),
        }
        for domain, names in documents.items()
    ]


def _cost(commit: Commit) -> float:
    return commit.metrics["kept_before"] - commit.metrics["kept_after"]
