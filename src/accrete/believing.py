"""How a learner comes to believe what documents state, and what it checks of its beliefs. Ends at statements and questions.

facts: auto     read by the model where the method learns facts, else not at all
       model    by rules and by the model, or by a teacher
       rules    by rules alone
       off      not at all
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from accrete.beliefs import Beliefs
from accrete.data.general import general_prompts
from accrete.data.pieces import pieces
from accrete.data.wrapped import unwrapped
from accrete.dates import asked_as_of, dateline
from accrete.dreams.teacher import Teacher
from accrete.dreams.write import ModelWriter, Writer
from accrete.errors import LessonError, ModelError, OfflineError, UsageError, did_you_mean
from accrete.facts.contradiction import Contradiction, OnConflict
from accrete.facts.entailment import Contradicts, Inference, remarks
from accrete.facts.extract import extract, unread
from accrete.facts.graph import FactGraph
from accrete.facts.reading import Ask, Read, fitting, settled
from accrete.facts.router import Route, Router, is_backwards
from accrete.facts.simple_sentences import Found
from accrete.facts.statements import Statement, in_words
from accrete.facts.values import value_key
from accrete.lm.alike import Alike
from accrete.lm.answer_nats import AnswerNats
from accrete.lm.model import LM
from accrete.lm.sure_lines import sure_lines
from accrete.methods.base import Method
from accrete.scoring import contains, normalise
from accrete.store.expectations import Expectation, Judge
from accrete.types import Answer, Document, Example, Lesson, Passage, Probe, Query

SETTINGS = ("auto", "model", "rules", "off")
WAVERING = 1.0  # nats of a line, from which on a model that was taught to list facts makes one up (LOG.md)
PASSAGE_TOKENS = 128  # of a passage whose facts are listed at once
LISTED_TOKENS = 1.5  # of a list of facts, for each token of its passage
AT_ONCE = 256  # pieces that are read between two words of progress
TOLD = 8  # facts, and sentences, that a commit keeps to be shown
CHECKED = 32  # neighbours that are asked before and after a lesson


@dataclass(frozen=True)
class Reason:
    """An answer and what stands behind it: statements, the known question it was taken for, how alike, as of when.

    `of_another_time` is what is known of the same matter where nothing held then.
    """

    answer: Answer
    statements: tuple[Statement, ...] = ()
    question: str = ""
    alike: float | None = None
    date: str | None = None
    backwards: bool = False
    of_another_time: Statement | None = None

    @property
    def believed(self) -> tuple[str, ...]:
        """What the statements say to the question."""
        said = (one.subject if self.backwards else one.value for one in self.statements)
        return tuple({value_key(one): one for one in said}.values())

    @property
    def otherwise(self) -> str | None:
        """What is known of another time, in words."""
        return in_words(self.of_another_time.fact) if self.of_another_time else None

    @property
    def since_unknown(self) -> tuple[str, ...]:
        """What is said to have ended, and nobody says since when it held: it may not have held at the time asked about."""
        return tuple(in_words(one.fact) for one in self.statements if one.since is None and one.stated_until)

    @property
    def differs(self) -> bool:
        """Whether the answer is not that: a slot may not say well what it holds, and the base model may say anything."""
        if len(self.believed) == 1:
            return value_key(self.answer.text) != value_key(self.believed[0])
        return not all(contains(self.answer.text, one) for one in self.believed)


class Believing:
    """Reads facts as `setting` says and settles what contradicts what is believed as `on_conflict` says.

    `nli` names a model that finds what denies a statement without stating a fact.
    """

    def __init__(
        self,
        lm: LM,
        setting: str = "auto",
        believes: bool = False,
        on_conflict: OnConflict = "supersede",
        ask: Ask = lambda found: "supersede",
        teacher: str | None = None,
        nli: str | None = None,
        *,
        offline: bool = False,
    ):
        for name, value, known in (("facts", setting, SETTINGS), ("on_conflict", on_conflict, get_args(OnConflict))):
            if value not in known:
                raise UsageError(f'{name} cannot be "{value}".{did_you_mean(value, known)}')
        self.lm, self.on_conflict, self.ask, self.teacher, self.offline = lm, on_conflict, ask, teacher, offline
        self.nli, self.believes = nli, believes
        self.setting = setting if setting != "auto" else "model" if believes else "off"
        if believes and self.setting == "off":
            raise UsageError("This method learns facts: without them (facts=off) it has nothing to learn.")

    def found(
        self, document: Document, date: str | None, told: Callable[[str, int, float], None] = lambda *said: None
    ) -> list[Found]:
        """The facts of a document, read by the model as it is now."""
        if self.setting == "off" or not document.text.strip():
            return []
        _ = self.contradicts  # a wrong one is told before anything is read
        told("taking the text apart", 0, 0.0)
        document, date = replace(document, text=unwrapped(document.text)), date or dateline(document.text)
        size = min(PASSAGE_TOKENS, max(1, self.lm.context_length * 2 // 5))
        passages = pieces(document, size, self.lm.count_tokens, joined=0)
        subject = document.name.rpartition("/")[2].rpartition(".")[0] or document.name
        whole = Passage(document.text, document.name, 0, len(document.text))
        ruled = lambda read: told(f"reading facts by rules, {read:,} lines read", 0, 0.0)  # noqa: E731
        if self.setting == "rules":
            return extract(whole, passages, None, date, subject, ruled)
        writer: Writer = Teacher(self.teacher, offline=self.offline) if self.teacher else ModelWriter(self.lm)
        taught = not self.teacher and self.lm.background  # others waver where they are right, too
        most = 32 + round(LISTED_TOKENS * max((self.lm.count_tokens(one.text) for one in passages), default=0))

        def listed(prompts: Sequence[str]) -> list[str]:
            lists: list[str] = []
            for start in range(0, len(prompts), AT_ONCE):
                told(f"reading facts, {start:,} of {len(prompts):,} pieces read", 0, 0.0)
                part = prompts[start : start + AT_ONCE]
                written = writer(part, max_new_tokens=most)
                lists += sure_lines(self.lm, part, written, WAVERING) if taught else written
            return lists

        return extract(whole, passages, listed, date, subject, ruled)

    def settled(
        self,
        graph: FactGraph,
        found: Sequence[Found],
        items: Sequence[Example],
        document: Document,
        date: str | None,
    ) -> Read:
        """What a lesson states, after what it contradicts was settled."""
        if self.setting == "off":
            return Read()
        found = fitting(graph, found)
        since = None if date else since_file(document, found)
        if since:
            found = [replace(one, fact=replace(one.fact, valid_from=since)) for one in found]
        read = settled(graph, found, items, date=date, stated_on=date or written(document),
                       on_conflict=self.on_conflict, ask=self.ask, alike=self.alike)  # fmt: skip
        silent = unread(unwrapped(document.text), found)
        read = replace(read, since_file=since, unread=tuple(silent))
        if self.contradicts is None:
            return read
        denied = remarks(graph, silent, self.contradicts, date or written(document))
        return replace(read, contradictions=(*read.contradictions, *denied))

    def rejection(self, read: Read, document: str) -> LessonError | None:
        """That nothing is left of a document of which all was rejected, for a method that learns what it states."""
        against = [one for one in read.contradictions if isinstance(one, Contradiction)]
        if not self.believes or read.stated or not against:
            return None
        said = "; ".join(f'"{one.new.value}" {one.said}' for one in against)
        return LessonError(f"Nothing of {document} is taken (on conflict: reject): {said}.")

    def route(self, method: Method, query: Query) -> Route | None:
        """Which statements a question is about: by the method's own router where it has one, else by ours.

        None where nothing is believed, or the asker brings a text to read.
        """
        if not len(method.beliefs) or query.context:
            return None
        if own := getattr(method, "routes", None):
            return cast("Route | None", own([query])[0])
        return self._router(method).routes([(query.question, query.as_of)])[0]

    def reason(self, method: Method, query: Query, answer: Answer, route: Route | None) -> Reason:
        """An answer with what stands behind it, or with what is known of another time."""
        if route or not len(method.beliefs) or query.context:
            return Reason(answer, **(vars(route) if route else {}))
        return Reason(answer, of_another_time=self._router(method).of_another_time(query.question, query.as_of))

    def behind(self, method: Method, query: Query) -> tuple[Statement, ...]:
        """The statements that answer a question."""
        route = self.route(method, query)
        return route.statements if route else ()

    def _router(self, method: Method) -> Router:
        return Router(method.beliefs.graph, self.alike, nats=self.nats)

    @functools.cached_property
    def contradicts(self) -> Contradicts | None:
        """Who finds contradictions in free text, if anybody was named."""
        try:
            return Inference(self.nli, offline=self.offline) if self.nli else None
        except (ModelError, OfflineError) as error:
            raise type(error)(f"The setting nli names no model that tells contradictions. {error}") from None

    @functools.cached_property
    def alike(self) -> Alike:
        """How alike two questions are asked."""
        general = [question for question, _ in self.lm.background[:128]] or general_prompts()
        return Alike(self.lm, general)

    @functools.cached_property
    def nats(self) -> AnswerNats:
        """How surely a statement, when it is read, leads to what it says."""
        return AnswerNats(self.lm)

    def told(self, read: Read, held: Sequence[Statement]) -> dict[str, Any]:
        """What a commit keeps of what was read, in JSON's terms: `held` has when it ended by what is known beside it."""
        if self.setting == "off":
            return {}
        ended = (one.fact if (one.valid_until or "") > (one.valid_from or "") else one.own for one in held[:TOLD])
        found: dict[str, Any] = {"facts": len(read.stated), "stated": [in_words(one) for one in ended]}
        found |= {"unread": {"count": len(read.unread), "first": list(read.unread[:TOLD])}} if read.unread else {}
        found |= {"facts_since_file": read.since_file} if read.since_file else {}
        of = [f"{relation} of {subject or 'anything'}" for subject, relation in read.several]
        found |= {"several": of} if of else {}
        return found | ({"contradictions": [str(one) for one in read.contradictions]} if read.contradictions else {})

    def judge(self, expected: Sequence[Expectation]) -> Judge | None:
        """Asks the teacher a question that is answered yes or no; None without one that can be asked, or need."""
        if not self.teacher or self.offline or not any(one.judge for one in expected):
            return None
        teacher = Teacher(self.teacher, offline=self.offline)
        return lambda question: normalise(teacher([f"{question} Answer yes or no."], max_new_tokens=4)[0]).startswith(
            "yes"
        )


def written(document: Document) -> str:
    """The day that its first lines say, else that on which its file was written; of what is no file, today."""
    return dateline(document.text) or document.written or datetime.date.today().isoformat()


def since_file(document: Document, found: Sequence[Found]) -> str | None:
    """The day a file was written, if nothing in it has a date: then its facts hold from that day on."""
    dated = any(one.fact.valid_from or one.fact.valid_until for one in found)
    return document.written if found and not dated else None


def state(beliefs: Beliefs, lesson: Lesson, read: Read) -> list[Probe]:
    """Take in what a lesson states; what stands next to it and is to be as it was."""
    if not read.stated:
        return []
    document = lesson.document
    stated = beliefs.state_of(document.sha256, document.name, lesson.stated_on, read.stated, read.several)
    return neighbours(beliefs.graph, stated)


def asked(read: Read) -> tuple[Example, ...]:
    """The questions that a lesson's facts answer, each put at the date of its fact: later ones may have ended it.

    Of what is not believed, being without a date and older than what contradicts it, none is answered.
    """
    lost = {one.new for one in read.contradictions if isinstance(one, Contradiction) and one.lost}
    return tuple(
        Example(asked_as_of(item.question, one.asked_at), item.answer)
        for one in read.stated
        if one.fact not in lost
        for item in one.questions
    )


def neighbours(graph: FactGraph, stated: Sequence[Statement], most: int = CHECKED) -> list[Probe]:
    """Questions about what stands nearest to these statements and was there before: what they may have disturbed.

    What they superseded is asked as of its own date; of what is equally near, what was asked for most comes first.
    """
    own = {one.id for one in stated}
    near: dict[int, Statement] = {}
    around = [graph.neighbours(one.id, limit=2 * most) for one in stated]
    for way in ("history", "same_subject", "named", "same_relation"):
        beside = sorted((one for found in around for one in found[way]), key=lambda one: -one.usage)
        near |= {one.id: one for one in beside if one.id not in own and one.id not in near}
        if len(near) >= most:
            break
    return [probe for one in list(near.values())[:most] if (probe := _asked(graph, one))]


def _asked(graph: FactGraph, one: Statement) -> Probe | None:
    if one.valid_until is not None and (not one.since or one.since >= one.valid_until):
        return None  # it never held, or nobody knows when
    forwards = [asked for asked in graph.questions_of([one.id]) if not is_backwards(one, asked)]
    if not forwards:
        return None
    date = one.since if one.valid_until is not None else None
    question = forwards[0].question
    return Probe(asked_as_of(question, date) if date else question, (one.value,), fact=one.fact, as_of=date)
