"""What was lost so far, as the journal has it: pure functions of commits. Ends at numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accrete.store.journal import Commit


def forgetting(commits: Sequence[Commit]) -> dict[str, Any]:
    """The last known indicators of a history (oldest first, undone and refused commits among them).

    kept: share of the guard sentinels, at birth and now, by domain; `ratio` = (birth - now) / birth; `worst` is the lesson
    that cost most; `last` holds what the last lesson measured of itself.
    """
    active = [c for c in commits if c.undone is None]
    measured = [c for c in active if c.metrics.get("kept_after") is not None]
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


def by_domain(active: Sequence[Commit], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What was taught in each domain. `sizes` has the parameters of a domain's own adapter, where it has one."""
    rows: dict[str, list[Commit]] = {}
    for commit in active:
        rows.setdefault(commit.domain, []).append(commit)
    return [
        {
            "domain": name,
            "lessons": len(commits),
            "last": commits[-1].document,
            "kept": commits[-1].metrics.get("kept_after"),
            "parameters": sizes.get(name),
        }
        for name, commits in rows.items()
    ]


def _cost(commit: Commit) -> float:
    return commit.metrics["kept_before"] - commit.metrics["kept_after"]
