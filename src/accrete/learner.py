"""Teach a running model: learn, ask, undo, with every lesson a commit. Ends above the command line and the server.

One lesson is one transaction:

    read -> known already? -> study items -> measure -> method.learn -> measure -> guard -> commit
                                   \\-- anything raised: the last commit's state comes back --/
"""

from __future__ import annotations

import contextlib
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accrete import believing, taking_up
from accrete.believing import Believing, Reason
from accrete.config import build
from accrete.data.chunks import chunks
from accrete.data.documents import known_as, read_document
from accrete.data.pieces import pieces, sentence_texts
from accrete.data.quality import LeftOut, told
from accrete.data.study import study_sequences
from accrete.dates import as_iso, asked_as_of
from accrete.dreams.study import Studied, Study
from accrete.errors import DocumentError, HistoryError, UsageError
from accrete.facts.contradiction import OnConflict
from accrete.facts.reading import Ask, Read
from accrete.files import check_plain_name
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.methods import DEFAULT as DEFAULT_METHOD
from accrete.methods import base as method_base
from accrete.reader import Reader
from accrete.store import guard, indicators
from accrete.store.expectations import Expectations
from accrete.store.history import History
from accrete.store.home import check_home, check_room, default_home
from accrete.store.journal import Commit, Journal, now
from accrete.store.sentinels import provide_sentinels, read_sentinels
from accrete.store.usage import Usage
from accrete.store.watch import Watch
from accrete.types import Answer, Document, Example, Lesson, Probe, Query

Progress = Callable[[str, int, float], None]
"""(stage, step, loss): "measuring", "learning" or "saving"."""
ANSWER_TOKENS = 64
MAX_FORGETTING = 0.05  # of the guard sentinels, in one lesson
CHUNK_TOKENS = 200


class Learner:
    """A model, a method, and the history of what this method taught this model in one home.

    `model` is "embedded", a hub id, a directory, or an LM that is handed over: a learner writes into its model, so one
    that another learner has is refused. `home` None means ACCRETE_HOME or ~/.accrete; `config` are options of the method.
    `max_forgetting` is the share of the guard sentinels that one lesson may cost; a lesson that costs more is refused.
    `study` says where study items come from: auto, gold, self or off (dreams/study.py); `teacher` may write them.
    `facts` says who reads what documents state: auto, model, rules or off (believing.py); what contradicts what is believed
    is settled as `on_conflict` says: supersede, branch, reject, or ask, which calls `ask_about`; `nli` finds it in free text.
    """

    def __init__(
        self,
        model: str | LM = "embedded",
        *,
        method: str = DEFAULT_METHOD,
        home: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
        max_forgetting: float = MAX_FORGETTING,
        study: str = "auto",
        teacher: str | None = None,
        facts: str = "auto",
        on_conflict: OnConflict = "supersede",
        ask_about: Ask = lambda found: "supersede",
        nli: str | None = None,
        progress: Progress = lambda stage, step, loss: None,
    ):
        if not 0 <= max_forgetting <= 1:
            raise UsageError("max_forgetting is a share of the guard sentinels: a number from 0 to 1.")
        method_base.check_name(method)
        kind = method_base.find(method)
        self.config = build(kind.Config, config or {}, f"the options of {method}")
        self.home = Path(home).expanduser() if home else default_home()
        check_home(self.home)
        self.lm = model if isinstance(model, LM) else load(model, device=device, dtype=dtype, offline=offline)
        if self.lm.taught_by:
            raise UsageError(f"This model already has a learner ({self.lm.taught_by}); load another copy of it.")
        self.study = Study(self.lm, study, teacher, offline=offline)
        self.lm.taught_by = method
        self.progress, self.max_forgetting = progress, max_forgetting
        self.method_name, self.method = method, kind(self.lm, self.config)
        if derive_in := getattr(self.method, "derive_in", None):
            derive_in(self.home / "derived" / f"{self.lm.digest[:16]} {method}")
        believes = getattr(self.method, "believes", False)
        self.believing = Believing(self.lm, facts, believes, on_conflict, ask_about, teacher, nli, offline=offline)
        self.beliefs, self.usage = self.method.beliefs, Usage(self.home, base := self.lm.digest)
        self.expectations, self.reader = Expectations(self.home, base), Reader(self.lm, self.method)
        read_sentinels(self.lm, self.home)
        self.history = History(Journal(self.home), self.lm, method, self.method, self.config.model_dump())

    # --- learning -----------------------------------------------------------------------------------------------

    def learn(
        self,
        document: str | Path | Document,
        *,
        probes: Sequence[Probe] = (),
        domain: str = "default",
        importance: float = 1.0,
        dates: Sequence[str] = (),
        left_out: Sequence[LeftOut] = (),
    ) -> Commit:
        """Learn one document and commit it; a document learned before changes nothing and returns its commit.

        `probes` measure before and after and are never shown to the method; `domain` is what the document belongs to,
        for methods that keep domains apart; `dates` (ISO) are those of its content, from the first of which it counts for
        methods that can be asked "as of" a date. Raises DocumentError when the document cannot be read or holds too little to
        learn, LessonError when the lesson did harm, and ForgettingError when it cost more of what was known than
        `max_forgetting`; whatever is raised, the state is the last commit's.
        """
        check_plain_name(domain, "domain")
        if not 0.001 <= importance <= 1_000:
            raise UsageError("The importance of a lesson is a number from 0.001 to 1000; 1 is normal.")
        dates = tuple(sorted(map(as_iso, dates)))
        document = document if isinstance(document, Document) else read_document(document)
        with self.history.change() as active:
            if commit := indicators.earlier(active, document.sha256, None if self.reader.domains is None else domain):
                grade = self.grade(probes, domain=commit.domain)  # the state is as it is: before and after are one
                asked = {"probes_before": grade, "probes_after": grade, "probes": len(probes)}
                if dates and list(dates) != (known := commit.metrics.get("dates", [])):
                    date = f"as of {', '.join(known)}" if known else "without a date"
                    raise HistoryError(f"{document.name} was learned {date}; forget or undo that first.")
                return replace(commit, already=True, metrics=dict(commit.metrics) | asked)
            passages = chunks(document, CHUNK_TOKENS, self.lm.count_tokens)
            notes: dict[str, Any] = {"left_out": told(left_out)} if left_out else {}
            notes |= {"dates": list(dates)} if dates else {}
            made = self._studied(document).at(dates[0] if dates else None)
            read = self._read(document, made.items, dates)
            facts, items = tuple(one.fact for one in read.stated), made.items
            document = replace(document, written=believing.written(document))
            if getattr(self.method, "believes", False):  # it is measured by the questions that its facts answer
                items = items or believing.asked(read)
            lesson = Lesson(document, passages, items, made.restatements, facts, dates, domain, importance)
            return self._learn(lesson, read, probes, active, notes | {"study": made.figures()})

    def learn_from_text(self, text: str, *, domain: str = "default", importance: float = 1.0, name: str = "") -> Commit:
        """Learn a text that is no file."""
        if not text.strip():
            raise DocumentError("The text is empty.")
        document = Document(name or f"{' '.join(text.split()[:5])[:40]} ...", text)
        return self.learn(document, domain=domain, importance=importance)

    def _studied(self, document: Document) -> Studied:
        """The study items of a document. The base model writes them: they do not depend on what was taught since."""
        reads = getattr(self.method, "reads", False) and bool(document.text.strip())  # the text itself, whoever asks
        if reads or not self.study.writes(document):
            return self.study.given(document)
        passages = pieces(document, self.study.passage_tokens, self.lm.count_tokens)
        with self.as_base():
            return self.study.write(document, passages, sentence_texts, self.progress)

    def _read(self, document: Document, items: Sequence[Example], dates: Sequence[str]) -> Read:
        """What a document states, as the base model reads it, settled with what is believed."""
        if self.believing.setting == "off":
            return Read()
        date = dates[0] if dates else None
        with self.as_base():
            found = self.believing.found(document, date, self.progress)
        return self.believing.settled(self.beliefs.graph, found, items, document, date)

    def _learn(
        self, lesson: Lesson, read: Read, probes: Sequence[Probe], active: Sequence[Commit], notes: Mapping[str, Any]
    ) -> Commit:
        started, digest_before, domain = clock.monotonic(), self.digest, lesson.domain
        name, sha256 = lesson.document.name, lesson.document.sha256
        described = partial(self.history.described, name, sha256, domain, digest_before, active=active)
        if error := self.believing.rejection(read, name):
            raise self.history.refuse(described(dict(notes)), error)
        study = study_sequences(self.lm, lesson)
        if not study:
            raise DocumentError(f"{lesson.document.name} holds too little to learn from.")
        check_room(self.home, sum(p.numel() * p.element_size() for p in self.lm.model.parameters() if p.requires_grad))
        self.provide_sentinels()
        self.progress("measuring", 0, 0.0)
        known = active and "tokens" in active[-1].metrics and (active[-1].domain == domain or not self.reader.domains)
        metrics: dict[str, Any] = {  # after a lesson of the same domain, what was measured then is of this very state
            "tokens": sum(sequence.targets for sequence in study),
            "importance": lesson.importance,
            **self.reader.measure("before", lesson, study, probes, active[-1].metrics["kept_after"] if known else None),
        }
        watch = self.watch()
        watch.look_at(believing.state(self.beliefs, lesson, read))
        learning = clock.monotonic()
        report = self.method.learn(lesson, self._told)
        metrics["learning_seconds"] = round(clock.monotonic() - learning, 3)
        self.progress("measuring", report.steps, 0.0)
        metrics |= {
            **self.reader.measure("after", lesson, study, probes),
            **watch.after(),
            **self.believing.told(read, self.beliefs.graph.of_lesson(sha256)),
            "probes": len(probes),
            "steps": report.steps,
            **report.details,
            "reported": list(report.details),  # by the method, beyond what all report
            **notes,
        }
        metrics["seconds"] = round(clock.monotonic() - started, 3)
        if error := guard.harm(name, metrics, self.max_forgetting):
            raise self.history.refuse(described(metrics), error)
        self.progress("saving", report.steps, 0.0)
        return self.history.commit(described(metrics))

    def watch(self) -> Watch:
        """Looks at what a lesson must leave as it is, beginning with what is expected."""
        ask = lambda prompts: [one.text for one in self.answer([Query(prompt) for prompt in prompts])]  # noqa: E731
        self.usage.recall(self.beliefs.graph)
        return Watch(expected := self.expectations.all(), self.reader.grades, ask, self.believing.judge(expected))

    def _told(self, step: int, loss: float, tokens: int = 0, of: int = 0) -> None:
        self.progress(f"learning, {tokens:,} of {of:,} tokens read" if tokens else "learning", step, loss)

    # --- asking (reader.py) -------------------------------------------------------------------------------------

    def ask(self, question: str, **options: Any) -> Answer:
        """Answer one question; `options` as in `why`, which says as well what is known about it."""
        return self.why(question, **options).answer

    def why(
        self,
        question: str,
        *,
        context: str = "",
        domain: str | None = None,
        as_of: str | None = None,
        max_new_tokens: int = ANSWER_TOKENS,
    ) -> Reason:
        """Answer one question, with `context` as text to read first, from `domain` or from where the method finds it.

        `as_of`, a date like "2021-05" or "May 2021", is put into the question; who looks things up leaves out what is later.
        With the answer come the statements that the question is about, if any is known.
        """
        query = Query(asked_as_of(question, date := as_iso(as_of) if as_of else None), context, date, domain)
        route = self.believing.route(self.method, query)
        self.usage.count(route.statements if route else ())
        answer = self.answer([query], max_new_tokens=max_new_tokens)[0]
        return self.believing.reason(self.method, query, answer, route)

    def answer(self, queries: Sequence[Query], *, max_new_tokens: int = ANSWER_TOKENS) -> list[Answer]:
        """Answer many questions in batches, greedily. UsageError for a domain that was never taught."""
        return self.reader.answer(queries, max_new_tokens)

    def stream_answer(
        self, question: str, *, domain: str | None = None, max_new_tokens: int = ANSWER_TOKENS
    ) -> Iterator[str]:
        """The answer to one question, piece by piece."""
        self.usage.count(self.believing.behind(self.method, query := Query(question, domain=domain)))
        return self.reader.stream_answer(query, max_new_tokens)

    def generate(self, prompt: str, *, max_new_tokens: int = 100, temperature: float = 0.0, seed: int = 0) -> str:
        """Go on from `prompt` as plain text, without any chat format."""
        return "".join(self.stream(prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed))

    def stream(
        self, prompt: str, *, max_new_tokens: int = 100, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """The same, piece by piece."""
        return self.reader.stream(prompt, max_new_tokens, temperature, seed)

    def grade(self, probes: Sequence[Probe], *, with_context: bool = False, domain: str | None = None) -> float | None:
        """The mean grade (0 to 1) of the answers to `probes`, closed-book unless `with_context`; None without probes."""
        return self.reader.grade(probes, with_context=with_context, domain=domain)

    def kept(self, domain: str | None = None, split: str = "guard") -> float | None:
        """The share of the sentinels answered rightly now, the adapter of `domain` at work; None while there are none."""
        return self.reader.kept(domain, split)

    @contextlib.contextmanager
    def as_base(self) -> Iterator[Reader]:
        """Within it the model is as it was before any lesson; after it, as the last commit left it."""
        weights = any(one.requires_grad for one in self.lm.model.parameters())  # else it acts on readers alone
        taught, self.reader = self.reader, Reader(self.lm, None)
        try:
            if weights:
                self.history.go_to([])
            yield self.reader
        finally:
            self.reader = taught
            if weights:
                self.history.go_to(self.history.active())

    def domains(self) -> list[dict[str, Any]]:
        """What was taught, by domain: lessons, the last document, what was kept with it, and the size of its adapter."""
        return indicators.by_domain(self.history.active(), self.reader.domains or {})

    def provide_sentinels(self) -> None:
        """A model that brings no sentinels makes its own, as the base that it is before any lesson."""
        if not self.lm.sentinels:
            with self.as_base():
                provide_sentinels(self.lm, self.home, lambda done: self.progress("asking the base model", done, 0.0))

    # --- forgetting on purpose ----------------------------------------------------------------------------------

    def forget(self, document: str | Path | Document, *, probes: Sequence[Probe] = ()) -> Commit:
        """Take one document out of what was learned, as a commit that can be undone.

        Named by a Document, by the path of its file, or by its name or the beginning of its commit's id as in the log.
        UsageError for a method that has it in its weights among all others; HistoryError when it is not there.
        """
        take_out = getattr(self.method, "forget", None)
        if take_out is None:
            raise UsageError(f"{self.method_name} cannot take one document out; undo takes back the last lesson.")
        found = indicators.named(self.history.active(), known_as(document))
        return taking_up.take_up(
            self,
            f"without {found.document}",
            f"without {found.sha256}",
            found.domain,
            lambda: self._forgotten(found.sha256, take_out),
            lambda known: [list(held) for held in known if held.sha256 != found.sha256],
            probes,
        )

    def _forgotten(self, sha256: str, take_out: Callable[..., Any]) -> Any:
        told = take_out(sha256, self._told)
        self.beliefs.forget(sha256)
        return told

    def calibrate(self, texts: Sequence[str]) -> Commit:
        """Let the method learn from many general texts what a lesson should leave alone, as a commit that can be undone.

        UsageError for a method that has no such gate, or too few texts.
        """
        take = getattr(self.method, "calibrate", None)
        if take is None:
            raise UsageError(f"{self.method_name} has nothing to calibrate; `accrete methods` says which methods have.")
        name = f"calibration on {len(texts):,} texts"
        return taking_up.take_up(
            self, name, f"{name} {now()}", None, lambda: take(texts), lambda known: [list(k) for k in known]
        )

    # --- history ------------------------------------------------------------------------------------------------

    @property
    def base(self) -> str:
        """The digest of the base model, which names the history beside the method."""
        return self.history.base

    @property
    def digest(self) -> str:
        """sha256 over everything the method holds."""
        return self.history.digest

    def log(self) -> list[Commit]:
        """Every lesson of this model and method, oldest first, the undone ones included."""
        return self.history.commits()

    def show(self, reference: str) -> Commit:
        """One lesson by the beginning of its id."""
        return self.history.find(reference)

    def undo(self) -> Commit:
        """Take the last lesson back, bit for bit; returns the commit undone. HistoryError when there is none."""
        return self.history.undo()

    def status(self) -> dict[str, Any]:
        """Layers and parameters of the model, the state of the method, and where it lives."""
        active, parts = self.history.active(), {k: len(v) for k, v in method_base.state_of(self.method).items()}
        return self.lm.facts() | {
            "method": {"name": self.method_name, "config": self.config.model_dump(), "parts": parts}
            | {"about": method_base.about(self.method)},
            "lessons": len(active),
            "head": active[-1].id if active else None,
            "digest": self.digest,
            "home": str(self.home),
            "bytes": self.history.journal.size(),
        }

    # --- checkpoints (taking_up.py) -----------------------------------------------------------------------------

    def save_checkpoint(self, path: str | Path) -> None:
        """Write what was learned to a directory of its own: the trainable state, not the base model."""
        taking_up.save_checkpoint(self, Path(path))

    def load_checkpoint(self, path: str | Path) -> Commit:
        """Take up the state of a checkpoint, as a commit that can be undone; a state that is there already changes nothing.

        Raises HistoryError when the checkpoint is damaged or of another model or method.
        """
        return taking_up.load_checkpoint(self, Path(path))

    def load_adapter(self, path: str | Path, domain: str = "default") -> Commit:
        """Take up an adapter that PEFT wrote as that of `domain`, in the same way; the one that was there is replaced."""
        return taking_up.load_adapter(self, Path(path), domain)
