"""A model as its method has taught it, asked and measured. Ends where something would change: a reader changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from accrete.dates import asked_as_of
from accrete.errors import UsageError, did_you_mean
from accrete.lm import batch, decode
from accrete.lm.forced import log_likelihoods
from accrete.lm.model import LM
from accrete.lm.prompts import check_text, prompt_ids, study_sequence
from accrete.methods.base import Method
from accrete.scoring import SENTINEL_TOKENS, grade
from accrete.types import Answer, Lesson, Probe, Query

JOINED = 8  # tokens, at most, that a text and what stands around it have in common
MEASURED = 4_000  # tokens of a lesson whose loss is measured before and after: a pass over a book would take minutes


def _as_answer(pieces: Iterator[str], one_line: bool) -> Iterator[str]:
    """As `decode.readable` has it: no space before it, and without a chat template a line break ends it."""
    begun = False
    for piece in pieces:
        text, end, _ = piece.partition("\n") if one_line else (piece, "", "")
        text = text if begun else text.lstrip()
        begun = begun or bool(text)
        yield text
        if end:
            return


class Reader:
    """Answers, streams, grades and losses; a method with `condition` decides how each question is read.

    Without a method it is the model as it stands.
    """

    def __init__(self, lm: LM, method: Method | None):
        self.lm, self.method = lm, method

    # --- answers ------------------------------------------------------------------------------------------------

    def answer(self, queries: Sequence[Query], max_new_tokens: int) -> list[Answer]:
        """Answer questions in batches, greedily. UsageError for a domain that was never taught."""
        for query in queries:
            self._check_domain(query.domain)
        return decode.answer(self.lm, queries, conditionings=self.conditionings(queries), max_new_tokens=max_new_tokens)

    def stream_answer(self, query: Query, max_new_tokens: int) -> Iterator[str]:
        """The answer to one question, piece by piece."""
        self._check_domain(query.domain)
        (conditioning,) = self.conditionings([query])
        if conditioning.also:  # what is said after what depends on all of it
            yield self.answer([query], max_new_tokens)[0].text
            return
        pieces = self._written(query, conditioning, max_new_tokens)
        if conditioning.again is None:
            yield from pieces
            return
        held, text = [], ""  # while it may still become "not stated", nothing is said
        for piece in pieces:
            held.append(piece)
            text += piece
            if not decode.may_abstain(text):
                yield from held
                yield from pieces
                return
        yield from self._written(query, conditioning.again, max_new_tokens) if decode.abstains(text) else held

    def tokens_read(self, query: Query, max_new_tokens: int) -> tuple[int, int]:
        """How many of the first tokens of a query's context have room before it, and how many there are."""
        bare, read = (
            len(prompt_ids(self.lm, query.question, context, max_new_tokens)) for context in ("", query.context)
        )
        whole = self.lm.count_tokens(query.context)
        return (read - bare if whole - (read - bare) > JOINED else whole), whole

    def _written(self, query: Query, conditioning: decode.Conditioning, max_new_tokens: int) -> Iterator[str]:
        ids = prompt_ids(self.lm, query.question, decode.context_of(query, conditioning), reserve=max_new_tokens)
        pieces = decode.text_stream(self.lm, ids, max_new_tokens, conditionings=[conditioning])
        return _as_answer(pieces, one_line=not self.lm.tokenizer.chat_template)

    def stream(self, prompt: str, max_new_tokens: int, temperature: float, seed: int) -> Iterator[str]:
        """What comes after plain text, piece by piece; of a prompt too long for the model its end is read."""
        ids = self.lm.tokenizer(prompt, add_special_tokens=False)["input_ids"] or [self.lm.pad]
        return decode.text_stream(
            self.lm,
            ids[-max(1, self.lm.context_length - max_new_tokens) :],
            max_new_tokens,
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),
            conditionings=self.conditionings([Query(prompt, continues=True)]),
        )

    # --- measures -----------------------------------------------------------------------------------------------

    def grade(
        self,
        probes: Sequence[Probe],
        *,
        with_context: bool = False,
        domain: str | None = None,
        max_new_tokens: int | None = None,
    ) -> float | None:
        """The mean grade (0 to 1) of the answers to `probes`; None without probes. An untaught domain is the base model."""
        found = self.grades(probes, with_context=with_context, domain=domain, max_new_tokens=max_new_tokens)
        return sum(found) / len(found) if found else None

    def grades(
        self,
        probes: Sequence[Probe],
        *,
        with_context: bool = False,
        domain: str | None = None,
        max_new_tokens: int | None = None,
    ) -> list[float]:
        """The grade of every answer."""
        longest = max((len(answer) for probe in probes for answer in probe.answers), default=0)
        queries = [
            Query(asked_as_of(probe.question, probe.as_of), probe.context if with_context else "", domain=domain)
            for probe in probes
        ]
        answers = decode.answer(
            self.lm,
            queries,
            conditionings=self.conditionings(queries),
            max_new_tokens=max_new_tokens or min(256, max(24, longest // 2)),
        )
        return [grade(a.text, probe.answers) for a, probe in zip(answers, probes, strict=True)]

    def kept(self, domain: str | None, split: str) -> float | None:
        """The share of the sentinels of `split` that are answered rightly now, read from `domain`."""
        sentinels = [Probe(question, answers) for question, answers, s in self.lm.sentinels if s == split]
        return self.grade(sentinels, domain=domain, max_new_tokens=SENTINEL_TOKENS)

    def measure(
        self,
        moment: str,
        lesson: Lesson,
        study: Sequence[batch.Sequence],
        probes: Sequence[Probe],
        kept: float | None = None,
    ) -> dict[str, float | None]:
        """loss_MOMENT, kept_MOMENT and probes_MOMENT of a lesson, read from its domain; `kept` where it is known."""
        return {
            f"loss_{moment}": self.loss(lesson, study),
            f"kept_{moment}": self.kept(lesson.domain, "guard") if kept is None else kept,
            f"probes_{moment}": self.grade(probes, domain=lesson.domain),
        }

    def loss(self, lesson: Lesson, study: Sequence[batch.Sequence]) -> float:
        """Nats per target token of what a lesson studies, each question read as it would be if it were asked.

        Of a long lesson some of it, drawn evenly: about MEASURED tokens.
        """
        step = max(1, sum(sequence.targets for sequence in study) // MEASURED)
        study = study[::step]
        items = [(item, Query(item.question, item.context, domain=lesson.domain)) for item in lesson.items[::step]]
        texts = [Query(self.lm.tokenizer.decode(row.ids), domain=lesson.domain, continues=True) for row in study]
        beside = self.conditionings([query for _, query in items] or texts)
        if items and any(one.passages for one in beside):  # it is read with the passages, and so is the answer
            study = [
                study_sequence(self.lm, item.question, item.answer, decode.context_of(query, one))
                for (item, query), one in zip(items, beside, strict=True)
            ]
        elif not any(one.process or one.reading for one in beside):
            with beside[0].within():
                return self.lm.mean_loss(study)
        every = [(row, each) for row, one in zip(study, beside, strict=True) for each in decode.apart(one)]
        found = iter(log_likelihoods(self.lm, [row for row, _ in every], [each for _, each in every]))
        likely = [
            max(next(found) for _ in decode.apart(one)) for one in beside
        ]  # one of several that are true is right
        return -sum(likely) / sum(sequence.targets for sequence in study)

    # --- domains ------------------------------------------------------------------------------------------------

    @property
    def domains(self) -> Mapping[str, int] | None:
        """The parameters of each domain's own adapter; None for a method that keeps all domains in the same weights."""
        domains = getattr(self.method, "domains", None)
        return domains() if domains else None

    def chosen_domains(self, names: Sequence[str], merge: bool) -> list[str]:
        """The domains meant by `names`; all of them without names. More than one wants `merge`: else UsageError.

        Nothing is chosen for a method that keeps all domains in the same weights.
        """
        for name in names:
            self._check_domain(name)
        known = self.domains
        if known is None:
            return []
        chosen = list(dict.fromkeys(names or known))
        if not chosen:
            raise UsageError("Nothing was taught here yet.")
        if len(chosen) > 1 and not merge:
            raise UsageError(
                f"There are {len(chosen)} domains ({', '.join(chosen)}): name one, or add them up with --merge."
            )
        return chosen

    def _check_domain(self, domain: str | None) -> None:
        if domain is None:
            return
        if (known := self.domains) is None:
            raise UsageError("This method keeps all domains in the same weights; ask without a domain.")
        if domain not in known:
            raise UsageError(f'There is no domain "{domain}" here.{did_you_mean(domain, known)}')

    def conditionings(self, queries: Sequence[Query]) -> list[decode.Conditioning]:
        for query in queries:
            check_text(query.question + query.context)
        condition = getattr(self.method, "condition", None)
        return condition(queries) if condition else [decode.NOTHING] * len(queries)
