"""States that a learner takes up without a lesson: checkpoints, adapters, what is left without a document. Ends at commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from accrete.config import Config
from accrete.errors import HistoryError
from accrete.files import check_plain_name
from accrete.lm.model import LM
from accrete.methods import base as method_base
from accrete.methods.base import Method
from accrete.store import checkpoint, indicators
from accrete.store.history import History
from accrete.store.journal import Commit, now
from accrete.types import Probe


class Learner(Protocol):
    """What is needed of a learner."""

    lm: LM
    method: Method
    method_name: str
    config: Config
    history: History

    @property
    def digest(self) -> str: ...

    def kept(self, domain: str | None = None) -> float | None: ...

    def grade(self, probes: Sequence[Probe]) -> float | None: ...

    def provide_sentinels(self) -> None: ...


def take_up(
    learner: Learner,
    name: str,
    sha256: str,
    domain: str | None,
    change: Callable[[], Mapping[str, Any] | None],
    holds: Callable[[Iterable[indicators.Held]], list[list[str]]],
    probes: Sequence[Probe] = (),
) -> Commit:
    """Commit a state that is no lesson's; `holds` says what it was taught, given what was known before."""
    with learner.history.change() as active:
        learner.provide_sentinels()
        before = learner.digest
        metrics: dict[str, Any] = {"kept_before": learner.kept(domain), "probes_before": learner.grade(probes)}
        told = change() or {}
        if active and learner.digest == before:
            return replace(active[-1], already=True)
        metrics |= {"kept_after": learner.kept(domain), "probes_after": learner.grade(probes), "probes": len(probes)}
        metrics |= {**told, "reported": list(told)}
        metrics["holds"] = holds(indicators.held(active))
        named = learner.history.described(name, sha256, domain or "default", before, metrics, active)
        return learner.history.commit(named)


def save_checkpoint(learner: Learner, path: Path) -> None:
    active = learner.history.active()
    about = {
        "base": learner.history.base,
        "model": learner.lm.name,
        "method": learner.method_name,
        "config": learner.config.model_dump(),
        "parent": active[-1].id if active else None,
        "lessons": len(active),
        "holds": [list(held) for held in indicators.held(active)],
        "digest": learner.digest,
        "metrics": dict(active[-1].metrics) if active else {},
    }
    checkpoint.save_checkpoint(path, method_base.state_of(learner.method), about)


def load_checkpoint(learner: Learner, path: Path) -> Commit:
    state, manifest = checkpoint.load_checkpoint(path, base=learner.history.base, method=learner.method_name)
    sha256 = f"checkpoint {manifest['digest']}"

    def change() -> None:
        try:
            method_base.restore(learner.method, state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):  # forged together with its sums
            raise HistoryError(f"The checkpoint {path} does not fit this model or method.") from None
        if learner.digest != manifest["digest"]:
            raise HistoryError(f"The checkpoint {path} is damaged: it is not the state that its manifest names.")

    return take_up(learner, f"checkpoint {path.name}", sha256, None, change, lambda known: manifest.get("holds", []))


def load_adapter(learner: Learner, path: Path, domain: str) -> Commit:
    check_plain_name(domain, "domain")
    take = getattr(learner.method, "load_adapter", None)
    if take is None:
        raise HistoryError(f"{path} is a PEFT adapter, and {learner.method_name} has no place for one.")
    name = f"adapter {path.name}"
    stays = lambda known: [list(held) for held in known if held.domain != domain]  # noqa: E731
    return take_up(learner, name, f"{name} {now()}", domain, lambda: take(domain, path), stays)
