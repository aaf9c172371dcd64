"""Counts of what was asked: by fact, over lessons and learners, and never in the way of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from accrete.facts.graph import FactGraph
from accrete.store.usage import Usage
from accrete.types import Fact


@pytest.fixture
def graph():
    with FactGraph() as made:
        made.add(Fact("Tolvane", "mayor", "Ada", "2018"), lesson="first")
        made.add(Fact("Tolvane", "mayor", "Cy", "2020"), lesson="second")
        yield made


def counts(graph: FactGraph) -> list[int]:
    return [one.usage for one in graph.history("Tolvane", "mayor")]


def test_a_fact_keeps_its_count_whoever_states_it(graph, tmp_path):
    usage = Usage(tmp_path, "0" * 64)
    usage.count(graph.at("2019"))
    usage.count(graph.history("Tolvane"))
    assert counts(graph) == [0, 0]
    usage.recall(graph)
    assert counts(graph) == [2, 1]
    graph.remove_lesson("first")
    graph.add(Fact("the Tolvane", "Mayor", "ada", "2018"), lesson="third")
    Usage(tmp_path, "0" * 64).recall(graph)
    assert counts(graph) == [2, 1]
    Usage(tmp_path, "1" * 64).recall(graph)  # another model has counts of its own
    assert counts(graph) == [2, 1]


def test_what_cannot_be_written_or_read_is_not_counted(graph, tmp_path):
    Usage(tmp_path / "missing", "0").count(graph.history("Tolvane"))
    assert not Path(tmp_path / "missing").exists()
    usage = Usage(tmp_path, "0")
    usage.count([])
    assert not usage.path.exists()
    usage.path.parent.mkdir()
    usage.path.write_text("no database")
    usage.count(graph.history("Tolvane"))
    usage.recall(graph)
    assert counts(graph) == [0, 0] and usage.path.read_text() == "no database"
