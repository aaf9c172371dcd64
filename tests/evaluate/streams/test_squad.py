"""SQuAD: articles are learned or held out, never both; questions without an answer stay; a limit is spread."""

import json
import os

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import ABSTAINED, Options, make

ARTICLES, PARAGRAPHS, QUESTIONS = 6, 3, 4  # of each
UNANSWERABLE = 3  # every so many questions


def questions():
    """(title, paragraph, question, answers): every third has none."""
    for article in range(ARTICLES):
        for paragraph in range(PARAGRAPHS):
            for i in range(QUESTIONS):
                name = f"{article}-{paragraph}-{i}"
                answers = [] if i == UNANSWERABLE - 1 else [f"answer {name}", f"also {name}", f"answer {name}"]
                yield f"Article_{article}", f"Paragraph {article}-{paragraph}.", f"Question {name}?", answers


def published(path):
    data = {}
    for title, context, question, answers in questions():
        asked = data.setdefault(title, {}).setdefault(context, [])
        given = [{"text": text, "answer_start": 0} for text in answers]
        asked.append({"id": question, "question": question, "answers": given, "is_impossible": not answers})
    articles = [
        {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()]}
        for title, paragraphs in data.items()
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return path


def lines(path, answers=lambda texts: texts):
    fields = ("title", "context", "question", "answers")
    path.write_text("\n".join(json.dumps(dict(zip(fields, (*q[:3], answers(q[3])), strict=True))) for q in questions()))
    return path


@pytest.fixture
def file(tmp_path):
    return lines(tmp_path / "squad.jsonl")


def asked(stream):
    return [probe for task in stream.tasks for probe in task.probes]


def test_learned_and_held_out_articles_are_disjoint_and_complete(file):
    for lessons in (1, 2, 5):
        stream = make("squad", Options(data=file, lessons=lessons))
        learned = {task.name for task in stream.tasks}
        others = {f"Article {probe.context.split()[1].split('-')[0]}" for probe in stream.keep["holdout"]}
        assert len(learned) == lessons and not learned & others
        assert learned | others == {f"Article {i}" for i in range(ARTICLES)}
        text = " ".join(task.document.text for task in stream.tasks)
        assert all(probe.context in text for probe in asked(stream))
        assert not any(probe.context in text for probe in stream.keep["holdout"])


def test_a_document_is_the_articles_paragraphs_each_once(file):
    task = make("squad", Options(data=file)).tasks[0]
    number = task.name.split()[-1]
    assert task.document.text == "\n\n".join(f"Paragraph {number}-{i}." for i in range(PARAGRAPHS))
    assert task.document.items == () and len(task.probes) == PARAGRAPHS * QUESTIONS
    short = make("squad", Options(data=file, facts=1)).tasks[0]
    assert short.document.text == f"Paragraph {number}-0." and len(short.probes) == QUESTIONS


def test_unanswerable_questions_stay_and_abstaining_is_their_answer(file):
    stream = make("squad", Options(data=file, lessons=4))
    for probe in (*asked(stream), *stream.keep["holdout"]):
        without = probe.question.endswith("-2?")
        assert (probe.kind, probe.answers == (ABSTAINED,)) == (
            ("unanswerable", True) if without else ("answerable", False)
        )
    assert stream.about["unanswerable"] == 4 * PARAGRAPHS
    assert {probe.answers for probe in asked(stream) if probe.question == "Question 0-0-0?"} <= {
        ("answer 0-0-0", "also 0-0-0")
    }


def test_every_form_of_the_file_gives_the_same_stream(file, tmp_path):
    wanted = make("squad", Options(data=file))
    objects = lines(tmp_path / "objects.jsonl", lambda texts: [{"text": text} for text in texts])
    grouped = lines(tmp_path / "grouped.jsonl", lambda texts: {"text": texts, "answer_start": [0] * len(texts)})
    for path in (published(tmp_path / "squad.json"), objects, grouped):
        stream = make("squad", Options(data=path))
        assert [task.probes for task in stream.tasks] == [task.probes for task in wanted.tasks]
        assert [task.document.sha256 for task in stream.tasks] == [task.document.sha256 for task in wanted.tasks]
        assert stream.keep == wanted.keep and stream.score == "token_f1"


@pytest.mark.parametrize("name", ["dev-v1.1.json", "dev-v2.0.json", "train-v1.1.json", "train-v2.0.json"])
def test_a_published_file_is_found_in_its_folder(tmp_path, name):
    published(tmp_path / name)
    assert make("squad", Options(data=tmp_path)).about["file"] == name


def test_the_limit_is_spread_over_lessons_and_over_the_holdout(file):
    stream = make("squad", Options(data=file, lessons=3, limit=8))
    assert sorted(len(task.probes) for task in stream.tasks) == [2, 3, 3]
    assert len(stream.keep["holdout"]) == 8
    assert len({probe.context.split("-")[0] for probe in stream.keep["holdout"]}) == 3
    few = make("squad", Options(data=file, lessons=3, limit=2))
    assert [len(task.probes) for task in few.tasks] == [1, 1]


def test_the_seed_decides_and_nothing_else(file):
    assert make("squad", Options(data=file, limit=9)) == make("squad", Options(data=file, limit=9))
    learned = {tuple(make("squad", Options(data=file, seed=seed)).about["learned"]) for seed in range(5)}
    assert len(learned) > 1


def test_all_articles_may_be_learned_but_not_more(file):
    assert make("squad", Options(data=file, lessons=ARTICLES)).keep == {}
    with pytest.raises(UsageError, match="only 6 articles"):
        make("squad", Options(data=file, lessons=ARTICLES + 1))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, '"answers" is missing'),
        ({"answers": "x"}, '"answers" is not a list'),
        ({"answers": [3]}, "an answer is not a text"),
        ({"answers": [" "]}, "an answer is not a text, or is empty"),
        ({"answers": [], "is_impossible": False}, "no answers, and not marked as impossible"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(row, problem, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"title": "T", "context": "C", "question": "Q?", **row}))
    with pytest.raises(DocumentError, match=f"bad.jsonl, line 1: {problem}"):
        make("squad", Options(data=path))


def test_a_published_file_of_another_shape_says_where(tmp_path):
    path = tmp_path / "bad.json"
    for content, problem in (
        ({"version": "1.1"}, '"data" is missing'),
        ({"data": [{"title": "T", "paragraphs": [{"context": "C"}]}]}, r'data\[0\].paragraphs\[0\]: "qas" is missing'),
        ({"data": [{"title": "T", "paragraphs": [{"context": "C", "qas": [{}]}]}]}, r'qas\[0\]: "question" is missing'),
        ({"data": []}, "holds no questions"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DocumentError, match=f"bad.json.*{problem}"):
            make("squad", Options(data=path))


def test_an_answer_that_is_nothing_but_articles_and_signs_is_none(tmp_path):
    """As the script of SQuAD 2.0 has it; else to abstain would be right where there is an answer."""
    path = tmp_path / "odd.jsonl"
    rows = [{"answers": ["The", "Ann Bo"]}, {"answers": ["a", "%"]}, {"answers": ["%"], "is_impossible": False}]
    common = {"title": "T", "context": "C"}
    path.write_text("".join(json.dumps(common | {"question": f"Q{n}?"} | row) + "\n" for n, row in enumerate(rows)))
    probes = {probe.question: (probe.answers, probe.kind) for probe in asked(make("squad", Options(data=path)))}
    assert probes == {"Q0?": (("Ann Bo",), "answerable")} | dict.fromkeys(
        ("Q1?", "Q2?"), ((ABSTAINED,), "unanswerable")
    )


def test_the_rule_of_two_for_questions_without_an_answer(file):
    """Nothing, or "not stated", is right and everything else wrong, in every score; where there is an answer, wrong."""
    from accrete.evaluate.ask import score

    (unanswerable, *_) = [probe for probe in asked(make("squad", Options(data=file))) if probe.kind == "unanswerable"]
    (answerable, *_) = [probe for probe in asked(make("squad", Options(data=file))) if probe.kind == "answerable"]
    for given in ("", " ", "Not stated.", "not stated", "the"):
        assert set(score(given, unanswerable.answers).values()) == {1.0}, given
        assert set(score(given, answerable.answers).values()) == {0.0}, given
    for given in ("1874", "It is stated: 1874", answerable.answers[0]):
        assert set(score(given, unanswerable.answers).values()) == {0.0}, given


def test_packed_as_published_too(file, tmp_path):
    import gzip
    import lzma

    wanted = make("squad", Options(data=file))
    text = published(tmp_path / "squad.json").read_bytes()
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(text))
    (tmp_path / "two.json.xz").write_bytes(lzma.compress(text))
    (tmp_path / "three.jsonl.xz").write_bytes(lzma.compress(file.read_bytes()))
    for name in ("one.json.gz", "two.json.xz", "three.jsonl.xz"):
        assert make("squad", Options(data=tmp_path / name)).tasks[0].probes == wanted.tasks[0].probes


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real files are not at hand")
def test_forty_real_questions_keep_those_without_an_answer():
    second = os.path.join(os.environ["ACCRETE_DATA"], "eval", "squad_v2_dev_part.jsonl.xz")
    stream = make("squad", Options(data=second, limit=40))
    kinds = [probe.kind for probe in asked(stream)]
    assert len(kinds) == 40 and stream.about["unanswerable"] == kinds.count("unanswerable") > 10
    for probe in (*asked(stream), *stream.keep["holdout"]):
        assert (probe.answers == (ABSTAINED,)) == (probe.kind == "unanswerable") and probe.context


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real files are not at hand")
def test_the_real_files():
    stream = make("squad", Options())
    assert len(stream.tasks) == 4 and len(stream.keep["holdout"]) == 200
    assert all(probe.answers[0] in probe.context for probe in asked(stream))
    second = os.path.join(os.environ["ACCRETE_DATA"], "eval", "squad_v2_dev_part.jsonl.xz")
    kinds = [probe.kind for probe in asked(make("squad", Options(data=second, lessons=11)))]
    assert (kinds.count("unanswerable"), kinds.count("answerable")) == (2245, 1995)
