"""Passages found by their words and read before the question (JitRL's MVP, METHODS 8). No weight changes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from accrete.config import Config
from accrete.data.chunks import overlapping, sentences
from accrete.data.pieces import pieces
from accrete.dates import put_at, undated
from accrete.lm.decode import NOTHING, Conditioning
from accrete.lm.model import LM
from accrete.lm.tasks import ANSWER
from accrete.methods.base import Method, Progress, RandomState, silent
from accrete.retrieval.index import PassageIndex, Ranking
from accrete.retrieval.words import STOP_WORDS, words
from accrete.scoring import normalise
from accrete.types import Lesson, Passage, Query, Report

_WORD = re.compile(r"\w+")


class Options(Config):
    passages: int = Field(3, ge=1)  # read before a question, at most
    size: int = Field(200, ge=10)  # tokens of a passage; a longer paragraph is cut between its sentences,
    overlap: int = Field(50, ge=0)  # and each part of it has so much of the one before
    joined: int = Field(75, ge=0)  # tokens up to which short paragraphs share a passage
    ranking: Ranking = "bm25"
    relevance: float = Field(0.5, ge=0, le=1)  # share of the question that a passage must have to be read
    instructed: bool = False  # whether to say that the passage may be silent; then the model is asked again without it
    bias: float = Field(0.0, ge=0)  # added to the logits of the most telling words of what is read
    seed: int = 0


class Retrieve(Method):
    """An index of passages: the best few are read before the question. Learns in milliseconds, forgets nothing."""

    Config = Options
    parts = ("index", "random")
    reads = True  # the text itself, so that nobody need write study items about it
    cites = True  # an answer names what it came from; where it names nothing, it is the base model's

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.index = PassageIndex(config.ranking, self._rarity)
        self.random = RandomState(config.seed)
        self._process = self._lift if config.bias else None  # one object, so that rows run together

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        """Cut the document into passages and index them; study items that its text does not answer are passages too."""
        document = lesson.document
        if self.index.path is not None:
            self.index.path.parent.mkdir(parents=True, exist_ok=True)
        count = self._counted(document.text)
        cut = pieces(document, self.config.size, count, self.config.joined)
        passages = (*overlapping(document, cut, self.config.overlap, count), *_items(lesson))
        self.index.add(document.sha256, passages, document.name, lesson.dates)
        progress(1, 0.0)
        return Report(steps=1, details={"passages": len(passages)})

    def condition(self, queries: Sequence[Query]) -> list[Conditioning]:
        """The passages of each question; none where no passage is relevant, or the asker brings a text to read."""
        return [NOTHING if query.context else self._conditioning(query) for query in queries]

    def derive_in(self, folder: Path) -> None:
        """Where files may lie that can be made anew from the state: the index, so that no process need build it again."""
        self.index.path = folder / "passages.sqlite"

    def tidy(self) -> None:
        """Leave nothing in those files that the state does not hold."""
        self.index.settle()

    def about(self) -> dict[str, int]:
        """What is held."""
        return {"documents": self.index.documents, "passages": len(self.index)}

    def forget(self, sha256: str, progress: Progress = silent) -> None:
        """Take a document out of the index, exactly."""
        self.index.remove(sha256)

    def _conditioning(self, query: Query) -> Conditioning:
        question = undated(query.question, query.as_of)
        found = self.index.search(question, self.config.passages, query.as_of, put_at(question))
        passages = tuple(one.passage for one in found if one.share >= self.config.relevance)
        if not passages:
            return NOTHING
        instruction = ANSWER if self.config.instructed else ""
        beside = self._telling(passages) if self._process else None
        return Conditioning(passages, self._process, beside=beside, instruction=instruction, again=NOTHING)

    def _counted(self, text: str) -> Callable[[str], int]:
        """Counts tokens; those of the sentences of this text are counted all at once, which takes half the time."""
        said = list({text[start:end] for start, end in sentences(text)})
        ids = (
            self.lm.tokenizer(said, add_special_tokens=False, return_attention_mask=False)["input_ids"] if said else ()
        )
        known = {sentence: len(one) for sentence, one in zip(said, ids, strict=True)}
        return lambda piece: known[piece] if piece in known else self.lm.count_tokens(piece)

    def _rarity(self, word: str) -> float:
        """How rare a word is in the model's language, by the tokens that it takes."""
        return math.sqrt(self.lm.count_tokens(" " + word))

    # --- the bias -----------------------------------------------------------------------------------------------

    def _lift(self, hidden_BD: Tensor, logits_BV: Tensor, beside: list[Tensor]) -> Tensor:
        return logits_BV + self.config.bias * torch.stack(beside)

    def _telling(self, passages: Sequence[Passage]) -> Tensor:
        """[V] of each token how telling its word is among the passages, from 0 to 1: by idf, stop words not at all."""
        written = {word for passage in passages for word in _WORD.findall(passage.text)}
        plain = {word: [one for one in words(word) if one not in STOP_WORDS] for word in written}
        idf = self.index.idf({one for found in plain.values() for one in found})
        tells_V = torch.zeros(self.lm.model.get_output_embeddings().weight.shape[0])
        for word, found in plain.items():
            for ids in self.lm.tokenizer([f" {word}", word], add_special_tokens=False)["input_ids"] if found else ():
                tells_V[ids] = tells_V[ids].clamp(min=max(idf[one] for one in found))
        return (tells_V / max(1e-9, float(tells_V.max()))).to(self.lm.device)


def _items(lesson: Lesson) -> Iterator[Passage]:
    """Every study item that the text does not answer, as a passage. The answer is said twice: a small model finds it then."""
    text = normalise(lesson.document.text)
    for item in lesson.items:
        if normalise(item.answer) in text:
            continue
        said = f"Q: {item.question}\nA: {item.answer.rstrip('.')}. It is {item.answer.rstrip('.')}."
        yield Passage(f"{item.context}\n{said}".lstrip(), lesson.document.name, 0, 0)
