"""The reader: every measure is taken in the domain it names, and whatever is asked, nothing changes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Example, Learner, Probe, Query, reader
from accrete.data.study import study_sequences
from accrete.errors import UsageError
from accrete.lm import decode
from accrete.types import Answer, Lesson

SHORT = {"max_steps": 4, "batch_size": 4}


def document(number: int) -> Document:
    items = tuple(Example(f"What is part {i} of thing {number}?", f"Value {number}{i}.") for i in range(4))
    return Document(f"d{number}", items=items)


def make(home, method="lora_replay_ewc", lm=None) -> Learner:
    return Learner(lm or tiny_lm(layers=1), method=method, home=home, config=SHORT, max_forgetting=1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Guard questions are answered in a few tokens."""
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)


@pytest.fixture
def learner(home) -> Learner:
    """Two domains, the second at work."""
    learner = make(home)
    learner.learn(document(1), domain="sea")
    learner.learn(document(2), domain="land")
    return learner


def test_losses_are_those_of_the_domain_named(learner):
    lesson = Lesson(document(1), items=document(1).items)
    study = study_sequences(learner.lm, lesson)
    adapter, losses = learner.method.adapter, {}
    for domain in ("sea", "land", "never taught"):
        with adapter.reading(domain):
            losses[domain] = learner.lm.mean_loss(study)
        assert learner.reader.loss(replace(lesson, domain=domain), study) == losses[domain]
    assert losses["sea"] < losses["land"] != losses["never taught"]
    assert adapter.active == "land"


def test_of_a_text_that_is_too_long_it_is_known_how_much_is_read(home):
    reading = make(home, lm=tiny_lm(layers=1, max_position_embeddings=96)).reader
    assert reading.tokens_read(Query("Who?"), 8) == (0, 0)
    short, long = ("The keeper of Norvik is old. " * times for times in (2, 60))
    read, whole = reading.tokens_read(Query("Who?", short), 8)
    assert read == whole > 0
    read, whole = reading.tokens_read(Query("Who?", long), 8)
    assert 0 < read < 96 < whole


def test_of_a_long_lesson_some_is_measured_drawn_evenly(learner, monkeypatch):
    """A lesson that says one thing over and over has the loss of one that says it once."""
    once, often = (Document("d", "The keeper of Norvik is old. " * times) for times in (3, 60))
    rows = {one: study_sequences(learner.lm, Lesson(one), window=16) for one in (once, often)}
    measured = []
    monkeypatch.setattr(learner.lm, "mean_loss", lambda study: measured.append(len(study)) or 0.0)
    monkeypatch.setattr(reader, "MEASURED", sum(row.targets for row in rows[once]))
    for one in (once, often):
        learner.reader.loss(Lesson(one, domain="sea"), rows[one])
    assert measured[0] == len(rows[once]) and measured[0] <= measured[1] <= 2 * measured[0] < len(rows[often])


@pytest.mark.parametrize("method", ["retrieve", "retrieve_logits", "full_finetune"])
def test_what_is_no_text_is_refused_before_anything_reads_it(home, method):
    lm = tiny_lm(layers=1)
    learner = Learner(
        lm, method=method, home=home, max_forgetting=1.0, config=SHORT if method == "full_finetune" else {}
    )
    learner.learn(document(1))
    for query in (Query("\udcffwho is it"), Query("Who?", "\udcff")):
        with pytest.raises(UsageError, match="no UTF-8"):
            learner.answer([query])
        with pytest.raises(UsageError, match="no UTF-8"):
            list(learner.reader.stream_answer(query, 4))


def test_grades_and_what_is_kept_are_read_from_the_domain_named(learner, monkeypatch):
    """Every answer names the adapter it was read with."""

    def answer(lm, queries, *, conditionings, **_):
        answers = []
        for conditioning in conditionings:
            with conditioning.within():
                answers.append(Answer(str(learner.method.adapter.active)))
        return answers

    monkeypatch.setattr(decode, "answer", answer)
    probes = [Probe("Which?", ("sea",)), Probe("Which one?", ("sea", "ocean"))]
    assert [learner.grade(probes, domain=domain) for domain in ("sea", "land", "never")] == [1.0, 0.0, 0.0]
    learner.lm.sentinels = (
        ("Which?", ("land",), "guard"),
        ("And which?", ("None",), "guard"),
        ("?", ("sea",), "scored"),
    )
    assert [learner.kept(domain) for domain in ("land", "sea", "never")] == [0.5, 0.0, 0.5]
    assert [learner.kept(domain, "scored") for domain in ("land", "sea")] == [0.0, 1.0]
    assert learner.kept("sea", "no such split") is None


def test_a_stream_says_what_the_answer_is(learner):
    for domain in ("sea", "land", None):
        pieces = list(learner.stream_answer("What is part 2 of thing 1?", domain=domain, max_new_tokens=12))
        answer = learner.ask("What is part 2 of thing 1?", domain=domain, max_new_tokens=12)
        assert "".join(pieces).strip() == answer.text
    assert len(pieces) > 1


def test_a_stream_that_is_dropped_halfway_leaves_the_model_as_it_was(learner):
    digest, adapter = learner.digest, learner.method.adapter
    stream = learner.stream_answer("What is part 2 of thing 1?", domain="sea", max_new_tokens=12)
    next(stream)
    assert adapter.active == "land", "between two pieces the model is as it was"
    other = learner.ask("What is part 2 of thing 2?", domain="land", max_new_tokens=12).text
    stream.close()
    assert adapter.active == "land" and learner.digest == digest
    assert learner.ask("What is part 2 of thing 2?", domain="land", max_new_tokens=12).text == other


def test_an_answer_between_two_pieces_does_not_disturb_the_stream(learner):
    whole = list(learner.stream_answer("What is part 2 of thing 1?", domain="sea", max_new_tokens=10))
    stream = learner.stream_answer("What is part 2 of thing 1?", domain="sea", max_new_tokens=10)
    pieces = [next(stream)]
    learner.ask("What is part 2 of thing 2?", domain="land", max_new_tokens=4)
    assert pieces + list(stream) == whole


def test_without_a_chat_template_a_stream_ends_where_the_answer_ends(home, monkeypatch):
    lm = tiny_lm(layers=1)
    lm.tokenizer = copy.deepcopy(lm.tokenizer)
    lm.tokenizer.chat_template = None
    learner = make(home, lm=lm)
    ids = lm.tokenizer(" Paris.\nQuestion: What next?", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(decode, "stream", lambda *_, **__: iter([[(0, token)] for token in ids]))
    answer = learner.ask("What is the capital of France?").text
    assert answer == "Paris."
    assert "".join(learner.stream_answer("What is the capital of France?")).strip() == answer


def test_characters_are_streamed_whole(monkeypatch):
    lm = tiny_lm(layers=1)
    text = "Ł東京🙂 é"
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert any("\ufffd" in lm.tokenizer.decode([token]) for token in ids), "some token is half a character"
    monkeypatch.setattr(decode, "stream", lambda *_, **__: iter([[(0, token)] for token in ids]))
    pieces = list(decode.text_stream(lm, [1], 50))
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)


def test_rows_of_one_batch_share_their_context():
    """`answer` never mixes two adapters in one batch, and gives the answers back in order."""
    lm = tiny_lm(layers=1)
    entered = []

    class Within:
        def __init__(self, name):
            self.name = name

        def __call__(self):
            entered.append(self.name)
            return torch.no_grad()

    one, two = decode.Conditioning(within=Within("one")), decode.Conditioning(within=Within("two"))
    queries = [Query("Who " * (i + 1)) for i in range(7)]
    conditionings = [one, two, two, one, one, two, one]
    plain = [decode.answer(lm, [query], max_new_tokens=4)[0].text for query in queries]
    prompts = [[0] * (i + 1) for i in range(7)]
    batches = list(decode.alike(prompts, conditionings, 3))
    assert sorted(i for rows in batches for i in rows) == list(range(7)) and max(map(len, batches)) == 3
    assert all(len({id(conditionings[i]) for i in rows}) == 1 for rows in batches)
    answers = decode.answer(lm, queries, conditionings=conditionings, max_new_tokens=4)
    assert [answer.text for answer in answers] == plain and set(entered) == {"one", "two"}


def test_an_unknown_domain_suggests(learner):
    for ask in (learner.ask, lambda question, **o: list(learner.stream_answer(question, **o))):
        with pytest.raises(UsageError, match=r'no domain "lnd" here\. Did you mean "land"\?'):
            ask("Where?", domain="lnd")


def test_a_method_without_domains_says_so(home):
    learner = make(home, "full_finetune")
    assert learner.reader.domains is None and learner.reader.chosen_domains([], False) == []
    with pytest.raises(UsageError, match="without a domain"):
        learner.ask("Where?", domain="sea")


def test_the_domains_that_are_meant(learner, tmp_path):
    choose = learner.reader.chosen_domains
    assert choose(["sea"], False) == ["sea"] and choose([], True) == ["sea", "land"]
    assert choose(["land", "sea", "land"], True) == ["land", "sea"]
    for names in ([], ["sea", "land"]):
        with pytest.raises(UsageError, match=r"2 domains \(.*--merge"):
            choose(names, False)
    with pytest.raises(UsageError, match='no domain "hill"'):
        choose(["hill"], True)
    with pytest.raises(UsageError, match="Nothing was taught"):
        make(tmp_path / "untaught").reader.chosen_domains([], True)
