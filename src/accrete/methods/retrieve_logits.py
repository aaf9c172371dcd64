"""Hidden states that shift the logits (METHODS 8 and 12; JitRL 2601.18510, kNN-LM 1911.00172). No weight changes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from accrete.config import Config
from accrete.data.study import text_sequences
from accrete.dates import put_at, undated
from accrete.lm import batch
from accrete.lm.decode import NOTHING, Conditioning
from accrete.lm.model import LM
from accrete.lm.prompts import question_text, study_sequence
from accrete.lm.states import target_states
from accrete.methods.base import Method, Progress, RandomState
from accrete.retrieval.datastore import Datastore, Neighbourhood, SideBySide
from accrete.retrieval.depth import best_layer, candidates
from accrete.retrieval.logits import neighbour_advantage
from accrete.retrieval.space import Space, States
from accrete.types import Document, Lesson, Query, Report

GENERAL = 600  # questions and answers by which the space is whitened


class Options(Config):
    depth: float | None = Field(
        None, gt=0, le=1
    )  # share of the blocks where states are taken; None: where it serves best
    items: int = Field(64, ge=1)  # study items and passages whose states are looked at for a question
    neighbours: int = Field(32, ge=1)  # states that are heard at a step
    cue_weight: float = Field(0.5, ge=0)  # of the words of the question beside the state
    recency: float = Field(0.4, ge=0)  # taken off the likeness of the words for every later date among those items
    temperature: float = Field(0.05, gt=0)  # of the likeness
    mix: float = Field(0.9, gt=0, lt=1)  # how far the neighbours are believed beside the model
    strength: float = Field(1.0, ge=0)  # of their advantage on the logits; 1 is the mixture itself
    gate: float = Field(0.5, ge=-1, le=1)  # likeness of the nearest neighbour below which the model speaks alone
    sure: float = Field(
        0.9, ge=0, le=1
    )  # a probability of its own next token above which a model hears only what is as
    sure_gate: float = Field(
        0.875, ge=-1, le=1
    )  # like as this, and liker than any guard sentinel that goes on otherwise
    shrinkage: float = Field(0.03, gt=0, le=1)  # of the covariance that whitens the states
    text: bool = True  # keys from the text as well as from the study items
    window: int = Field(64, ge=2)  # tokens of text read at once
    seed: int = 0


@dataclass
class Asked:
    """One question: what is near to it, the least likeness that is heard, and whether it was heard at an earlier step.

    What was heard once goes on: within an answer the model is sure of what its neighbours made it say.
    """

    near: Neighbourhood
    gate: float
    heard: bool = False

    def hears(self, likeness: float, wanted: float) -> bool:
        """Whether neighbours of such a likeness are heard at this step, where so much is wanted of the first."""
        now = likeness >= (self.gate if self.heard else wanted)
        self.heard = self.heard or now
        return now


class RetrieveLogits(Method):
    """A datastore of hidden states, whitened and gated: what came next there shifts the logits here."""

    Config = Options
    parts = ("store", "space", "random")

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.store = Datastore(lm.device)
        self.space = Space(config.shrinkage, config.cue_weight)
        self.random = RandomState(config.seed)
        self._process = self._shift  # one object, so that rows run together
        self._beside: SideBySide | None = None  # of the rows that were answered last

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        """One pass over the study items and the text: their states are the keys, their next tokens the values."""
        texts = [
            (
                question_text(functools.reduce(undated, lesson.dates, i.question), i.context),
                self._sequence(i.question, i.answer, i.context),
            )
            for i in lesson.items
        ]
        if self.config.text or not lesson.items:
            said = [lesson.document, *(Document(lesson.document.name, other) for other in lesson.restatements)]
            read = [sequence for text in said for sequence in text_sequences(self.lm, text, self.config.window)]
            texts += [(self.lm.tokenizer.decode(sequence.ids), sequence) for sequence in read]
        if not self.space.fitted:
            self._fit_space(texts)
        new = self.space.entries(self._states(texts, [self.space.layer])[self.space.layer])
        self.store.add(lesson.document.sha256, new, lesson.dates)
        progress(1, 0.0)
        return Report(1, len(new.values_N), details={"keys": len(new.values_N)})

    def condition(self, queries: Sequence[Query]) -> list[Conditioning]:
        """The neighbourhood of each question, found by its words; the states within it are looked at step by step.

        `as_of` leaves out what is of later documents. A date that the question itself is put at decides which statement is
        preferred, where the documents have dates.
        """
        made = [NOTHING] * len(queries)
        if not len(self.store):
            return made
        dates = [query.as_of or (put_at(query.question) if self.store.dated else None) for query in queries]
        asked = [
            question_text(undated(query.question, date), query.context)
            for query, date in zip(queries, dates, strict=True)
        ]
        cues = self.space.cues(self._cues(asked))
        for as_of in {query.as_of for query in queries}:
            rows = [row for row, query in enumerate(queries) if query.as_of == as_of]
            then = [dates[row] for row in rows]
            found = self.store.around(cues[rows], self.config.items, as_of, self.config.recency, then)
            for row, near in zip(rows, found, strict=False):
                made[row] = Conditioning(
                    process=self._process, layer=self.space.layer, beside=Asked(near, self.config.gate)
                )
        return made

    def derive_in(self, folder: Path) -> None:
        """Where a file may lie that finds what is near to a question among very many items."""
        self.store.derive_in(folder)

    def tidy(self) -> None:
        """Leave nothing in that file that the state does not hold."""
        self.store.tidy()

    def forget(self, document: str) -> None:
        """Take a document (by the sha256 of its content) out of the datastore, exactly."""
        self.store.remove(document)

    def _shift(self, hidden_BD: Tensor, logits_BV: Tensor, asked: list[Asked]) -> Tensor:
        c = self.config
        self._beside = SideBySide.of([one.near for one in asked], c.cue_weight, self._beside)
        states_BD = self.space.states(hidden_BD)
        likeness_BK, values_BK, reach_BK = self._beside.nearest(states_BD, c.neighbours)
        log_base_BV = torch.log_softmax(logits_BV.float(), -1)
        likest_B3 = torch.stack([likeness_BK[:, 0], reach_BK[:, 0], log_base_BV.amax(-1).exp()], dim=1).tolist()
        heard = [
            one.hears(likeness, max(c.gate, c.sure_gate, reach) if surety >= c.sure else c.gate)
            for one, (likeness, reach, surety) in zip(asked, likest_B3, strict=True)
        ]
        if not any(heard):
            return logits_BV
        advantage_BV = c.strength * neighbour_advantage(log_base_BV, likeness_BK, values_BK, c.temperature, c.mix)
        if not all(heard):
            deaf_B = ~torch.tensor(heard, device=logits_BV.device)
            advantage_BV = advantage_BV.masked_fill(deaf_B[:, None], 0.0)
        return logits_BV + advantage_BV

    def _fit_space(self, lesson: list[tuple[str, batch.Sequence]]) -> None:
        """Whiten by what the base model knows in general, in the layer where that is told apart best (depth.py).

        No lesson has a part in it, but for a model without general material: nothing is left of one that is forgotten.
        """
        general = [(asked, self._sequence(asked, said)) for asked, said in self.lm.background[:GENERAL]]
        known = [
            (asked, self._sequence(asked, said[0])) for asked, said, split in self.lm.sentinels if split == "guard"
        ]
        depth = self.config.depth
        layers = [max(1, round(depth * self.lm.layers))] if depth else candidates(self.lm.layers)
        states = self._states(general or lesson, layers)
        answers = [said for _, said in self.lm.background[:GENERAL]]
        layer = layers[0] if depth else best_layer(states, answers, self.config.shrinkage)
        self.space.fit(layer, states[layer], self._states(known, [layer])[layer])

    def _sequence(self, question: str, answer: str, context: str = "") -> batch.Sequence:
        return study_sequence(self.lm, question, answer, context)

    def _states(self, texts: list[tuple[str, batch.Sequence]], layers: Sequence[int]) -> dict[int, States]:
        """By layer, the cue of every text, and the states before the targets of its sequence."""
        sequences = [sequence for _, sequence in texts]
        cues = self._cues([text for text, _ in texts]).cpu()
        lengths = torch.tensor([sequence.targets for sequence in sequences], dtype=torch.long)
        tokens = torch.tensor([i for s in sequences for i in s.ids[max(1, s.target_from) :]], dtype=torch.long)
        found = target_states(self.lm, sequences, layers)
        none = torch.zeros(0, found[0][0].shape[1] if found else cues.shape[1])
        return {
            layer: States(cues, lengths, torch.cat([none, *(one[at].float().cpu() for one in found)]), tokens)
            for at, layer in enumerate(layers)
        }

    def _cues(self, texts: Sequence[str]) -> Tensor:
        """[I, D] the mean embedding of each text's tokens: its words, whatever their order."""
        embedding = self.lm.model.get_input_embeddings().weight
        ids = [self.lm.tokenizer(text, add_special_tokens=False)["input_ids"] or [self.lm.pad] for text in texts]
        means = [embedding[torch.tensor(one, device=embedding.device)].mean(0) for one in ids]
        return torch.stack(means).detach() if means else embedding.new_zeros(0, embedding.shape[1])
