"""Tasks of lm_eval from local files: with the harness where it is installed, and what is said where it is not."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, _lm_eval, make
from accrete.evaluate.streams._lm_eval import is_folder_of_them, read

INSTALLED = importlib.util.find_spec("lm_eval") is not None
with_the_harness = pytest.mark.skipif(not INSTALLED, reason="the extra eval is not installed")
OPEN = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: capitals.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Read this.\\n\\nQuestion: {{q}}\\nAnswer:"
doc_to_target: "{{a}}"
metric_list: [{metric: no_such_metric_anywhere}]
"""
CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {validation: data/colours.json}}
validation_split: validation
output_type: multiple_choice
description: "Choose. "
process_docs: !function helper.sorted_docs
doc_to_text: q
doc_to_choice: choices
doc_to_target: gold
"""
HELPER = "def sorted_docs(dataset):\n    return dataset.map(lambda row: {'q': row['q'] + '?'})\n"


@pytest.fixture
def folder(tmp_path):
    """A task beside its data and one in a folder of its own, whose data lies by the first."""
    for place in (tmp_path / "inner", tmp_path / "data"):
        place.mkdir()
    (tmp_path / "capitals.yaml").write_text(OPEN)
    (tmp_path / "inner" / "colours.yaml").write_text(CHOICE)
    (tmp_path / "inner" / "helper.py").write_text(HELPER)
    (tmp_path / "capitals.jsonl").write_text(
        "".join(json.dumps({"q": f"Capital of {c}?", "a": a}) + "\n" for c, a in (("Italy", "Rome"), ("Peru", "Lima")))
    )
    rows = [
        {"q": "Grass is", "choices": ["red", "green"], "gold": 1},
        {"q": "Snow is", "choices": ["white"], "gold": 0},
    ]
    (tmp_path / "data" / "colours.json").write_text(json.dumps(rows))
    return tmp_path


@with_the_harness
def test_tasks_become_sets_of_questions(folder, capfd):
    found = read(folder)
    first, second = found["capitals"]
    assert (first.context, first.question) == ("Read this.", "Question: Capital of Italy?\nAnswer:")
    assert first.answers == ("Rome",) and second.answers == ("Lima",) and first.kind == "generate_until"
    assert [probe.question for probe in found["colours"]] == ["Choose. Grass is?", "Choose. Snow is?"]
    assert [probe.answers for probe in found["colours"]] == [("green",), ("white",)]
    assert capfd.readouterr() == ("", "")


@with_the_harness
def test_they_are_kept_beside_what_is_drawn_and_limited(folder):
    stream = make("general", Options(data=folder, limit=1, lessons=1))
    assert {name: len(probes) for name, probes in stream.keep.items()} == dict.fromkeys(
        ("arithmetic", "code", "capitals", "colours"), 1
    )
    (folder / "capitals.yaml").write_text(OPEN.replace("task: capitals", "task: code"))
    with pytest.raises(DocumentError, match='named "code"'):
        make("general", Options(data=folder, lessons=1))


@with_the_harness
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (OPEN.replace("json\n", "gsm8k\n", 1), r"capitals.yaml: only local JSON is read"),
        (OPEN.replace("capitals.jsonl", "https://example.org/a.jsonl"), "no local file https"),
        (OPEN.replace("{{a}}", "{{q[:0]}}"), "capitals, question 1: the question or its answer is empty"),
        (OPEN.replace("test_split", "training_split"), "cannot make the task capitals: ValueError"),
        (OPEN.replace('"{{a}}"', "!function helper.missing"), "cannot make the task capitals: ImportError"),
        ("[a", r"capitals.yaml, line 1: not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_of_the_file_or_the_task(folder, text, complaint):
    (folder / "capitals.yaml").write_text(text)
    with pytest.raises(DocumentError, match=complaint):
        read(folder)


@with_the_harness
def test_yaml_of_something_else_is_no_task(tmp_path):
    (tmp_path / "settings.yaml").write_text("model: embedded\n")
    with pytest.raises(DocumentError, match="None of the YAML files"):
        read(tmp_path)


def test_without_the_harness_one_sentence_names_the_extra(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lm_eval" else find(name))
    assert is_folder_of_them(folder) and not is_folder_of_them(folder / "data")
    with pytest.raises(UsageError, match=r'accrete\[eval\]"'):
        make("general", Options(data=folder))


# --- without the harness: what is ours --------------------------------------------------------------------------------


def task(text, target, choices=None, description=None):
    return SimpleNamespace(
        config=SimpleNamespace(doc_to_choice=choices, description=description, output_type="multiple_choice"),
        doc_to_text=lambda document: text,
        doc_to_target=lambda document: target,
        doc_to_choice=lambda document: choices,
        resolve_field=lambda document, field: field,
    )


@pytest.mark.parametrize(
    ("given", "question", "answers"),
    [
        (task("2 + 2 =", 4), "2 + 2 =", ("4",)),
        (task("Grass is", 1, ["red", " green"]), "Grass is", ("green",)),
        (task("Grass is", [0, 1], ["red", "green"]), "Grass is", ("red", "green")),
        (task("Grass is", ["green", "green "]), "Grass is", ("green",)),
        (task("Grass is", "green", ["red", "green"], "Choose: "), "Choose: Grass is", ("green",)),
        (task(1, "was hungry", ["Ann ate as Bob", "Ann ate as Ann"]), "Ann ate as Ann", ("was hungry",)),
    ],
)
def test_question_and_answers_of_every_form(given, question, answers):
    probe = _lm_eval._probe(given, {}, "here")
    assert (probe.question, probe.answers) == (question, answers)


@pytest.mark.parametrize("empty", [task("", "x"), task("q", " "), task("q", []), task("q", None)])
def test_an_empty_question_or_answer_is_no_probe(empty):
    with pytest.raises(DocumentError, match=r"^here: .* empty"):
        _lm_eval._probe(empty, {}, "here")


def test_data_is_looked_for_beside_the_task_then_in_the_folder(folder):
    def splits(data_files):
        config = {"dataset_path": "json", "dataset_kwargs": {"data_files": data_files}}
        return _lm_eval._splits(config, folder / "inner" / "colours.yaml", folder)

    assert len(splits("capitals.jsonl")["train"]) == 2
    assert len(splits({"test": ["capitals.jsonl", "data/colours.json"]})["test"]) == 4
    (folder / "inner" / "capitals.jsonl").write_text('{"q": 1}\n')
    assert splits("capitals.jsonl") == {"train": [{"q": 1}]}
    with pytest.raises(DocumentError, match=r"colours.yaml: there is no local file gone.json"):
        splits({"test": "gone.json"})
    (folder / "inner" / "capitals.jsonl").write_text('{"q": 1}\n{')
    with pytest.raises(DocumentError, match=r"capitals.jsonl, line 2"):
        splits("capitals.jsonl")
