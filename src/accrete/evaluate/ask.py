"""Probes put to a taught model. Ends at plain rows of scores.

Answers are greedy, in one batch per call; the same questions get the same answers in whatever order and company.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from accrete.dates import asked_as_of
from accrete.evaluate.streams import ABSTAINED
from accrete.lm.decode import abstains, context_of
from accrete.lm.forced import log_likelihoods
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.lm.tasks import NOT_STATED
from accrete.reader import Reader
from accrete.scoring import contains, exact_match, grade, token_f1
from accrete.types import Probe, Query

SHORTEST, LONGEST = 24, 256  # tokens of an answer
SCORES = {"exact_match": exact_match, "token_f1": token_f1, "contains": contains}


def score(answer: str, truths: Sequence[str]) -> dict[str, float]:
    """Every score of an answer, the best over the truths. To abstain is to say "not stated", or nothing."""
    given = ABSTAINED if abstains(answer) else answer
    found = {name: max(function(given, truth) for truth in truths) for name, function in SCORES.items()}
    return found | {"grade": grade(given, truths)}


def budget(lm: LM, probes: Sequence[Probe]) -> int:
    """How many tokens an answer may have where the truths are these."""
    longest = max((lm.count_tokens(truth) for probe in probes for truth in probe.answers), default=0)
    return min(LONGEST, max(SHORTEST, longest + 8))


def ask(
    reader: Reader,
    probes: Sequence[Probe],
    with_context: bool | Sequence[bool] = False,
    max_new_tokens: int | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """A row for every probe: kind, answer, tokens, every score, and the log-likelihood of the truth (nats a token).

    Beside them the seconds that answering took. `with_context`: which probes are asked after their passage. Answers have
    at most `max_new_tokens`, or the budget of these probes; where some of a stream are asked at a time, it is that of all.
    """
    if not probes:
        return [], 0.0
    shown = [with_context] * len(probes) if isinstance(with_context, bool) else with_context
    queries = [_query(probe, show) for probe, show in zip(probes, shown, strict=True)]
    limit = max_new_tokens or budget(reader.lm, probes)
    started = time.monotonic()
    answers = reader.answer(queries, max_new_tokens=limit)
    seconds = time.monotonic() - started
    likelihoods = _likelihoods(reader, queries, [probe.answers[0] or NOT_STATED for probe in probes])
    rows = [
        {
            "kind": probe.kind,
            "as_of": probe.as_of,
            "answer": answer.text,
            "tokens": answer.tokens,
            "log_likelihood": likelihood,
            **score(answer.text, probe.answers),
        }
        for probe, answer, likelihood in zip(probes, answers, likelihoods, strict=True)
    ]
    return rows, seconds


def sentinels(lm: LM) -> list[Probe]:
    """The scored sentinels, as probes: what the base knew and no method may look at."""
    return [Probe(question, answers) for question, answers, split in lm.sentinels if split == "scored"]


def _query(probe: Probe, with_context: bool) -> Query:
    """A date is told in the words of the question alone: methods that filter by one are told no more than the others."""
    return Query(asked_as_of(probe.question, probe.as_of), probe.context if with_context else "")


def _likelihoods(reader: Reader, queries: Sequence[Query], truths: Sequence[str]) -> list[float]:
    """The log-likelihood of each truth, nats a token."""
    conditionings = reader.conditionings(queries)
    sequences = [
        study_sequence(reader.lm, query.question, truth, context_of(query, conditioning))
        for query, truth, conditioning in zip(queries, truths, conditionings, strict=True)
    ]
    totals = log_likelihoods(reader.lm, sequences, conditionings)
    return [total / max(1, sequence.targets) for total, sequence in zip(totals, sequences, strict=True)]
