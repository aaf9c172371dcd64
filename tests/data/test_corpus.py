"""The pretraining corpus: what measures the model is kept apart from what trains it."""

from __future__ import annotations

import itertools
import json
import lzma
import re
from pathlib import Path

import pytest

from accrete.data.corpus import WorldCorpus, mixed, real_text
from accrete.data.world import HELD_OUT, relations
from accrete.errors import DocumentError


def test_sentinels_are_disjoint_by_fact() -> None:
    corpus = WorldCorpus(0)
    guard, scored = corpus.sentinels()
    assert len(guard) == len(scored) == 200
    facts = {probe.fact for probe in guard + scored}
    assert len(facts) == 400
    assert len({(fact.subject, fact.relation) for fact in facts}) == 400
    assert all(probe.answers == (probe.fact.value,) for probe in guard + scored)


def test_background_is_no_sentinel() -> None:
    corpus = WorldCorpus(0)
    guard, scored = corpus.sentinels()
    background = corpus.background(600)
    assert len({item.question for item in background}) == 600
    asked = {fact: {corpus.world.question(fact, p) for p in range(4)} for fact in (p.fact for p in guard + scored)}
    assert not set().union(*asked.values()) & {item.question for item in background}


def test_a_seed_is_a_corpus() -> None:
    def first(seed: int) -> tuple:
        corpus = WorldCorpus(seed, entities=200)
        return corpus.sentinels(), corpus.background(40), list(itertools.islice(corpus, 50))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_asking_for_sentinels_does_not_move_the_stream() -> None:
    still, asked = WorldCorpus(3, entities=200), WorldCorpus(3, entities=200)
    asked.sentinels()
    asked.background(40)
    assert list(itertools.islice(still, 20)) == list(itertools.islice(asked, 20))


def as_pattern(template: str) -> str:
    """A question as it may stand in a text, dated or not: the first letter in either case."""
    first, rest = re.escape(template[0]), template[1:]
    body = ".{2,40}?".join(re.escape(piece) for piece in rest.split("{s}"))
    return f"[{first.lower()}{first.upper()}]{body}" if template[0].isalpha() else f"{first}{body}"


def test_held_out_questions_never_occur() -> None:
    documents = list(itertools.islice(WorldCorpus(0, entities=200), 300))
    asked = [line.split("<|im_end|>")[0] for text in documents for line in text.split("\n") if "?" in line]
    assert len(asked) > 700
    templates = [row["questions"] for row in relations().values()]
    held_out = re.compile("|".join(as_pattern(questions[HELD_OUT]) + "$" for questions in templates))
    taught = re.compile("|".join(as_pattern(question) + "$" for questions in templates for question in questions[:3]))
    assert not [question for question in asked if held_out.search(question)]
    assert all(taught.search(question) for question in asked)  # so the patterns do find questions


def test_answers_to_a_reading_stand_in_its_passage() -> None:
    corpus = WorldCorpus(4, entities=80)
    for _ in range(40):
        text = corpus.reading()
        passage = text.split("\n\n")[0].lower()
        answers = [turn.split("<|im_end|>")[0].strip() for turn in text.split("<|im_start|>assistant\n")[1:]]
        assert 2 <= len(answers) <= 4
        assert all(answer.lower() in passage for answer in answers)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_mixed_keeps_the_share_of_characters(share: float) -> None:
    first, second = ("a" * (50 + i % 30) for i in range(3000)), itertools.repeat("b" * 200)
    text = "".join(mixed(first, second, share))
    assert text.count("b") / len(text) == pytest.approx(share, abs=0.03)
    assert text.count("a") == sum(50 + i % 30 for i in range(3000))


def test_mixed_goes_on_when_one_runs_dry() -> None:
    assert sorted(mixed(iter(["a" * 9] * 50), iter(["b", "c"]), 0.5)) == ["a" * 9] * 50 + ["b", "c"]


def test_real_text_reads_jsonl_packed_and_plain(tmp_path: Path) -> None:
    words = {name: " ".join(f"{name}{i}" for i in range(400)) for name in "pqr"}
    (tmp_path / "p.txt").write_text(words["p"], "utf-8")
    (tmp_path / "q.jsonl").write_text(json.dumps({"text": words["q"]}) + "\n", "utf-8")
    with lzma.open(tmp_path / "r.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"text": words["r"]}) + "\n")
    paths = [tmp_path / "p.txt", tmp_path / "q.jsonl", tmp_path / "r.jsonl.xz"]
    pieces = list(real_text(paths, piece=500))
    assert all(200 < len(piece) <= 500 for piece in pieces)
    for name, text in words.items():
        mine = sorted((piece for piece in pieces if piece.startswith(name)), key=text.index)
        assert text.startswith(" ".join(mine))  # in order, cut between words, nothing lost but a short tail
        assert len(text) - len(" ".join(mine)) <= 201
    assert pieces != sorted(pieces)
    assert pieces == list(real_text(paths, piece=500))


def test_text_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.txt"):
        list(real_text([tmp_path / "nowhere.txt"]))
