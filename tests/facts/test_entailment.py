"""What a sentence of which no fact was read may deny, and the models that say so. Ends at one sentence for a wrong model."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm, tokenizer
from transformers import BertConfig, BertForSequenceClassification

from accrete.errors import ModelError, OfflineError
from accrete.facts.entailment import LATEST, Inference, remarks
from accrete.facts.extract import unread
from accrete.facts.graph import FactGraph
from accrete.facts.rules import by_rules
from accrete.learner import Learner
from accrete.types import Document, Fact, Passage

TEXT = "In 2020, the river of Tolvane is the Mern. Nobody has led Tolvane since the flood. Who leads Tolvane? It rains."


@pytest.fixture
def graph():
    with FactGraph() as made:
        made.add_document("abc", "town.txt", "2018")
        made.add(Fact("Tolvane", "mayor", "Ada Bree", "2018"), document="abc")
        made.add(Fact("Tolvane", "founder", "Cy", "2010", "2012"), document="abc")
        made.add(Fact("Tolvane", "bridge", "Elm Bridge", "2030"), document="abc")
        made.add(Fact("Pitholm", "mayor", "Di"), document="abc")
        yield made


def test_what_was_read_as_a_fact_and_what_is_asked_is_not_looked_at():
    found = list(by_rules(Passage(TEXT, "a", 0, len(TEXT))))
    assert unread(TEXT, found) == ["Nobody has led Tolvane since the flood.", "It rains."]


def test_a_sentence_meets_what_holds_of_the_subjects_that_it_names(graph):
    asked = []

    def contradicts(pairs):
        asked.extend(pairs)
        return ["Nobody" in sentence for _, sentence in pairs]

    sentences = ["Nobody has led Tolvane since the flood.", "Tolvane is wet.", "It rains."]
    found = remarks(graph, [*sentences, sentences[0]], contradicts, "2026-06-01")
    assert asked == [("The mayor of Tolvane is Ada Bree.", sentence) for sentence in sentences[:2]]
    assert [str(one) for one in found] == [
        'contradicts "Ada Bree" (mayor of Tolvane; town.txt), as it seems, without stating a fact, so that stands:'
        ' "Nobody has led Tolvane since the flood."'
    ]
    assert remarks(graph, ["It rains."], contradicts, "2026") == []


def test_what_holds_is_seen_at_the_date_of_a_sentence_or_of_its_document(graph):
    def premises(sentence: str, date: str) -> list[str]:
        asked = []
        remarks(graph, [sentence], lambda pairs: [bool(asked.append(premise)) for premise, _ in pairs], date)
        return asked

    ada, cy, elm = (f"The {one} of Tolvane is" for one in ("mayor", "founder", "bridge"))
    assert premises("Tolvane is wet.", "2011") == [f"{cy} Cy."]
    assert premises("In 2011 Tolvane was wet.", "2026") == [f"{cy} Cy."]
    assert premises("Tolvane is wet.", "2031") == [f"{ada} Ada Bree.", f"{elm} Elm Bridge."]
    for year in range(2000, 2000 + 2 * LATEST):
        graph.add(Fact("Tolvane", f"flood of {year}", "high", str(year)))
    assert len(premises("Tolvane is wet.", "2300")) == LATEST


LABELS = ("entailment", "neutral", "CONTRADICTION")


@pytest.fixture
def classifier(tmp_path):
    """A directory with a tiny model that says the same of every pair."""

    def make(says: str, labels=LABELS):
        config = BertConfig(vocab_size=len(tokenizer()), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                            num_attention_heads=2, id2label=dict(enumerate(labels)))  # fmt: skip
        model = BertForSequenceClassification(config)
        with torch.no_grad():
            model.classifier.bias[labels.index(says)] = 100.0
        model.save_pretrained(tmp_path / "model")
        tokenizer().save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return make


@pytest.mark.parametrize("says", LABELS)
def test_contradiction_is_told_by_its_label(classifier, says):
    pairs = [("The mayor is Ada.", "Nobody is mayor."), ("It rains.", "It snows. " * 500)] * 9
    assert Inference(classifier(says), offline=True)(pairs) == [says == "CONTRADICTION"] * 18
    assert Inference(classifier(says), offline=True)([]) == []


def test_a_model_without_that_label_is_one_sentence(classifier, tmp_path):
    with pytest.raises(ModelError, match="tells no contradictions: its labels are bad, good"):
        Inference(classifier("good", ("good", "bad")), offline=True)
    with pytest.raises(ModelError, match="no model directory"):
        Inference(str(tmp_path / "nowhere"), offline=True)


def test_a_lesson_announces_what_it_denies_and_keeps_what_stands(classifier, tmp_path):
    learner = Learner(
        tiny_lm(),
        method="retrieve",
        home=tmp_path / "home",
        offline=True,
        facts="rules",
        nli=classifier("CONTRADICTION"),
        max_forgetting=1.0,
        study="off",
    )
    learner.learn(Document("old.txt", "The mayor of Tolvane is Ada Bree."))
    told = learner.learn(Document("new.txt", TEXT.replace("river of Tolvane", "river of Pitholm"))).metrics[
        "contradictions"
    ]
    assert len(told) == 1 and "mayor of Tolvane; old.txt" in told[0] and "Nobody has led" in told[0]
    assert [one.value for one in learner.beliefs.graph.active("Tolvane", "mayor")] == ["Ada Bree"]


@pytest.mark.parametrize(("name", "error"), [("no/such", OfflineError), ("./nowhere", ModelError)])
def test_a_setting_that_names_no_model_is_told_before_anything_is_read(name, error, tmp_path):
    learner = Learner(tiny_lm(), method="retrieve", home=tmp_path / "home", offline=True, facts="rules", nli=name)
    with pytest.raises(error, match="setting nli names no model"):
        learner.learn(Document("new.txt", TEXT))
    assert not len(learner.beliefs)
