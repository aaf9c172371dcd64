"""The documents say what is true: commands exist, code runs, figures are those that are measured."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from accrete.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def script(name: str):
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Every accrete command of README's shell blocks and of its table of verbs."""
    lines = [line for block in code_blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"^\| `(accrete [^`]+)`", README, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("accrete ")]


def test_every_command_of_the_readme_exists():
    verbs = typer.main.get_command(app).commands
    assert len(commands()) > 10
    for _, verb, *arguments in commands():
        options = {option for parameter in verbs[verb].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options


def test_every_verb_is_in_the_readme():
    assert set(typer.main.get_command(app).commands) == {verb for _, verb, *_ in commands()}


def test_the_code_of_the_readme_uses_public_names():
    import accrete

    for block in code_blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "accrete" and {alias.name for alias in node.names} <= set(accrete.__all__)


def test_links_lead_somewhere():
    for document in ("README.md", "ARCHITECTURE.md", "LOG.md", "src/accrete/lm/embedded/README.md"):
        folder = (ROOT / document).parent
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text("utf-8")):
            assert target.startswith("http") or (folder / target).exists(), (document, target)


def test_files_named_in_the_architecture_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for name in set(re.findall(r"`([a-z_]+/[a-z_/]+\.py|[a-z_]+\.py)`", text)):
        places = (ROOT / "src/accrete" / name, ROOT / name)
        assert any(place.exists() for place in places), name


def test_the_demo_asks_what_its_document_says():
    from accrete.cli.demo import demo_file
    from accrete.data.documents import read_document, read_probes

    text = read_document(demo_file("document.md")).text
    items, probes = read_document(demo_file("study.jsonl")).items, read_probes(demo_file("probes.jsonl"))
    assert items and probes
    assert all(item.answer in text for item in items)
    assert all(probe.answers[0] in text and probe.context in text for probe in probes)
    assert {item.answer for item in items} == {probe.answers[0] for probe in probes}
    assert not {item.question for item in items} & {probe.question for probe in probes}


def test_the_example_is_short_and_uses_no_abstraction_of_ours():
    text = (ROOT / "examples/loop.py").read_text("utf-8")
    assert len(text.splitlines()) < 200
    assert not re.search(r"^(from|import) accrete", text, re.MULTILINE)


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in code_blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "Edda Kolm" in capsys.readouterr().out


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_is_measured():
    tables = script("readme_table")

    def figures(text: str) -> dict[str, list[float]]:
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
        return {" ".join(row[:2]): [float(cell) for cell in row[2:7]] for row in rows if row}

    written, measured = figures(tables.MARKED.search(README)[2]), figures(tables.table())
    assert written.keys() == measured.keys() and written
    for name, row in measured.items():
        assert written[name] == pytest.approx(row, abs=0.06), name


def test_the_model_card_says_what_was_measured_on_these_weights():
    from accrete.lm.load import load

    assert script("base_table").stale(load("embedded", offline=True).digest) == []
