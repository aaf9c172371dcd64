"""scripts/base_table.py: what it writes it finds fresh, and a changed figure, table or model stale."""

import importlib.util
import json
from pathlib import Path

import pytest

from accrete.evaluate.base import BARS, MEASURES

ROOT = Path(__file__).parents[2]
TEXT = "# Title\n\n<!-- base-table -->\n<!-- /base-table -->\n\nThe end.\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, writing into a folder of its own."""
    spec = importlib.util.spec_from_file_location("base_table", ROOT / "scripts/base_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    documents = (tmp_path / "one.md", tmp_path / "two.md")
    for document in documents:
        document.write_text(TEXT)
    for name, value in (("ROOT", tmp_path), ("FIGURES", tmp_path / "figures.json"), ("DOCUMENTS", documents)):
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def figures():
    keys = [key for measure in MEASURES for key in measure.keys]
    values = {key: round(i / 100, 3) for i, key in enumerate(keys)}
    intervals = {key: [0.001, 0.999] for key in BARS}
    return values | {"n": dict.fromkeys(keys, 1_400), "interval": intervals, "base_digest": "d", "model": "/some/where"}


def test_what_is_written_is_fresh_and_keeps_the_text_around_it(script, figures):
    assert script.stale()
    script.write(figures)
    assert script.stale() == [] and script.stale("d") == []
    text = script.DOCUMENTS[0].read_text()
    assert text.startswith("# Title\n\n<!-- base-table -->\n| what ") and text.endswith(
        "<!-- /base-table -->\n\nThe end.\n"
    )
    assert "| 0.000 | 0.001 to 0.999 | 0.88 | 0.95 | 1,400 | in wordings of the training 0.010" in text
    script.write(figures)
    assert script.DOCUMENTS[0].read_text() == text and "/some/where" not in script.FIGURES.read_text()


def test_what_changed_is_stale(script, figures):
    script.write(figures)
    script.DOCUMENTS[1].write_text(script.DOCUMENTS[1].read_text().replace("0.001", "0.101"))
    assert script.stale() == ["two.md does not hold the table of the stored figures."]
    script.write(figures)
    assert len(script.stale("another digest")) == 1
    script.FIGURES.write_text(json.dumps(figures | {"squad_em": 0.9}))
    assert len(script.stale()) == 2


def test_a_document_without_marks_and_a_run_without_figures_are_named(script, figures, tmp_path, monkeypatch):
    script.DOCUMENTS[0].write_text("nothing")
    script.write(figures)
    assert script.stale() == ["one.md has no mark for the table."]
    del figures["squad_random_span_f1"]
    (tmp_path / "run.json").write_text(json.dumps(figures))
    monkeypatch.setattr("sys.argv", ["base_table.py", str(tmp_path / "run.json")])
    with pytest.raises(SystemExit, match="squad_random_span_f1"):
        script.main()
