"""Self-made study material: from passages to items by a scripted writer, and a lesson that studies them."""

from __future__ import annotations

import json
import threading

import pytest

from accrete import Document, Example, Learner, Probe
from accrete.cli.lesson_lines import studied as told
from accrete.data.pieces import pieces, sentence_texts
from accrete.dreams import study as module
from accrete.dreams.study import Options, Studied, Study, study
from accrete.dreams.written import Written
from accrete.errors import DocumentError, OfflineError, UsageError
from accrete.lm.tasks import ANSWER, RESTATE, REVERSE, WRITE_QUESTIONS

TEXT = "Brota lies by a spring. Edda Kolm leads Brota.\n\nThe Vau sails from Quorv. The Vau was built in 1871."
FACTS = {
    "Where does Brota lie?": "by a spring",
    "Who leads Brota?": "Edda Kolm",
    "Where does the Vau sail from?": "Quorv",
    "When was the Vau built?": "1871",
}
GIVEN = (Example("What is given?", "This."),)
CONFIG = {"max_steps": 2, "batch_size": 4, "kl_batch": 2, "text_epochs": 1}


class Scholar:
    """Writes the questions above about the passages that answer them, and one that is wrong; answers when it rereads."""

    name = "scholar"

    def __init__(self, lm=None) -> None:
        self.seen: list[str] = []
        self.threads = threading.get_ident()

    def __call__(self, prompts, *, max_new_tokens, temperatures=(), seed=0):
        self.seen += prompts
        return [self._text(prompt) for prompt in prompts]

    def _text(self, prompt: str) -> str:
        task, _, text = prompt.partition("\n\n")
        about = [question for question, answer in FACTS.items() if answer in text]
        if task == WRITE_QUESTIONS:
            return "\n".join(f"Q: {q}\nA: {FACTS[q]}" for q in about) + "\nQ: Who sank the Vau?\nA: a whale"
        if task == REVERSE:
            return "Q: Which ship was built in 1871?\nA: the Vau" if "1871" in text else ""
        if task == RESTATE:
            return {"Edda Kolm leads Brota.": "Brota is led by Edda Kolm."}.get(text, "Something else in Paris.")
        if task == ANSWER:
            question = text.rpartition("\n\n")[2]
            return "the Vau" if question.startswith("Which ship") else FACTS.get(question, "not stated")
        raise AssertionError(prompt)


@pytest.fixture
def scholars(monkeypatch) -> list[Scholar]:
    """Every model is a scholar when it writes; the scholars that there were."""
    made: list[Scholar] = []
    monkeypatch.setattr(module, "ModelWriter", lambda lm: made.append(Scholar()) or made[-1])
    return made


@pytest.fixture
def make_learner(make_lm, home):
    def make(study="auto", method="full_finetune", home=home, **options):
        return Learner(
            make_lm(layers=1), method=method, home=home, config=CONFIG if method == "full_finetune" else {"max_steps": 2},
            max_forgetting=1.0, study=study, **options,
        )  # fmt: skip

    return make


def passages(size=30):
    return pieces(Document("d", TEXT), size, lambda text: len(text.split()))


def made(writer, found=None, reader=None, **options) -> Studied:
    return study(
        passages() if found is None else found, sentence_texts, writer, reader or writer, Options(**options),
        lambda text: len(text.split()), 7, lambda *_: None,
    )  # fmt: skip


# --- items from passages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [9, 30])
def test_what_is_right_by_the_passage_is_kept(size: int) -> None:
    found = made(Scholar(), passages(size))
    assert {item.question: item.answer for item in found.items} == FACTS | {"Which ship was built in 1871?": "the Vau"}
    assert all(item.context == "" for item in found.items)
    assert found.restatements == ("Brota is led by Edda Kolm.",)
    figures = found.figures()
    assert figures["kept"] == figures["items"] == 5 and figures["left_out"]["answered otherwise"] >= 1
    assert figures["written"] == 5 + sum(figures["left_out"].values())
    assert figures["share"] == round(5 / figures["written"], 4) and figures["seconds"] >= 0
    assert (figures["source"], figures["by"], figures["restatements"]) == ("self", "scholar", 1)
    json.dumps(figures)


def test_the_same_seed_the_same_items_and_another_another() -> None:
    seeds: list[int] = []

    class Noting(Scholar):
        def __call__(self, prompts, *, max_new_tokens, temperatures=(), seed=0):
            seeds.append(seed)
            return super().__call__(prompts, max_new_tokens=max_new_tokens)

    made(Noting(), passages(9), together=1)
    first = seeds.copy()
    seeds.clear()
    made(Noting(), passages(9), together=1)
    assert seeds == first and len(set(first)) > 1, "no two groups of passages are drawn alike"


def test_no_more_is_written_than_a_passage_holds() -> None:
    lengths: list[int] = []

    class Noting(Scholar):
        def __call__(self, prompts, *, max_new_tokens, temperatures=(), seed=0):
            lengths.append(max_new_tokens)
            return super().__call__(prompts, max_new_tokens=max_new_tokens)

    made(Noting(), passages(30), questions_tokens=2.0)
    assert lengths[0] == 16 + 2 * len(TEXT.split())


def test_without_passages_or_answers_nothing_is_kept() -> None:
    assert made(Scholar(), ()).figures()["written"] == 0
    silent = made(Scholar(), reader=lambda prompts, **_: ["" for _ in prompts])
    assert silent.items == () and silent.source == "text" and silent.written > 0 and silent.figures()["share"] == 0.0


def test_there_are_at_most_so_many_items_for_a_passage() -> None:
    assert len(made(Scholar(), per_passage=2).items) == 2
    assert made(Scholar(), restate=False).restatements == ()


def test_a_long_document_is_studied_some_passages_at_a_time() -> None:
    stages: list[tuple[str, int]] = []
    writer = Scholar()
    study(
        passages(9) * 10, sentence_texts, writer, writer, Options(together=3), len, 0,
        lambda stage, done, _: stages.append((stage, done)),
    )  # fmt: skip
    assert [done for stage, done in stages if "writing" in stage] == list(range(0, 30, 3))
    assert "passage 4 of 30" in stages[2][0]


# --- where items come from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "document", "source", "items"),
    [
        ("auto", Document("d", TEXT), "self", 5),
        ("auto", Document("d", TEXT, GIVEN), "given", 1),
        ("auto", Document("d", "", GIVEN), "given", 1),
        ("gold", Document("d", TEXT), "text", 0),
        ("gold", Document("d", TEXT, GIVEN), "given", 1),
        ("self", Document("d", TEXT, GIVEN), "self", 5),
        ("off", Document("d", TEXT, GIVEN), "text", 0),
    ],
)
def test_the_setting_decides(make_learner, scholars, monkeypatch, setting, document, source, items) -> None:
    learner, lessons = make_learner(setting), []
    learn = learner.method.learn
    monkeypatch.setattr(learner.method, "learn", lambda lesson, say: lessons.append(lesson) or learn(lesson, say))
    figures = learner.learn(document).metrics["study"]
    assert (figures["source"], figures["items"]) == (source, items)
    assert len(lessons[0].items) == items and bool(scholars) == (source == "self")
    assert (lessons[0].items == GIVEN) == (source == "given")
    assert bool(lessons[0].restatements) == (source == "self")


@pytest.mark.parametrize("method", ["full_finetune", "lora_replay_ewc"])
def test_every_method_gets_the_same_items_whatever_it_was_taught(make_learner, scholars, monkeypatch, method) -> None:
    learner, lessons, bases = make_learner("self", method), [], []
    learn, birth = learner.method.learn, learner.digest
    monkeypatch.setattr(learner.method, "learn", lambda lesson, say: lessons.append(lesson) or learn(lesson, say))
    monkeypatch.setattr(module, "can_write", lambda *_: bases.append(learner.digest) or True)
    first = learner.learn(Document("d", TEXT))
    second = learner.learn(Document("e", TEXT + " More is not known."))
    assert bases == [birth, birth] and second.digest_before == first.digest_after
    assert {item.question for item in lessons[0].items} == {item.question for item in lessons[1].items}
    learner.undo()
    assert learner.learn(Document("e", TEXT + " More is not known.")).digest_after == second.digest_after


def test_a_real_model_repeats_the_lesson_after_undo(make_learner, monkeypatch) -> None:
    """Greedy and drawn texts of a random model, taken for pairs: the same document gives the same items."""
    monkeypatch.setattr(module, "can_write", lambda *_: True)
    monkeypatch.setattr("accrete.dreams.write.read_pairs", lambda text: [Example(f"Who is {text.lower()}?", "Edda")])
    monkeypatch.setattr(module, "reread", lambda passage, pairs, reader, longest: pairs)
    monkeypatch.setattr("accrete.dreams.keep.marks", lambda text: frozenset())
    monkeypatch.setattr(module, "Options", lambda: Options(questions_tokens=0.1, samples=2))
    learner = make_learner("self")
    first = learner.learn(Document("d", TEXT))
    assert first.metrics["study"]["items"] > 2
    learner.undo()
    again = learner.learn(Document("d", TEXT))
    assert again.digest_after == first.digest_after and learner.digest == again.digest_after


def test_probes_never_reach_the_writer(make_learner, scholars) -> None:
    probe = Probe("Which Zyxwort is asked?", ("Qwyzzle",), context="Zyxwort context")
    learner = make_learner("self")
    learner.learn(Document("d", TEXT, GIVEN), probes=[probe])
    hidden = ("Zyxwort", "Qwyzzle", "What is given?", *(question for question, *_ in learner.lm.sentinels))
    assert scholars[0].seen and not any(word in prompt for prompt in scholars[0].seen for word in hidden)


@pytest.mark.parametrize("setting", ["auto", "self"])
def test_a_model_that_cannot_write_learns_the_text_and_says_so(make_learner, tmp_path, setting) -> None:
    commit = make_learner(setting).learn(Document("d", TEXT))
    figures = commit.metrics["study"]
    assert (figures["source"], figures["items"], figures["by"], figures["share"]) == ("text", 0, "tiny qwen2", None)
    assert commit.metrics["loss_after"] < commit.metrics["loss_before"]
    plain = make_learner("off", home=tmp_path / "off").learn(Document("d", TEXT))
    assert commit.digest_after == plain.digest_after and plain.metrics["study"]["by"] is None
    assert "the text itself was studied" in told(figures)
    assert told(plain.metrics["study"]) == "no questions were given: the text itself was learned"


def test_what_interrupts_the_writing_leaves_no_trace(make_learner, scholars, monkeypatch) -> None:
    learner = make_learner("self")
    first = learner.learn(Document("d", TEXT))

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_questions", stop)
    with pytest.raises(KeyboardInterrupt):
        learner.learn(Document("e", TEXT + " More."))
    assert learner.digest == first.digest_after and learner.log() == [first]


def test_self_without_a_text_is_refused(make_learner) -> None:
    with pytest.raises(DocumentError, match="no text to write questions about"):
        make_learner("self").learn(Document("d.jsonl", items=GIVEN))


def test_a_setting_that_is_none_suggests(make_learner) -> None:
    with pytest.raises(UsageError, match='Did you mean "gold"'):
        make_learner("golden")


# --- a teacher ----------------------------------------------------------------------------------------------------------


def test_a_teacher_writes_in_the_models_place(make_learner, monkeypatch) -> None:
    asked = []

    def teacher(address, *, offline):
        asked.append((address, offline))
        return Scholar()

    monkeypatch.setattr(module, "Teacher", teacher)
    figures = make_learner("auto", teacher="http://h/v1#m").learn(Document("d", TEXT)).metrics["study"]
    assert asked == [("http://h/v1#m", False)] and (figures["source"], figures["kept"]) == ("teacher", 5)


@pytest.mark.parametrize(("reads", "kept"), [(True, 0), (False, 5)])
def test_what_a_teacher_wrote_is_read_again_by_the_model_where_it_can_read(
    make_learner, monkeypatch, reads, kept
) -> None:
    """This model reads badly: it confirms nothing of what the teacher wrote. One that cannot read is not asked."""

    class BadReader:
        name = "bad reader"

        def __call__(self, prompts, **_):
            return ["Q: Who? A: Nobody." if reads else "la la" for _ in prompts]

    monkeypatch.setattr(module, "Teacher", lambda address, *, offline: Scholar())
    monkeypatch.setattr(module, "ModelWriter", lambda lm: BadReader())
    figures = make_learner("auto", teacher="http://h/v1#m").learn(Document("d", TEXT)).metrics["study"]
    assert figures["kept"] == kept


def test_offline_refuses_a_teacher_only_where_it_would_be_asked(make_learner) -> None:
    learner = make_learner("auto", teacher="http://h/v1", offline=True)
    learner.learn(Document("given", TEXT, GIVEN))
    before = learner.digest
    with pytest.raises(OfflineError, match="--offline"):
        learner.learn(Document("d", TEXT))
    assert learner.digest == before and len(learner.log()) == 1


def test_what_has_a_date_is_asked_as_of_it_too() -> None:
    made = Studied((Example("Who leads it?", "Ada"), Example("Who led it in 2015?", "Bo")), source="self", by="scholar")
    asked = [one.question for one in made.at("2018-05").items]
    assert asked == ["Who leads it?", "Who led it in 2015?", "As of May 2018, who leads it?"]
    assert made.at(None) == made
    given = Studied(GIVEN, source="given")
    assert given.at("2018-05") == given


def test_a_lesson_with_a_date_studies_its_questions_as_of_it(make_learner, scholars, monkeypatch) -> None:
    learner, lessons = make_learner("self"), []
    learn = learner.method.learn
    monkeypatch.setattr(learner.method, "learn", lambda lesson, say: lessons.append(lesson) or learn(lesson, say))
    figures = learner.learn(Document("d", TEXT), dates=["2018"]).metrics["study"]
    asked = [item.question for item in lessons[0].items]
    assert figures["kept"] == 5 and figures["items"] == len(asked) == 9  # "built in 1871" has a date of its own
    assert asked[5:] == [f"As of 2018, {one[0].lower()}{one[1:]}" for one in asked[:5] if "1871" not in one]


def test_figures_for_a_person() -> None:
    line = told(Studied(source="self", by="scholar", written=20, kept=15, seconds=1.26).figures())
    assert line == "studied 15 of 20 questions (75%) that scholar wrote and answered alike on reading again (1.3 s)"
    assert told(Studied(source="given").figures()) == told(None) == ""
    assert "20 questions, of which none could be kept" in told(Studied(by="scholar", written=20).figures())


def test_the_size_of_passages_follows_the_context(make_lm) -> None:
    assert Study(make_lm(layers=1)).passage_tokens == Options().passage_tokens
    assert Study(make_lm(layers=1, max_position_embeddings=64)).passage_tokens == 25


def test_what_was_written_is_kept_for_the_next_who_studies_the_document(tmp_path, make_lm, scholars):
    document = Document("ships", TEXT)
    passages = pieces(document, 128, lambda text: len(text.split()))

    def written(document: Document) -> Studied:
        one = Study(make_lm(), "self")
        one.written = Written(tmp_path / "written")
        return one.write(document, passages, sentence_texts, lambda *_: None)

    first = written(document)
    assert first.items and first.left_out and first.seconds > 0
    before = len(scholars)
    assert written(Document("the same by another name", TEXT)) == first, "with the seconds that it took"
    assert len(scholars) == before, "nothing was written anew"
    written(Document("others", TEXT + " The Vau was sold."))
    assert len(scholars) > before, "another document is another file"
    for file in (tmp_path / "written").glob("*.json"):
        file.write_text('{"items": 3}')
    before = len(scholars)
    assert written(document).items == first.items and len(scholars) > before, "a damaged file is written again"


def test_who_comes_while_another_writes_waits_for_it(tmp_path):
    kept, document, begun, go_on = Written(tmp_path), Document("ships", TEXT), threading.Event(), threading.Event()

    def slowly() -> Studied:
        begun.set()
        assert go_on.wait(timeout=10)
        return Studied(GIVEN, source="self")

    found: list[Studied] = []
    first = threading.Thread(target=lambda: found.append(kept.get(document, Options(), slowly)))
    second = threading.Thread(target=lambda: found.append(kept.get(document, Options(), lambda: Studied())))
    first.start()
    assert begun.wait(timeout=10)
    second.start()
    second.join(timeout=0.2)
    assert second.is_alive(), "it waits"
    go_on.set()
    first.join(timeout=10)
    second.join(timeout=10)
    assert found == [Studied(GIVEN, source="self")] * 2
