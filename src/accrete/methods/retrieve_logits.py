"""Hidden states that shift the logits (METHODS 8 and 12; JitRL 2601.18510, kNN-LM 1911.00172). No weight changes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from accrete.config import Config
from accrete.data.chunks import sentences
from accrete.data.study import text_sequences
from accrete.dates import put_at, undated
from accrete.lm import batch
from accrete.lm.decode import NOTHING, Conditioning
from accrete.lm.model import LM
from accrete.lm.prompts import question_text, study_sequence
from accrete.lm.states import target_states
from accrete.methods.base import Method, Progress, RandomState, silent
from accrete.retrieval.datastore import Datastore, Neighbourhood, SideBySide
from accrete.retrieval.depth import best_layer, candidates
from accrete.retrieval.logits import neighbour_advantage
from accrete.retrieval.names import asked as named_in
from accrete.retrieval.names import capitalised, marks, spoken_of
from accrete.retrieval.space import Space, States
from accrete.retrieval.words import words
from accrete.types import Document, Example, Lesson, Passage, Query, Report

GENERAL = 600  # questions and answers by which the space is whitened


class Options(Config):
    # Share of the blocks where states are taken; None: where it serves best.
    depth: float | None = Field(None, gt=0, le=1)
    items: int = Field(64, ge=1)  # study items and passages whose states are looked at for a question,
    named: float = Field(0.65, ge=0, le=1)  # of those that speak of so much of the names in it
    neighbours: int = Field(32, ge=1)  # states that are heard at a step
    cue_weight: float = Field(0.5, ge=0)  # of the words of the question beside the state
    recency: float = Field(0.4, ge=0)  # taken off the likeness of the words for every later date among those items
    temperature: float = Field(0.05, gt=0)  # of the likeness
    mix: float = Field(0.9, gt=0, lt=1)  # how far the neighbours are believed beside the model
    strength: float = Field(1.0, ge=0)  # of their advantage on the logits; 1 is the mixture itself
    gate: float = Field(0.3, ge=-1, le=1)  # likeness of the nearest neighbour below which the model speaks alone
    # A probability of its own next token above which a model hears only what is as like as this, and liker than any guard
    # sentinel that goes on otherwise.
    sure: float = Field(0.9, ge=0, le=1)
    sure_gate: float = Field(0.8, ge=-1, le=1)
    nameless: float = Field(0.1, ge=0)  # added to both gates where a question names nobody
    shrinkage: float = Field(0.03, gt=0, le=1)  # of the covariance that whitens the states
    text: bool = True  # keys from the text as well as from the study items
    window: int = Field(64, ge=2)  # tokens of text read at once
    seed: int = 0


@dataclass(frozen=True)
class Text:
    """What is read: how it is found, what comes next at each of its targets, and of whom it speaks (names.py)."""

    asked: str
    sequence: batch.Sequence
    next: Sequence[int]
    marks: Tensor


@dataclass
class Asked:
    """One question: what is near to it, the least likeness that is heard, and whether it was heard at an earlier step.

    `sure_gate` is that where the model is sure of its own next token. What was heard once goes on: within an answer the
    model is sure of what its neighbours made it say.
    """

    near: Neighbourhood
    gate: float
    sure_gate: float
    heard: bool = False
    told: dict[str, None] = field(default_factory=dict)  # the documents that were heard, in their order

    def hears(self, likeness: float, reach: float, sure: bool) -> bool:
        """Whether neighbours of such a likeness are heard at this step; a sure model wants more than its own reach."""
        wanted = max(self.gate, self.sure_gate, reach) if sure and not self.heard else self.gate
        self.heard = self.heard or likeness >= wanted
        return likeness >= wanted

    def sources(self) -> tuple[Passage, ...]:
        """The documents that were heard."""
        return tuple(Passage("", name, 0, 0) for name in self.told)


class RetrieveLogits(Method):
    """A datastore of hidden states, whitened and gated: what came next there shifts the logits here."""

    Config = Options
    parts = ("store", "space", "random")
    cites = True  # an answer names what it came from; where it names nothing, it is the base model's

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.store = Datastore(lm.device)
        self.space = Space(config.shrinkage, config.cue_weight)
        self.random = RandomState(config.seed)
        self._process = self._shift  # one object, so that rows run together
        self._beside: SideBySide | None = None  # of the rows that were answered last

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        """One pass over the study items and the text: their states are the keys, their next tokens the values."""
        texts = [self._item(item, lesson.dates) for item in lesson.items]
        if self.config.text or not texts:
            for said in (lesson.document, *(Document(lesson.document.name, other) for other in lesson.restatements)):
                texts += self._read(said)
        if not self.space.fitted:
            self._fit_space(texts)
        states = self._states(texts, [self.space.layer])[self.space.layer]
        counts = torch.tensor([len(text.marks) for text in texts], dtype=torch.long)
        new = self.space.entries(states, torch.cat([marks(()), *(text.marks for text in texts)]), counts)
        self.store.add(lesson.document.sha256, new, lesson.dates, lesson.document.name)
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
        names = [named_in(question, self._weight) for question in asked]
        c = self.config
        for as_of in {query.as_of for query in queries}:
            rows = [row for row, query in enumerate(queries) if query.as_of == as_of and words(asked[row])]
            found = self.store.around(
                cues[rows],
                c.items,
                as_of,
                c.recency,
                [dates[row] for row in rows],
                [names[row] for row in rows],
                c.named,
            )
            for row, near in zip(rows, found, strict=False):
                if len(near.places_M):
                    more = 0.0 if len(names[row].marks_W) else c.nameless
                    gate = c.sure_gate if queries[row].continues else c.gate
                    beside = Asked(near, gate + more, c.sure_gate + more)
                    made[row] = Conditioning(
                        process=self._process, layer=self.space.layer, beside=beside, sources=beside.sources
                    )
        return made

    def _weight(self, word: str) -> float:
        """How much a word tells: rare ones have many tokens."""
        return math.sqrt(self.lm.count_tokens(" " + word))

    def derive_in(self, folder: Path) -> None:
        """Where a file may lie that finds what is near to a question among very many items."""
        self.store.derive_in(folder)

    def tidy(self) -> None:
        """Leave nothing in that file that the state does not hold."""
        self.store.tidy()

    def about(self) -> dict[str, int]:
        """What is held."""
        return {"documents": self.store.documents, "states": len(self.store)}

    def forget(self, sha256: str, progress: Progress = silent) -> None:
        """Take a document out of the datastore, exactly."""
        self.store.remove(sha256)

    def _shift(self, hidden_BD: Tensor, logits_BV: Tensor, asked: list[Asked]) -> Tensor:
        c = self.config
        self._beside = SideBySide.of([one.near for one in asked], c.cue_weight, self._beside)
        states_BD = self.space.states(hidden_BD)
        likeness_BK, values_BK, reach_BK, places_BK = self._beside.nearest(states_BD, c.neighbours)
        log_base_BV = torch.log_softmax(logits_BV.float(), -1)
        likest_B3 = torch.stack([likeness_BK[:, 0], reach_BK[:, 0], log_base_BV.amax(-1).exp()], dim=1).tolist()
        heard = [
            one.hears(likeness, reach, surety >= c.sure)
            for one, (likeness, reach, surety) in zip(asked, likest_B3, strict=True)
        ]
        if not any(heard):
            return logits_BV
        for row, one in enumerate(asked):
            if heard[row]:
                one.told[one.near.held.document(int(self._beside.where_U[places_BK[row, 0]]))] = None
        advantage_BV = c.strength * neighbour_advantage(log_base_BV, likeness_BK, values_BK, c.temperature, c.mix)
        if not all(heard):
            deaf_B = ~torch.tensor(heard, device=logits_BV.device)
            advantage_BV = advantage_BV.masked_fill(deaf_B[:, None], 0.0)
        return logits_BV + advantage_BV

    def _item(self, item: Example, dates: Sequence[str] = ()) -> Text:
        """A question and its answer. Dates decide what counts: their words are not to be looked for."""
        asked = question_text(functools.reduce(undated, dates, item.question), item.context)
        sequence = study_sequence(self.lm, item.question, item.answer, item.context)
        said = marks(spoken_of(f"{item.context} {item.question} {item.answer}"))
        return Text(asked, sequence, sequence.ids[sequence.target_from :], said)

    def _read(self, document: Document) -> list[Text]:
        """The windows of a text, each of which speaks of whom all of it names: most of them only say "it".

        After a sentence comes the end of an answer, so that one made of the text does not go on with it.
        """
        named, over, texts = marks(capitalised(document.text)), self._item(Example("?", "")).sequence.ids[-1], []
        for read in text_sequences(self.lm, document, self.config.window):
            said, ends = self._sentences(read.ids)
            first = max(1, read.target_from)
            following = [over if place in ends else read.ids[place] for place in range(first, len(read.ids))]
            texts.append(Text(said, read, following, named))
        return texts

    def _sentences(self, ids: Sequence[int]) -> tuple[str, set[int]]:
        """What is said, and the places of the tokens before which one of its sentences is over."""
        pieces = self.lm.tokenizer.batch_decode([[token] for token in ids])
        said = self.lm.tokenizer.decode(ids)
        starts = list(itertools.accumulate(map(len, pieces), initial=0))
        if starts[-1] != len(said):  # a character of several tokens
            starts = [len(self.lm.tokenizer.decode(ids[:place])) for place in range(len(ids) + 1)]
        over = {end for _, end in sentences(said)}
        return said, {place for place, start in enumerate(starts[:-1]) if start in over}

    def _fit_space(self, lesson: Sequence[Text]) -> None:
        """Whiten by what the base model knows in general, in the layer where that is told apart best (depth.py).

        No lesson has a part in it, but for a model without general material: nothing is left of one that is forgotten.
        """
        general = [self._item(Example(asked, said)) for asked, said in self.lm.background[:GENERAL]]
        known = [self._item(Example(asked, said[0])) for asked, said, split in self.lm.sentinels if split == "guard"]
        depth = self.config.depth
        layers = [max(1, round(depth * self.lm.layers))] if depth else candidates(self.lm.layers)
        states = self._states(general or lesson, layers)
        answers = [said for _, said in self.lm.background[:GENERAL]]
        layer = layers[0] if depth else best_layer(states, answers, self.config.shrinkage)
        self.space.fit(layer, states[layer], self._states(known, [layer])[layer])

    def _states(self, texts: Sequence[Text], layers: Sequence[int]) -> dict[int, States]:
        """By layer, the cue of every text, and the states before the targets of its sequence."""
        sequences = [text.sequence for text in texts]
        cues = self._cues([text.asked for text in texts]).cpu()
        lengths = torch.tensor([sequence.targets for sequence in sequences], dtype=torch.long)
        tokens = torch.tensor([token for text in texts for token in text.next], dtype=torch.long)
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
