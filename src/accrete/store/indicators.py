"""What was lost so far, as the journal has it: pure functions of commits. Ends at numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accrete.errors import HistoryError, did_you_mean
from accrete.store.journal import Commit


def forgetting(commits: Sequence[Commit]) -> dict[str, Any]:
    """The last known indicators of a history (oldest first, undone and refused commits among them).

    kept: share of the guard sentinels, at birth and now, by domain; `ratio` = (birth - now) / birth; `worst` is the lesson
    that cost most; `last` holds what the last lesson measured of itself.
    """
    active = [c for c in commits if c.undone is None]
    measured = [c for c in active if c.metrics.get("kept_after") is not None and "holds" not in c.metrics]
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
        "lessons": len(active),
        "refused": sum("refused" in c.metrics for c in commits),
        "domains": domains,
        "worst": {"commit": worst.id, "document": worst.document, "cost": _cost(worst)} if worst else None,
        "last": dict(active[-1].metrics) if active else {},
    }


class Held(NamedTuple):
    """Something that the present state was taught."""

    sha256: str
    domain: str
    document: str


def held(active: Sequence[Commit]) -> dict[Held, Commit]:
    """What the state after these commits was taught, and by which; a state that was loaded says itself what it holds."""
    known: dict[Held, Commit] = {}
    for commit in active:
        if "holds" in commit.metrics:
            known = {Held(*row): commit for row in commit.metrics["holds"]}
        else:
            known[Held(commit.sha256, commit.domain, commit.document)] = commit
    return known


def earlier(active: Sequence[Commit], sha256: str, domain: str | None) -> Commit | None:
    """The commit by which the present state knows this very content, in `domain` where domains are kept apart."""
    for known, commit in held(active).items():
        if known.sha256 == sha256 and domain in (None, known.domain):
            return commit
    return None


def named(active: Sequence[Commit], told: str) -> Held:
    """What the present state knows by its content's sha256, its name, or the beginning of its commit's id.

    HistoryError when nothing is called so, or more than one document.
    """
    known = held(active)
    every = [one for one in known if told in (one.sha256, one.document)]
    every = every or [one for one, commit in known.items() if len(told) >= 4 and commit.id.startswith(told)]
    if not every:
        raise HistoryError(
            f'Nothing called "{told}" is known here.{did_you_mean(told, [one.document for one in known])}'
        )
    if len({one.sha256 for one in every}) > 1:
        ids = ", ".join(known[one].id for one in every)
        raise HistoryError(f'More than one document is called "{told}"; name it by its commit ({ids}).')
    return every[-1]


def by_domain(active: Sequence[Commit], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What was taught in each domain. `sizes` has the parameters of a domain's own adapter, where it has one."""
    documents: dict[str, list[str]] = {}
    for known in held(active):
        documents.setdefault(known.domain, []).append(known.document)
    for domain in sizes:  # an adapter may come from elsewhere
        documents.setdefault(domain, [])
    kept = {c.domain: c.metrics.get("kept_after") for c in active if "holds" not in c.metrics}
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
