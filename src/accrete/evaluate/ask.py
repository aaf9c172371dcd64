"""Probes put to a taught model, and how far it has drifted from its base. Ends at plain rows of scores.

Answers are greedy, in one batch per call; the same questions get the same answers in whatever order and company.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from accrete.evaluate.streams import ABSTAINED
from accrete.lm.batch import Sequence as Tokens
from accrete.lm.decode import NOTHING, Conditioning, abstains, context_of
from accrete.lm.forced import log_likelihoods, target_logits, targets_of
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.reader import Reader
from accrete.scoring import contains, exact_match, grade, token_f1
from accrete.types import Probe, Query

SHORTEST, LONGEST = 24, 256  # tokens of an answer
DRIFT_ENTRIES = 25_000_000  # logits of the base that are kept for comparison: 100 MB
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
    likelihoods = _likelihoods(reader, queries, [probe.answers[0] for probe in probes])
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


class Drift:
    """What the base model said where it is not to change: the scored sentinels with their answers, and held-out text.

    `measure` compares a taught model with it. Mean KL(base || now) in nats a token and the share whose first choice is the
    same are over `positions`, as many as there is room to keep the base's logits of. Perplexity is that of the texts; of
    the sentinels' answers where there is no text; `perplexity_of` says which, `perplexity_positions` over how many.
    """

    def __init__(self, base: LM, texts: Sequence[str] = ()):
        asked = [(probe.question, probe.answers[0]) for probe in sentinels(base)]
        self.asked = [*asked, *(("", text) for text in texts)]  # without a question it is a text that goes on
        self.of = "texts" if texts else "sentinels"
        sequences = self._sequences(base, [NOTHING] * len(self.asked))
        room, kept = DRIFT_ENTRIES // len(base.tokenizer), 0
        while kept < len(sequences) and sequences[kept].targets <= room:
            room, kept = room - sequences[kept].targets, kept + 1
        self.base = {row: logits_NV for row, logits_NV in target_logits(base, sequences[:kept])}

    def measure(self, reader: Reader) -> dict[str, Any]:
        """All of the above, None where there is nothing to measure on."""
        conditionings = reader.conditionings([Query(question) for question, _ in self.asked])
        sequences = self._sequences(reader.lm, conditionings)
        longest = max((sequence.targets for sequence in sequences), default=1)
        at_once = max(1, min(16, DRIFT_ENTRIES // (longest * len(reader.lm.tokenizer))))
        kl = same = loss = 0.0
        positions = read = 0
        for row, logits_NV in target_logits(reader.lm, sequences, conditionings, at_once):
            now = torch.log_softmax(logits_NV, -1)
            if row in self.base:
                before = torch.log_softmax(self.base[row], -1)
                kl += float((before.exp() * (before - now)).sum())
                same += float((now.argmax(-1) == before.argmax(-1)).sum())
                positions += len(now)
            if self.of == "sentinels" or not self.asked[row][0]:
                loss -= float(now.gather(1, targets_of(sequences[row], now.device)[:, None]).sum())
                read += len(now)
        return {
            "kl_to_base": kl / positions if positions else None,
            "top1_agreement": same / positions if positions else None,
            "positions": positions,
            "perplexity": math.exp(loss / read) if read else None,
            "perplexity_of": self.of if read else None,
            "perplexity_positions": read,
        }

    def _sequences(self, lm: LM, conditionings: Sequence[Conditioning]) -> list[Tokens]:
        return [
            study_sequence(lm, question, answer, context_of(Query(question), conditioning))
            if question
            else _text(lm, answer)
            for (question, answer), conditioning in zip(self.asked, conditionings, strict=True)
        ]


def _query(probe: Probe, with_context: bool) -> Query:
    return Query(probe.question, probe.context if with_context else "", as_of=probe.as_of)


def _likelihoods(reader: Reader, queries: Sequence[Query], truths: Sequence[str]) -> list[float]:
    """The log-likelihood of each truth, nats a token."""
    conditionings = reader.conditionings(queries)
    sequences = [
        study_sequence(reader.lm, query.question, truth, context_of(query, conditioning))
        for query, truth, conditioning in zip(queries, truths, conditionings, strict=True)
    ]
    totals = log_likelihoods(reader.lm, sequences, conditionings)
    return [total / max(1, sequence.targets) for total, sequence in zip(totals, sequences, strict=True)]


def _text(lm: LM, text: str) -> Tokens:
    ids: list[int] = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Tokens(tuple(ids[: lm.context_length]))
