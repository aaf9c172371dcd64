"""Results of several machines become one; what does not belong together is refused in one sentence."""

import json

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.errors import DocumentError, UsageError
from accrete.evaluate import streams
from accrete.evaluate.compare import Comparison, collect
from accrete.evaluate.merge import merge, read
from accrete.evaluate.run import Job

DIGEST = "a" * 64
TASKS = [
    {"name": f"words {i}", "items": 1, "probes": [{"question": "q", "answers": ["a"], "kind": "", "as_of": None}]}
    for i in range(2)
]


def asked(task, score):
    scores = dict.fromkeys(("exact_match", "token_f1", "contains", "grade"), score)
    return {"task": task, "probe": 0, "kind": "", "as_of": None, "answer": "x", "log_likelihood": -1.0, **scores}


def measure(folder, scores, content=DIGEST, base=DIGEST, seeds=(0,), configs=None, started=0.0, lessons=2, **job):
    """Results in `folder` as compare() leaves them: for each method what it scores after every lesson, or its error."""
    configs = configs or {}
    jobs = tuple(
        Job(stream="identity", content=content, options=streams.Options(lessons=lessons), method=name,
            config=configs.get(name, {}), **job)
        for name in scores
    )  # fmt: skip
    everything = [asked(0, 0.0), asked(1, 0.0)]
    first = {
        "step": 0,
        "model": {"name": "tiny", "base_digest": base, "device": "cpu"},
        "stream": {"name": "identity", "score": "contains", "about": {}, "tasks": TASKS},
        "asked": everything,
        "ceiling": [asked(0, 1.0), asked(1, 1.0)],
        "answer_seconds": 0.1,
        "kept": {},
        "drift": {},
    }
    for seed in seeds:
        place = folder / f"seed-{seed}"
        place.mkdir(parents=True)
        (place / "base.jsonl").write_text(json.dumps(first) + "\n")
        for name, score in scores.items():
            lesson = {"task": "words", "seconds": 1.0, "peak_mb": 10.0}
            steps = [
                {"step": step, "lesson": lesson, "asked": [asked(0, score), asked(1, score)], "answer_seconds": 0.1}
                for step in (1, 2)
            ]
            (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    failures = {(name, seeds[0]): score for name, score in scores.items() if isinstance(score, str)}
    for name, _ in failures:
        (folder / f"seed-{seeds[0]}" / f"{name}.jsonl").write_text("")
    collect(Comparison(jobs, seeds, command=f"accrete compare {folder.name}"), folder, failures, started)
    return folder


def merged(*folders):
    return merge({str(folder): read(folder) for folder in folders})


def test_of_a_method_that_failed_what_is_known_of_the_base_stands(tmp_path):
    ant, bee = read(measure(tmp_path / "one", {"ant": "no memory", "bee": 0.5}, seeds=(0, 1)))["rows"]
    assert ant["error"] == "no memory" and ant["learned"] is None is ant["sentinels"]
    for key in ("floor", "ceiling", "ceiling_left_out"):
        assert ant[key] == bee[key] is not None, key
    (alone,) = read(measure(tmp_path / "two", {"ant": "no memory"}))["rows"]
    assert (alone["floor"], alone["ceiling"], alone["kept"]) == (0.0, 1.0, None)


def test_the_rows_of_all_machines_are_one_table(tmp_path):
    one, two = measure(tmp_path / "one", {"ant": 1.0}), measure(tmp_path / "two", {"bee": 0.5})
    found = merged(one, two)
    assert [(row["method"], row["learned"], row["floor"]) for row in found["rows"]] == [
        ("ant", 1.0, 0.0),
        ("bee", 0.5, 0.0),
    ]
    assert [row["run"]["command"] for row in found["rows"]] == ["accrete compare one", "accrete compare two"]
    assert found["digest"] == merged(two, one)["digest"] != read(one)["digest"]


def test_what_was_merged_is_merged_again_and_keeps_where_it_came_from(tmp_path):
    one, two, three = (measure(tmp_path / name, {name: 1.0}) for name in ("ant", "bee", "cat"))
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "results.json").write_text(json.dumps(merged(one, two)))
    found = merged(tmp_path / "pair", three)
    assert [row["run"]["command"].split()[-1] for row in found["rows"]] == ["ant", "bee", "cat"]
    assert found["digest"] == merged(three, two, one)["digest"]


def test_of_a_method_measured_twice_the_newer_is_taken_and_figures_before_an_error(tmp_path):
    old = measure(tmp_path / "old", {"ant": 0.2, "bee": 0.3, "cat": "no memory"}, started=100.0)
    new = measure(tmp_path / "new", {"ant": 0.9, "bee": "no memory", "cat": "again"}, started=200.0)
    for folders in ((old, new), (new, old)):
        rows = {row["method"]: row for row in merged(*folders)["rows"]}
        assert len(rows) == 3
        assert rows["ant"]["learned"] == 0.9 and rows["bee"]["learned"] == 0.3 and rows["cat"]["error"] == "again"


def test_other_settings_of_a_method_are_another_row(tmp_path):
    one = measure(tmp_path / "one", {"ant": 0.2}, configs={"ant": {"rate": 1}})
    two = measure(tmp_path / "two", {"ant": 0.9}, configs={"ant": {"rate": 2}})
    assert [row["learned"] for row in merged(one, two)["rows"]] == [0.2, 0.9]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"content": "b" * 64}, "do not hold the same.*aaaaaaaaaa and bbbbbbbbbb"),
        ({"base": "b" * 64}, "base models differ"),
        ({"seeds": (0, 1)}, "seeds differ"),
        ({"lessons": 3}, "options.*lessons 2 and .*lessons 3"),
        ({"study": "off"}, "study items differ .gold and off"),
        ({"full_matrix": True}, "full matrix"),
        ({"dtype": "bfloat16"}, "types"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(tmp_path, other, reason):
    one, two = measure(tmp_path / "one", {"ant": 1.0}), measure(tmp_path / "two", {"bee": 1.0}, **other)
    with pytest.raises(UsageError, match=f"one and .*two cannot be merged: .*{reason}") as told:
        merged(one, two)
    assert "\n" not in str(told.value)


def test_folders_without_results_are_named(tmp_path):
    with pytest.raises(DocumentError, match=r"no .*nowhere/results\.json"):
        read(tmp_path / "nowhere")
    bare = measure(tmp_path / "bare", {"ant": 1.0}, content="")
    with pytest.raises(DocumentError, match=r"bare/results\.json does not say what was taught"):
        read(bare)
    for text in ("{", "[]", "{}", '{"rows": [1], "stream": {}}', '{"rows": [], "base_digest": "d"}'):
        (bare / "results.json").write_text(text)
        with pytest.raises(DocumentError, match="holds no results of a comparison"):
            read(bare)
    with pytest.raises(UsageError, match="Name the folders"):
        merge({})


def test_data_in_another_folder_are_the_same_stream(tmp_path):
    digests = []
    for name in ("here", "there"):
        place = tmp_path / name
        place.mkdir()
        (place / "full.json").write_text(json.dumps([{"question": f"q{i}?", "answer": f"a{i}"} for i in range(20)]))
        for kept in ("real_authors", "world_facts"):
            (place / f"{kept}.json").write_text(json.dumps([{"question": "q?", "answer": "a"}]))
        digests.append(streams.digest(streams.make("tofu", streams.Options(data=place, lessons=1))))
    assert digests[0] == digests[1]


# --- the verb ---------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_verb_writes_results_and_report_again(tmp_path):
    one, two = measure(tmp_path / "one", {"ant": 1.0}), measure(tmp_path / "two", {"bee": 0.5})
    result = run("--merge", one, two, "--out", tmp_path / "both", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [row["method"] for row in shown["rows"]] == ["ant", "bee"] and shown["out"] == str(tmp_path / "both")
    assert [row["learned"] for row in read(tmp_path / "both")["rows"]] == [1.0, 0.5]
    page = (tmp_path / "both" / "report.html").read_text()
    assert "ant" in page and "bee" in page


def test_the_verb_fails_with_a_row_that_failed_and_says_what_is_wrong(tmp_path):
    one, two = measure(tmp_path / "one", {"ant": "no memory"}), measure(tmp_path / "two", {"bee": 0.5}, base="b" * 64)
    result = run("--merge", one, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "ant failed: no memory" in result.stdout
    for arguments in (("--merge", one, two), ("--merge",), (one, "--stream", "identity")):
        result = run(*arguments, "--out", tmp_path / "none")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert not (tmp_path / "none").exists()
