"""Retrieval as a method: what is read, what is left alone when nothing fits, where it came from, and what is forgotten."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import tiny_lm
from safetensors import safe_open

from accrete import Document, Example, Learner, Query
from accrete.lm.decode import NOTHING, answer, context_of
from accrete.lm.prompts import prompt_ids
from accrete.lm.tasks import ANSWER
from accrete.methods import base
from accrete.methods.retrieve import Options, Retrieve
from accrete.retrieval.table import Table
from accrete.types import Lesson

HANDBOOK = Document(
    "handbook.md",
    "Travel is approved by Ann Lee. She answers within three days.\n\nThe canteen of Gloxdale serves soup from eleven on.",
)
SHIPS = Document("ships.md", "The Pyny was built by Orsolo and Sons. It carries bells.")
TRAVEL, CANTEEN, PYNY = "Who approves travel?", "What does the canteen of Gloxdale serve?", "Who built the Pyny?"


def taught(*documents: Document, lm=None, **options) -> Retrieve:
    method = Retrieve(lm or tiny_lm(layers=1), Options(**options))
    for document in documents:
        method.learn(Lesson(document, items=document.items), lambda step, loss: None)
    return method


def read(method: Retrieve, question: str, **more) -> list[str]:
    """The texts that are read before a question."""
    (beside,) = method.condition([Query(question, **more)])
    return [passage.text for passage in beside.passages]


# --- what is read ---------------------------------------------------------------------------------------------------


def test_each_question_reads_its_own_passage_and_the_answer_says_where():
    method = taught(HANDBOOK, SHIPS, joined=0)
    queries = [Query(PYNY), Query(CANTEEN), Query("Why do geese fly?")]
    conditionings = method.condition(queries)
    answers = answer(method.lm, queries, conditionings=conditionings, max_new_tokens=4)
    assert [[(p.document, p.start, p.end) for p in one.sources] for one in answers] == [
        [("ships.md", 0, 56)],
        [("handbook.md", 63, 114)],
        [],
    ]
    assert conditionings[2] is NOTHING
    for one in (source for a in answers for source in a.sources):
        document = HANDBOOK if one.document == HANDBOOK.name else SHIPS
        assert one.text == document.text[one.start : one.end]


def test_what_is_not_relevant_enough_is_not_read():
    question = "Who built the ship Grootvlei of Kelp?"
    assert read(taught(SHIPS), question) == []
    assert read(taught(SHIPS, relevance=0.0), question) == [SHIPS.text]
    assert read(taught(SHIPS, relevance=1.0), PYNY) != [] and read(taught(SHIPS, relevance=1.0), PYNY + " When?") != []
    assert read(taught(SHIPS, relevance=1.0), "Who painted the Pyny?") == []


def test_it_is_the_base_model_before_a_lesson_and_where_the_asker_brings_a_text():
    assert taught().condition([Query(PYNY)]) == [NOTHING]
    assert taught(SHIPS).condition([Query(PYNY, context="A text."), Query(""), Query("?!")]) == [NOTHING] * 3


def test_at_most_so_many_passages_the_best_first():
    document = Document("d", "\n\n".join(f"Zorvania has place {n}." for n in range(9)) + "\n\nZorvania, Zorvania!")
    assert len(read(taught(document, joined=0), "Zorvania?")) == 3
    assert read(taught(document, joined=0, passages=1), "Zorvania?") == ["Zorvania, Zorvania!"]


def test_a_part_of_a_long_paragraph_says_what_it_is_about():
    text = "The Pyny is a ship. " + "It sails by night and rests by day in every port. " * 3 + "Its captain is Vox."
    passage = read(
        taught(Document("d", text), size=20, overlap=20),
        "Who is captain Vox?",
    )[0]
    assert passage.startswith("It sails") and passage.endswith("Its captain is Vox.")
    assert read(taught(Document("d", text), size=20, overlap=0), "Who is captain Vox?") == ["Its captain is Vox."]


def test_passages_are_counted_in_tokens_and_every_sentence_once(monkeypatch):
    lm, counted = tiny_lm(layers=1), []
    monkeypatch.setattr(lm, "count_tokens", lambda text: counted.append(text) or 1)
    rare = " ".join(f"Zq{number}xj is kept in Vault {number} of Oblast Wjk." for number in range(30))
    plain = " ".join(["It is kept here and there by the people of the town."] * 30)
    assert len(rare) < len(plain)
    sizes = [len(taught(Document("d", text), lm=lm, size=100).index) for text in (rare, plain)]
    assert sizes[0] > sizes[1] > 1 and counted == []
    long = Document("d", "word " * 150)  # one sentence, cut at words
    monkeypatch.undo()
    method = taught(long, lm=lm, size=50, relevance=0.0, passages=9)
    assert len(method.index) > 2 and all(lm.count_tokens(text) <= 50 for text in read(method, "word"))


def test_a_document_of_study_items_alone_is_read_too():
    items = (Example("Who built the Pyny?", "Orsolo and Sons."), Example("What is it?", "A ship", "Of the Gamba."))
    method = taught(Document("items", items=items))
    assert read(method, PYNY) == ["Q: Who built the Pyny?\nA: Orsolo and Sons. It is Orsolo and Sons."]
    assert read(method, "What is the Gamba?") == ["Of the Gamba.\nQ: What is it?\nA: A ship. It is A ship."]


def test_as_of():
    method = taught()
    for year in ("2019", "2023"):
        lesson = Lesson(Document(year, f"The mayor of Zorvania in {year} is N{year}."), dates=(f"{year}-01-01",))
        method.learn(lesson, lambda step, loss: None)
    asked = "Who is the mayor of Zorvania?"
    assert read(method, asked, as_of="2018") == []
    assert read(method, asked, as_of="2020-06-01") == ["The mayor of Zorvania in 2019 is N2019."]
    assert len(read(method, asked, as_of="2023-01-01")) == len(read(method, asked)) == 2


@pytest.mark.parametrize("names", [("Bob Kray", "Ann Lee"), ("Sue Park", "Tom Hale"), ("Una Fry", "Ivo Berg")])
def test_of_versions_the_last_is_read_first_or_that_of_the_date_in_the_question(names):
    """Their words are as good as each other; without dates, chance (a digest) would decide."""
    method, said = taught(), {}
    for year, name in zip(("2022", "2018"), names, strict=True):
        said[year] = f"The mayor of Zorvania is {name}. The town of Zorvania has a market."
        method.learn(Lesson(Document(year, said[year]), dates=(year,)), lambda step, loss: None)
    other = Document("fair", "The fair of Zorvania, said the mayor, was moved from the old square to the new one.")
    method.learn(Lesson(other, dates=("2023",)), lambda step, loss: None)
    new, old = said["2022"], said["2018"]
    assert read(method, "Who is the mayor of Zorvania?")[0] == new  # and no later text that says something else
    assert read(method, "Who was the mayor of Zorvania in 2018?")[0] == old
    assert read(method, "As of 2019, who is the mayor of Zorvania?")[0] == old
    assert read(method, "Who was the mayor of Zorvania in 2022?")[0] == new
    assert read(method, "Who is the mayor of Zorvania?", as_of="2020") == [old]


def test_the_instruction_comes_first_and_only_with_passages():
    method = taught(SHIPS, instructed=True)
    (beside,) = method.condition([Query(PYNY)])
    assert context_of(Query(PYNY), beside) == f"{ANSWER}\n\n{SHIPS.text}"
    assert context_of(Query("Why?"), *method.condition([Query("Why?")])) == ""


# --- however little fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [True, False])
@pytest.mark.parametrize("reserve", [4, 30])
def test_the_question_and_the_end_of_the_prompt_survive_any_context_length(template, reserve):
    """It is the passages that are cut, the last of them first."""
    lm = tiny_lm(layers=1)
    if not template:
        lm.tokenizer = copy.deepcopy(lm.tokenizer)
        lm.tokenizer.chat_template = None
    text = "\n\n".join(f"The Pyny number {n} was built by Orsolo, who builds a great many of them." for n in range(3))
    method = taught(Document("long", text), lm=lm, joined=0)
    query = Query(PYNY)
    (beside,) = method.condition([query])
    assert len(beside.passages) == 3
    bare = prompt_ids(lm, query.question)
    whole = prompt_ids(lm, query.question, context_of(query, beside))
    end = lm.tokenizer.decode(bare).split(query.question)[1]
    counts = set()
    for length in range(len(bare) + reserve, len(whole) + reserve + 2, 3):
        lm.model.config.max_position_embeddings = length
        assert lm.context_length == length
        ids = prompt_ids(lm, query.question, context_of(query, beside), reserve=reserve)
        written = lm.tokenizer.decode(ids)
        assert len(ids) <= length - reserve and written.endswith(query.question + end)
        (one,) = answer(lm, [query], conditionings=[beside], max_new_tokens=reserve)
        assert one.sources == beside.passages[: len(one.sources)]
        assert all(source.text[:12] in written for source in one.sources[:-1])
        counts.add(len(one.sources))
    assert counts == {0, 1, 2, 3} and len(ids) == len(whole)


# --- the bias -------------------------------------------------------------------------------------------------------


def test_the_bias_lifts_telling_words_of_what_is_read_and_no_others():
    method = taught(SHIPS, HANDBOOK, bias=2.0)
    (beside, other) = method.condition([Query(PYNY), Query("Why do geese fly?")])
    assert other.process is None
    logits = torch.zeros(1, len(method.lm.tokenizer))
    lifted = beside.process(torch.zeros(1, 64), logits, [beside.beside])[0]

    def lift(word: str) -> float:
        return min(float(lifted[i]) for i in method.lm.tokenizer(word, add_special_tokens=False)["input_ids"])

    assert lift(" Orsolo") == pytest.approx(2.0) and lift(" bells") > 1
    assert lift(" by") == lift(" and") == lift(".") == lift(" canteen") == 0.0
    assert float(lifted.max()) == pytest.approx(2.0) and float(lifted.min()) == 0.0


def test_without_bias_nothing_touches_the_logits():
    assert taught(SHIPS).condition([Query(PYNY)])[0].process is None


def test_with_a_bias_rows_run_together_and_alone_alike():
    method = taught(SHIPS, HANDBOOK, bias=3.0)
    queries = [Query(question) for question in (TRAVEL, PYNY, CANTEEN, "Why?")]
    together = answer(method.lm, queries, conditionings=method.condition(queries), max_new_tokens=6)
    alone = [answer(method.lm, [q], conditionings=method.condition([q]), max_new_tokens=6)[0] for q in queries]
    assert [one.text for one in together] == [one.text for one in alone]


# --- forgetting and history -----------------------------------------------------------------------------------------


def test_a_forgotten_document_is_not_read_and_the_rest_is_as_if_it_had_never_been():
    method = taught(HANDBOOK, SHIPS)
    method.forget(HANDBOOK.sha256)
    assert read(method, TRAVEL) == read(method, CANTEEN) == [] and read(method, PYNY) == [SHIPS.text]
    assert base.digest(method) == base.digest(taught(SHIPS))
    method.forget("never there")
    assert "forget" in base.capabilities("retrieve")


def test_the_digest_does_not_depend_on_the_order_of_the_lessons():
    assert base.digest(taught(HANDBOOK, SHIPS)) == base.digest(taught(SHIPS, HANDBOOK)) != base.digest(taught(SHIPS))


def test_undo_and_relearn_and_a_commit_stores_only_its_own_document(home):
    lm = tiny_lm(layers=1)
    lm.sentinels = lm.sentinels[:1]
    learner = Learner(lm, method="retrieve", home=home, study="off", max_forgetting=1.0)
    birth = learner.digest
    first, second = learner.learn(HANDBOOK), learner.learn(SHIPS)
    with safe_open(home / "packs" / f"{second.id}.safetensors", "pt") as pack:
        stored = [pack.get_tensor(name) for name in pack.keys()]  # noqa: SIM118
    assert sorted(bytes(t.numpy()) for t in stored if t.dtype == torch.uint8) == [SHIPS.text.encode()]
    assert len(stored) == 2 and [p.document for p in learner.ask(PYNY).sources] == ["ships.md"]
    learner.undo()
    assert learner.digest == first.digest_after and learner.ask(PYNY).sources == ()
    assert learner.ask(TRAVEL).sources[0].document == "handbook.md"
    assert learner.learn(SHIPS).digest_after == second.digest_after
    with learner.as_base():
        assert learner.ask(TRAVEL).sources == ()
    assert learner.ask(TRAVEL).sources[0].document == "handbook.md"
    learner.undo()
    learner.undo()
    assert learner.digest == birth


def test_a_checkpoint_brings_the_documents(home, tmp_path):
    lm = tiny_lm(layers=1)
    learner = Learner(lm, method="retrieve", home=home, study="off", max_forgetting=1.0)
    learner.learn(HANDBOOK)
    learner.save_checkpoint(tmp_path / "saved")
    digest = learner.digest
    learner.learn(SHIPS)
    learner.load_checkpoint(tmp_path / "saved")
    assert learner.digest == digest
    assert learner.ask(PYNY).sources == () and learner.ask(TRAVEL).sources != ()


def test_the_index_lies_in_the_home_and_undo_empties_it(tmp_path, monkeypatch):
    home = tmp_path / "home"
    learner = Learner(tiny_lm(layers=1), method="retrieve", home=home)
    assert not home.exists()
    learner.learn(HANDBOOK), learner.learn(SHIPS)
    (file,) = home.glob("derived/*/passages.sqlite")
    built: list[str] = []
    monkeypatch.setattr(Table, "insert", lambda self, documents: built.extend(documents))
    other = Learner(tiny_lm(layers=1), method="retrieve", home=home)
    assert [source.document for source in other.ask(PYNY).sources] == ["ships.md"] and not built
    other.undo()
    assert not any(b"orsolo" in one.read_bytes() for one in file.parent.iterdir())
    assert other.ask(PYNY).sources == ()
