"""What must not be lost: drawn sets with one right answer each, held-out text, and that all of it is asked and measured."""

import ast
import json
import math
import re
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from accrete.data.real import held_out
from accrete.errors import DocumentError
from accrete.evaluate import run as running
from accrete.evaluate.drift import Drift
from accrete.evaluate.streams import Options, digest, make
from accrete.evaluate.streams.general import next_words, sums_and_products
from accrete.reader import Reader
from accrete.scoring import normalise

SENTENCE = "Rivers carry sand and gravel from the hills down to the sea. "


@pytest.fixture(autouse=True)
def no_data_around(monkeypatch):
    monkeypatch.delenv("ACCRETE_DATA", raising=False)


@pytest.fixture
def data(tmp_path):
    """Two files of texts, half of them held out; each text says which it is."""
    (tmp_path / "text").mkdir()
    for name in ("openstax", "wikipedia"):
        ids = [f"{name}-{number}" for number in range(400)]
        kept = [one for one in ids if held_out(one)]
        chosen = [*kept[:3], *[one for one in ids if one not in kept][:3]]
        assert len(chosen) == 6
        rows = [{"id": one, "text": f"{one} {'kept' if one in kept else 'taught'}. {SENTENCE * 8}"} for one in chosen]
        (tmp_path / "text" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def packed(folder):
    """The files as they are published."""
    import lzma

    for path in (folder / "text").glob("*.jsonl"):
        path.with_suffix(".jsonl.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    return folder


def test_the_lessons_are_those_of_world_and_without_data_there_is_no_text():
    stream = make("general", Options())
    assert stream.tasks == make("world", Options(lessons=4)).tasks and stream.score == "contains"
    assert stream.texts == () and stream.about["texts"].startswith("none: ")
    assert stream.about["sets"] == {"arithmetic": 50, "code": 50}
    small = make("general", Options(lessons=2, facts=5, limit=3))
    assert len(small.tasks) == 2 and sum(len(task.probes) for task in small.tasks) == 3
    assert {len(probes) for probes in small.keep.values()} == {3}


def test_the_seed_decides_what_is_drawn():
    def sets(seed):
        return make("general", Options(lessons=1, facts=1, seed=seed)).keep

    assert sets(1) == sets(1)
    for name, probes in sets(1).items():
        assert set(probes) != set(sets(2)[name]) and len({probe.question for probe in probes}) == len(probes)


def test_sums_and_products_are_right():
    for probe in islice(sums_and_products(Random(0)), 200):
        first, what, second = re.fullmatch(r"What is (\d+) (plus|times) (\d+)\?", probe.question).groups()
        value = int(first) + int(second) if what == "plus" else int(first) * int(second)
        assert probe.answers == (str(value),) and probe.kind == ("sum" if what == "plus" else "product")


def test_the_next_word_goes_on_in_python_and_can_be_scored():
    ends = {"in": " x: pass", "as": " x: pass", "import": " x", "return": " 1", "self": "): pass"}
    ends |= {"except": " KeyError: pass", "finally": ": pass", "else": " 0"}
    for probe in islice(next_words(Random(0)), 100):
        code = probe.question.partition("\n\n")[2]
        for word in probe.answers:
            assert normalise(word) == word.lower()
            ending = ends.get(word) or (")" if code.endswith("(") else ": pass" if word.endswith("s") else "")
            ast.parse(f"{code}{'' if code.endswith(('(', chr(10))) else ' '}{word}{ending}")


def test_texts_are_held_out_pieces_from_where_they_are(data, tmp_path, monkeypatch):
    packed(data)
    stream = make("general", Options(lessons=1, facts=1, data=data))
    assert len(stream.texts) == 6 and all(" kept. " in text for text in stream.texts)
    assert [text.split("-")[0] for text in stream.texts] == ["openstax", "wikipedia"] * 3
    monkeypatch.setenv("ACCRETE_DATA", str(data))
    assert make("general", Options(lessons=1, facts=1)).texts == stream.texts
    assert len(make("general", Options(lessons=1, facts=1, limit=1)).texts) == 2
    assert digest(stream) != digest(replace(stream, texts=stream.texts[1:]))
    with pytest.raises(DocumentError, match=r"no data at .*nowhere"):
        make("general", Options(data=tmp_path / "nowhere"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(DocumentError, match=r"holds neither texts .*openstax.* nor tasks of lm_eval"):
        make("general", Options(data=tmp_path / "bare"))
    (data / "text" / "wikipedia.jsonl.xz").write_bytes(b"no archive")
    with pytest.raises(DocumentError, match="are damaged"):
        make("general", Options(data=data))


def test_drift_and_perplexity_are_measured_on_the_texts(make_lm):
    lm = make_lm()
    stream = replace(make("general", Options(lessons=1, facts=1, limit=1)), texts=(SENTENCE * 3, SENTENCE))
    line = running.base(lm, stream)
    assert set(line["kept"]) == {"sentinels", "arithmetic", "code"}
    assert line["drift"]["kl_to_base"] == pytest.approx(0, abs=1e-6) and line["drift"]["top1_agreement"] == 1.0
    assert running.base(lm, replace(stream, texts=()))["drift"]["perplexity_of"] != line["drift"]["perplexity_of"]
    ids = lm.tokenizer(SENTENCE)["input_ids"]
    one = Drift(lm, (SENTENCE,))
    assert next(iter(one.base.values())).shape[0] in (len(ids), len(ids) - 1)
    other = make_lm(seed=1)
    moved = one.measure(Reader(other, None))
    assert moved["kl_to_base"] > 0.01 and math.isfinite(moved["perplexity"])
