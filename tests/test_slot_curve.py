"""The curve over slots: its table and its figure from points that are there already. Ends before any lesson."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "slot_curve.py"


@pytest.fixture
def slot_curve():
    spec = importlib.util.spec_from_file_location("slot_curve", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def point(selection: str, rows: int, learned: float, config: dict | None = None) -> dict:
    return {
        "selection": selection,
        "rows": rows,
        "lessons": 3,
        "config": config or {},
        "learned": learned,
        "kept": learned,
        "sentinels": 0.995,
        "forgotten": rows / 1e5,
        "rows_written": 2 * rows,
    }


def run(module, monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["slot_curve.py", *arguments])
    module.main()
    return capsys.readouterr().out


@pytest.mark.parametrize("selections", ["kl,all", "all", "kl"])
def test_points_that_are_there_are_not_measured_again(slot_curve, monkeypatch, capsys, tmp_path, selections):
    kept = [point("kl", 100, 0.25), point("kl", 300, 0.75), point("all", 300, 0.5), point("kl", 100, 0.1, {"rate": 1})]
    (tmp_path / "points.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept), "utf-8")
    monkeypatch.setattr(slot_curve, "point", lambda *told: pytest.fail("measured again"))
    said = run(slot_curve, monkeypatch, capsys, str(tmp_path), "--rows", "100,300", "--selections", selections)
    rows = {"kl": ["| kl | 100 | 200 | 0.25 |", "| kl | 300 | 600 | 0.75 |"], "all": ["| all | - | 600 | 0.50 |"]}
    wanted = [row for name in selections.split(",") for row in rows[name]]
    assert [line[: len(row)] for line, row in zip(said.splitlines()[2:], wanted, strict=True)] == wanted
    page = (tmp_path / "slots.html").read_text("utf-8")
    assert page.count("<svg") == 4 and "nan" not in page


def test_a_point_of_other_options_is_measured_and_noted_at_once(slot_curve, monkeypatch, capsys, tmp_path):
    (tmp_path / "points.jsonl").write_text(json.dumps(point("kl", 100, 0.25)) + "\n", "utf-8")
    asked = []

    def measured(selection, rows, lessons, config):
        asked.append((selection, rows, lessons, config))
        return point(selection, rows, 0.6, config)

    monkeypatch.setattr(slot_curve, "point", measured)
    arguments = [str(tmp_path), "--rows", "100", "--selections", "kl", "--set", "rate=0.5"]
    assert "| kl | 100 | 200 | 0.60 |" in run(slot_curve, monkeypatch, capsys, *arguments)
    assert asked == [("kl", 100, 3, {"rate": 0.5})]
    assert len((tmp_path / "points.jsonl").read_text("utf-8").splitlines()) == 2
