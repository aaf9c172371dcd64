"""The history of one method on one model, and the commit that the state in memory is at. Ends where a lesson begins."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accrete.errors import HistoryError, LessonError
from accrete.lm.model import LM
from accrete.methods import base as method_base
from accrete.methods.base import Method
from accrete.store.home import writing
from accrete.store.journal import Commit, Journal, now


class History:
    """What a method learned, commit by commit, in a journal; the method's parts are moved from one to another.

    `config` are the method's options, which every commit keeps. Another process may add to the same history meanwhile.
    """

    def __init__(self, journal: Journal, lm: LM, name: str, method: Method, config: Mapping[str, Any]):
        self.journal, self.base, self.model = journal, lm.digest, lm.name
        self.name, self.method, self.config = name, method, dict(config)
        self._birth = copy.deepcopy(method_base.state_of(method))  # its tensors are the live ones
        self._head: str | None = None
        self.go_to(self.active())

    @property
    def digest(self) -> str:
        """sha256 over everything the method holds now."""
        return method_base.digest(self.method)

    def commits(self) -> list[Commit]:
        """Every lesson, oldest first, the undone ones included."""
        return self.journal.commits(self.base, self.name)

    def active(self) -> list[Commit]:
        """The commits that make up the present state, oldest first."""
        return self.journal.active(self.base, self.name)

    def find(self, reference: str) -> Commit:
        """A commit by the beginning of its id; HistoryError when there is none."""
        return self.journal.find(self.base, self.name, reference)

    def go_to(self, active: Sequence[Commit]) -> None:
        """Make the state in memory that of the last of `active`, unless it is already."""
        head = active[-1].id if active else None
        if head != self._head:
            self._head = "unknown"  # whatever cuts this off
            method_base.restore(self.method, self.journal.state(active[-1]) if active else self._birth)
            self._head = head

    @contextlib.contextmanager
    def change(self) -> Iterator[list[Commit]]:
        """Within it the state may change: at first it is the last commit's, and again so whatever is raised.

        Gives the commits of the present state. LockedError while another process changes the home.
        """
        with writing(self.journal.home):
            active = self.active()
            self.go_to(active)
            try:
                yield active
            except BaseException:
                self._head = "unknown"
                self.go_to(self.active())
                self._tidy()
                raise

    def described(
        self,
        document: str,
        sha256: str,
        domain: str,
        digest_before: str,
        metrics: dict[str, Any],
        active: Sequence[Commit],
    ) -> Commit:
        """The present state as a commit that is not written yet."""
        return Commit(
            id="",
            parent=active[-1].id if active else None,
            number=len(active) + 1,
            time=now(),
            document=document,
            sha256=sha256,
            domain=domain,
            digest_before=digest_before,
            digest_after=self.digest,
            config=self.config,
            metrics=metrics,
        )

    def commit(self, described: Commit) -> Commit:
        """Write the present state; the commit gets its id."""
        state = method_base.state_of(self.method)
        commit = self.journal.append(self.base, self.model, self.name, described, state)
        self._head = commit.id
        return commit

    def refuse(self, described: Commit, error: LessonError) -> LessonError:
        """Note a lesson that is not taken; gives back why."""
        told = replace(described, metrics=dict(described.metrics) | {"refused": str(error)})
        self.journal.refuse(self.base, self.model, self.name, told)
        return error

    def undo(self) -> Commit:
        """Take the last commit back, bit for bit. HistoryError when there is none, or its state cannot be rebuilt."""
        with self.change() as active:
            if not active:
                raise HistoryError(f"There is nothing to undo: {self.name} taught {self.model} nothing here.")
            self.go_to(active[:-1])
            if self.digest != active[-1].digest_before:
                raise HistoryError(f"The state before {active[-1].id} cannot be rebuilt exactly; nothing was changed.")
            self.journal.undo(active[-1], now())
            self._tidy()
            return active[-1]

    def _tidy(self) -> None:
        """A method that keeps files made from its state leaves nothing in them of what is taken back."""
        if tidy := getattr(self.method, "tidy", None):
            tidy()
