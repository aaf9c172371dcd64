"""Contradictions in free text, by a model of natural language inference (1508.05326). Ends at what contradicts what.

A sentence of which no fact was read may deny one all the same: "Nobody has led Tolvane since the flood." Each that names
a subject is put to the model after every statement about it that holds. What it calls a contradiction is announced and
changes nothing: it says that something is wrong, and not what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from accrete.dates import only_date
from accrete.errors import ModelError
from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED
from accrete.facts.statements import Statement
from accrete.scoring import normalise

Contradicts = Callable[[Sequence[tuple[str, str]]], list[bool]]
"""Of pairs of a premise and a sentence, whether the sentence cannot be true where the premise is."""
LATEST = 64  # statements, at most, that a sentence is put to
BATCH = 16
LONGEST = 256  # tokens of a premise and a sentence


@dataclass(frozen=True)
class Remark:
    """A sentence that contradicts a statement from the document of this name, and states no fact that could be kept."""

    sentence: str
    old: Statement
    document: str = ""

    def __str__(self) -> str:
        """'contradicts "Ada" (mayor of Tolvane; town.txt), as it seems, without stating a fact, so that stands: "..."'"""
        where = "; ".join(filter(None, (f"{self.old.relation} of {self.old.subject}", self.document)))
        said = f'contradicts "{self.old.value}" ({where}), as it seems, without stating a fact, so that stands'
        return f'{said}: "{self.sentence}"'


def remarks(graph: FactGraph, sentences: Iterable[str], contradicts: Contradicts, date: str) -> list[Remark]:
    """Which of these sentences, of which no fact was read, contradict what holds of a subject that they name.

    That is at the date that a sentence names, or else at this one; of a subject of which much is known, the LATEST statements.
    """
    pairs = []
    for sentence in dict.fromkeys(sentences):
        at = only_date(sentence) or date
        about = [one.statement for one in graph.named_in(sentence)[0] if one.statement.holds(at) and not one.nested]
        about.sort(key=lambda one: (one.valid_from or "", one.id))
        pairs += [(sentence, one) for one in about[-LATEST:]]
    found = contradicts([(_said(old), sentence) for sentence, old in pairs])
    documents = {old.document: graph.document(old.document) for _, old in pairs}
    return [
        Remark(sentence, old, (documents[old.document] or ("", None))[0])
        for (sentence, old), against in zip(pairs, found, strict=True)
        if against
    ]


def _said(statement: Statement) -> str:
    """A statement as a sentence."""
    if normalise(statement.relation) == AS_ASKED:
        return f"{statement.subject} {statement.value}."
    return f"The {statement.relation} of {statement.subject} is {statement.value}."


class Inference:
    """A classifier of pairs of sentences, from a hub id[@revision] or a directory, on the CPU.

    ModelError where there is none, or none of its labels is contradiction; OfflineError as of any model.
    """

    def __init__(self, name: str, *, offline: bool = False):
        from transformers import AutoModelForSequenceClassification

        from accrete.lm.load import pretrained

        self.model, self.tokenizer = pretrained(AutoModelForSequenceClassification, name, offline=offline)
        labels = {label.lower(): number for number, label in self.model.config.id2label.items()}
        if "contradiction" not in labels:
            known = ", ".join(sorted(labels))
            raise ModelError(f"{name} tells no contradictions: its labels are {known}.")
        self.label = int(labels["contradiction"])
        self.model.eval()

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Where contradiction is the likeliest of its labels."""
        import torch

        found: list[bool] = []
        with torch.no_grad():
            for start in range(0, len(pairs), BATCH):
                premises, sentences = zip(*pairs[start : start + BATCH], strict=True)
                rows = self.tokenizer(list(premises), list(sentences), padding=True, truncation=True,
                                      max_length=LONGEST, return_tensors="pt")  # fmt: skip
                found += (self.model(**rows).logits.argmax(-1) == self.label).tolist()
        return found
